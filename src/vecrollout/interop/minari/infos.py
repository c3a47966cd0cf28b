"""Info dicts, one a step, as columns, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vecrollout._typing import Array, Info

_PLAIN = (bool, int, float, str, np.generic, np.ndarray)


def columns_of(infos: Sequence[Mapping[str, Any]], reset_info: Mapping[str, Any] | None) -> dict[str, Any]:
    """The entries that all infos have in one form, as arrays (nested dicts in nested dicts).

    Minari's first row is the info of the reset. An entry that the reset lacks is 0 or empty there.
    """
    columns: dict[str, Any] = {}
    if not len(infos):
        return columns
    for key in set(infos[0]).intersection(*infos):
        values = [info[key] for info in infos]
        first = (reset_info or {}).get(key)
        if not _is_name(key):
            continue
        if all(isinstance(value, Mapping) for value in values):
            below = columns_of(values, first if isinstance(first, Mapping) else None)
            if below:
                columns[key] = below
        elif (column := _column(values, first)) is not None:
            columns[key] = column
    return columns


def _is_name(key: Any) -> bool:
    """Whether a key can be a name in HDF5."""
    return isinstance(key, str) and key not in ("", ".", "..") and not set(key) & set("/\0")


def _column(values: list[Any], first: Any) -> Array | None:
    kinds = {_kind(value) for value in values}
    if len(kinds) > 1 or None in kinds:
        return None
    if isinstance(values[0], int) and not all(-(2**63) <= value < 2**63 for value in values):
        return None
    if _kind(first) not in kinds:
        first = np.zeros_like(values[0])
    if isinstance(values[0], str) or getattr(values[0], "dtype", np.dtype(int)).kind == "U":
        column = np.array([str(first) if isinstance(first, str) else "", *map(str, values)], object)
        return None if any("\0" in text for text in column.flat) else column
    return np.array([first, *values])


def _kind(value: Any) -> Any:
    """What values of one column have in common; None for a value that no column holds."""
    if not isinstance(value, _PLAIN) or getattr(value, "dtype", np.dtype(int)).kind not in "biufcU":
        return None
    return type(value), getattr(value, "dtype", None) if np.ndim(value) else None, np.shape(value)


def has_all(info: Mapping[str, Any], columns: Mapping[str, Any]) -> bool:
    """Whether the columns hold every entry of an info."""
    return len(info) == len(columns) and all(
        has_all(info[key], column) for key, column in columns.items() if isinstance(column, dict)
    )


def infos_of(columns: Mapping[str, Any], rows: int) -> list[Info]:
    """An info dict for each row."""
    infos: list[Info] = [{} for _ in range(rows)]
    for key, column in columns.items():
        values = infos_of(column, rows) if isinstance(column, Mapping) else column
        for info, value in zip(infos, values, strict=True):
            info[key] = value
    return infos
