"""Conditions on trajectories that are expressions of pyarrow, which is loaded with the first one."""

from __future__ import annotations

from typing import Any

from vecrollout.data.choosing import Numbers, episode_values
from vecrollout.errors import ArgumentTypeError, OptionError

COLUMN_TYPES = {
    "return_": "float64",
    "length": "int64",
    "terminated": "bool",
    "truncated": "bool",
    "ended_by": "string",
    "env": "int32",
    "seed": "int64",
    "recording": "string",
    "id": "int64",
    "start_step": "int64",
}
"""Columns of each episode table, and pyarrow's names of their types."""

IDENTITY_COLUMNS = {"ended_by": "ended_by", "env": "env_index"} | {
    name: name for name in ("seed", "recording", "id", "start_step")
}
"""Columns that are fields of `Episode`."""

_INT64 = 2**63


def check_condition(condition: Any) -> None:
    """Refuse a condition that is neither a function nor an expression."""
    if not callable(condition) and not _is_expression(condition):
        raise ArgumentTypeError(
            "condition: expected a function of a trajectory, or a pyarrow.compute expression, got "
            f"{type(condition).__name__}"
        )


def matching_rows(table: Any, condition: Any) -> Numbers:
    """Numbers of the rows of a table that fulfill an expression."""
    import pyarrow as pa

    numbered = table.append_column("", pa.array(range(len(table)), pa.int64()))
    try:
        numbers: Numbers = numbered.filter(condition).column("").to_numpy()
    except (pa.ArrowException, ValueError, TypeError) as error:
        raise OptionError(
            f"condition: expected an expression over the columns {table.column_names}, got {condition}: {error}"
        ) from error
    return numbers


def episode_table(batch: Any) -> Any:
    """The episode table of a batch, a `pyarrow.Table` with a row a trajectory."""
    import pyarrow as pa

    identities = vars(batch.identities) if len(batch) else {}
    columns = {}
    for name, type_ in COLUMN_TYPES.items():
        field = IDENTITY_COLUMNS.get(name)
        values = episode_values(batch, name) if field is None else identities.get(field, [])
        if name == "seed":  # as in traces
            values = [None if seed is None or not -_INT64 <= seed < _INT64 else seed for seed in values]
        try:
            columns[name] = pa.array(values, pa.type_for_alias(type_))
        except (pa.ArrowException, ValueError, TypeError, OverflowError) as error:
            raise OptionError(
                f"condition: expected trajectories whose {name!r} is of type {type_}, as the columns of expressions "
                f"are: {error}; filter with a function of a trajectory"
            ) from error
    return pa.table(columns)


def _is_expression(condition: Any) -> bool:
    try:
        from pyarrow.compute import Expression
    except ImportError:  # where none can be made
        return False
    return isinstance(condition, Expression)
