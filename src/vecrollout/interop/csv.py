"""Write trajectories to a CSV file, and read them.

The file has a row a step, and one more for each last observation, in which the columns of actions, rewards and flags
are empty. Its columns are `episode`, `step`, `obs`, `acts`, `rews`, `terminated` and `truncated`; an array of more than
one number has a column for each, such as `obs[0]`, `obs[0,1]`, or `obs/camera[2]` and `obs/_index_0[2]` in dicts and
tuples.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from typing import Any, Literal

import numpy as np

from vecrollout._typing import Array
from vecrollout.data.batch import TrajectoryBatch
from vecrollout.data.fields import as_rewards
from vecrollout.data.trajectory import Episode, Trajectory, ended_by
from vecrollout.errors import DamagedTraceError, DtypeError, MissingDependencyError, ShapeError, VecrolloutError
from vecrollout.interop.conversion.columns import OneDtype
from vecrollout.interop.conversion.leaves import named_leaves, tree_in, tree_of
from vecrollout.interop.conversion.output import local_path, new_file
from vecrollout.interop.conversion.report import ConversionReport, steps_with_infos
from vecrollout.interop.conversion.rows import row_columns
from vecrollout.interop.conversion.source import Source, checked_final
from vecrollout.progress import Progress

__all__ = ["from_csv", "to_csv"]

_MOST_COLUMNS = 4096
_COLUMN = re.compile(r"(?P<leaf>[^\[\]]+)(\[(?P<index>\d+(,\d+)*)\])?")
_WIDE = {"f": np.dtype(np.float64), "i": np.dtype(np.int64), "u": np.dtype(np.int64), "b": np.dtype(bool)}


def to_csv(
    trajectories: Iterable[Trajectory],
    path: str | os.PathLike[str],
    *,
    final: Literal["append", "drop"] = "append",
    progress: Progress | None = None,
) -> ConversionReport:
    """Write trajectories to a CSV file, for spreadsheets and `pandas.read_csv`.

    Numbers are written with all their digits. The file appears when it is complete. Memory holds one batch at a time.

    Args:
        trajectories: A data set, a batch or an iterable of trajectories. An iterator is used up.
        path: The new file.
        final: Whether to write a row for each last observation (`"append"`), or not (`"drop"`).
        progress: Whether to show a progress bar on a terminal, and whose: `"tqdm"` (as True) or `"rich"`. None:
            the bar of a package that is installed.

    Returns:
        What was written. CSV has three types of numbers: float64, int64 and bool. The file does not hold infos.

    Raises:
        OptionError: If the path exists, or `final` is unknown.
        ArgumentTypeError: If an argument is of the wrong type, or some trajectories have rewards and others not.
        DtypeError: If an array has other values than real numbers of up to 64 bits.
        StructureError: If the trajectories differ in structure, or a key has a slash or a bracket.
        ShapeError: If there is no trajectory, they differ in shapes, an array has no elements, or there would be more
            than 4096 columns.
        TraceWriteError: If the file could not be written.
        MissingDependencyError: If pyarrow is not installed.
    """
    checked_final(final)
    pa, csv, compute = _pyarrow()
    source = Source(trajectories, progress=progress)
    target = local_path(path)
    dtypes = OneDtype()
    changes: dict[str, str] = {}
    episodes = steps = infos = 0
    with new_file(target) as temporary:
        writer = None
        try:
            for batch in source.batches():
                table = _table(batch, episodes, final == "append", dtypes, changes, pa, compute)
                if writer is None:
                    options = csv.WriteOptions(quoting_style="none")  # of values; there is no text
                    writer_names = table.column_names
                    writer = csv.CSVWriter(str(temporary), table.schema, write_options=options)
                # The order of the keys in a dict may change.
                writer.write_table(table.select(writer_names))
                episodes, steps = episodes + len(batch), steps + batch.total_steps
                infos += steps_with_infos(batch)
        finally:
            if writer is not None:
                writer.close()
        if not episodes:
            raise ShapeError("trajectories: expected at least one, got none")
    dropped = 0 if final == "append" else episodes
    return ConversionReport(
        "CSV", target, episodes, steps, last_observations=dropped, infos=infos, dtypes=changes | dtypes.changes
    )


def from_csv(path: str | os.PathLike[str], *, drop_last: bool = False) -> TrajectoryBatch:
    """Read a file that `to_csv` wrote.

    Args:
        path: The file.
        drop_last: For a file without last observations: leave out each trajectory's last step, whose successor is not
            in the file. The trajectories then do not reach their episodes' ends.

    Returns:
        All trajectories, in memory, with numbers in float64, int64 and bool.

    Raises:
        DamagedTraceError: If there is no such file, or it does not hold trajectories.
        ShapeError: If the file has no last observations, and `drop_last` is False.
        ArgumentTypeError: If `path` is no path.
        MissingDependencyError: If pyarrow is not installed.
    """
    pa, csv, _ = _pyarrow()
    file = local_path(path)
    try:
        if not file.is_file():
            raise OSError("there is none")
        table = csv.read_csv(str(file), convert_options=csv.ConvertOptions(null_values=[""]))
        columns = {name: table[name].combine_chunks() for name in table.column_names}
        is_last = columns["terminated"].is_null().to_numpy(zero_copy_only=False)
        episode = columns["episode"].to_numpy()
        begins = np.flatnonzero(np.concatenate([[True], episode[1:] != episode[:-1]])) if len(episode) else episode[:0]
        ends = np.append(begins[1:], len(episode))
        if not drop_last and not is_last[ends - 1].all():
            raise ShapeError(
                f"{file}: expected a last observation of each episode, got none: the last action has no successor; "
                "pass drop_last=True to leave the last step of each episode out"
            )
        return _trajectories(columns, is_last, begins, ends)
    except ShapeError:
        raise
    except (pa.ArrowException, OSError, ValueError, LookupError, TypeError) as error:
        reason = error if isinstance(error, VecrolloutError) else repr(error)
        raise DamagedTraceError(f"{file}: expected a CSV file of trajectories: {reason}") from error


def _pyarrow() -> tuple[Any, Any, Any]:
    try:
        import pyarrow
        from pyarrow import compute, csv
    except ImportError as error:
        raise MissingDependencyError(f"CSV needs pyarrow ({error}): pip install 'vecrollout[interop]'") from error
    return pyarrow, csv, compute


def _table(
    batch: TrajectoryBatch,
    number: int,
    has_last: bool,
    dtypes: OneDtype,
    changes: dict[str, str],
    pa: Any,
    compute: Any,
) -> Any:
    """The rows of a batch whose first trajectory is of this number."""
    obs = _flat("obs", batch.obs, dtypes, changes)
    steps = _flat("acts", batch.acts, dtypes, changes)
    steps |= {} if batch.rews is None else _flat("rews", batch.rews, dtypes, changes)
    columns, is_last = row_columns(batch, number, obs, steps)
    if len(columns) > _MOST_COLUMNS:
        raise ShapeError(
            f"trajectories: expected at most {_MOST_COLUMNS} numbers a step, as each gets a column, got {len(columns)}"
            "; to_npz writes large arrays"
        )
    arrays = {name: _texts(pa.array(leaf, mask=mask), pa, compute) for name, (leaf, mask) in columns.items()}
    table = pa.table(arrays)
    return table if has_last else table.filter(pa.array(~is_last))


def _flat(name: str, tree: Any, dtypes: OneDtype, changes: dict[str, str]) -> dict[str, Array]:
    """A column for each number of a row."""
    columns = {}
    for leaf_name, leaf in named_leaves(tree, name).items():
        wide = _wide(leaf_name, dtypes.cast(leaf_name, leaf))
        if wide.dtype != leaf.dtype:
            changes[leaf_name] = f"{leaf.dtype} -> {wide.dtype}"
        if wide.ndim == 1:
            columns[leaf_name] = wide
        for index in np.ndindex(wide.shape[1:]) if wide.ndim > 1 else ():
            columns[f"{leaf_name}[{','.join(map(str, index))}]"] = wide[..., *index]
    return columns


def _wide(name: str, leaf: Array) -> Array:
    wide = _WIDE.get(leaf.dtype.kind)
    if wide is None or leaf.dtype.itemsize > 8 or (leaf.dtype.kind == "u" and (leaf > np.iinfo(np.int64).max).any()):
        raise DtypeError(f"{name}: expected real numbers of up to 64 bits, as CSV has no others here, got {leaf.dtype}")
    if 0 in leaf.shape[1:]:
        raise ShapeError(f"{name}: expected rows with elements, as CSV shows no others, got shape {leaf.shape[1:]}")
    if set(name) & set('[]"'):
        raise DtypeError(f"{name}: expected a name without brackets and quotes, as columns have them")
    return leaf.astype(wide)


def _texts(column: Any, pa: Any, compute: Any) -> Any:
    """Floats as text with a point, which tells them from integers."""
    if column.type != pa.float64():
        return column
    return compute.replace_substring_regex(column.cast(pa.string()), pattern=r"^(-?\d+)$", replacement=r"\1.0")


def _trajectories(columns: dict[str, Any], is_last: Array, begins: Array, ends: Array) -> TrajectoryBatch:
    """Trajectories from columns of Arrow; the last row of each gives its last observation only."""
    keeps = ends - begins > 1
    begins, ends = begins[keeps], ends[keeps]
    counts = ends - begins
    is_kept = np.zeros(len(is_last), bool)
    is_kept[np.arange(counts.sum()) + np.repeat(begins - (np.cumsum(counts) - counts), counts)] = True
    is_step = is_kept.copy()
    is_step[ends - 1] = False
    leaves = {"obs": _leaves(columns, "obs", is_kept)}
    leaves |= {name: _leaves(columns, name, is_step) for name in ("acts", "rews", "terminated", "truncated", "step")}
    obs, acts = (tree_in(leaves[name], name, "header") for name in ("obs", "acts"))
    rews = tree_of(leaves["rews"], "rews")
    last = np.cumsum(counts - 1) - 1
    # Without its last observation a trajectory has lost its last step too.
    reaches = is_last[ends - 1]
    terminated, truncated = (leaves[name][name][last] & reaches for name in ("terminated", "truncated"))
    starts = leaves["step"]["step"][last] - (counts - 2)
    numbers = columns["episode"].to_numpy()[begins]
    episodes = [
        Episode(id=number, start_step=start, ended_by=ended_by(*flags))
        for number, start, *flags in zip(
            *(each.tolist() for each in (numbers, starts, terminated, truncated)), strict=True
        )
    ]
    return TrajectoryBatch.from_arrays(
        obs,
        acts,
        as_rewards(rews) if leaves["rews"] else None,
        lengths=counts - 1,
        terminated=terminated,
        truncated=truncated,
        episodes=episodes,
    )


def _leaves(columns: dict[str, Any], root: str, is_wanted: Array) -> dict[str, Array]:
    """The arrays below a name, from a column for each of their numbers."""
    parts: dict[str, dict[tuple[int, ...], Array]] = {}
    for name, column in columns.items():
        match = _COLUMN.fullmatch(name)
        if match is None or match["leaf"].partition("/")[0] != root:
            continue
        index = tuple(map(int, match["index"].split(","))) if match["index"] else ()
        values = column.filter(is_wanted)
        if values.null_count:
            raise ValueError(f"column {name!r} has no number in some rows")
        parts.setdefault(match["leaf"], {})[index] = values.to_numpy(zero_copy_only=False)
    return {leaf: _joined(leaf, found) for leaf, found in parts.items()}


def _joined(name: str, parts: dict[tuple[int, ...], Array]) -> Array:
    shape = tuple(side + 1 for side in map(max, zip(*parts, strict=True)))
    if len(parts) != int(np.prod(shape)):
        raise ValueError(f"{name} has {len(parts)} columns, which make no array of shape {shape}")
    first = next(iter(parts.values()))
    joined = np.empty((len(first), *shape), np.result_type(*parts.values()))
    for index, values in parts.items():
        at: Any = (..., *index)
        joined[at] = values
    return joined
