"""Ray Data: data sets with one row a trajectory."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from vecrollout.buffer.options import check_options
from vecrollout.data.checks import whole_number
from vecrollout.data.episode import Episode, ended_by
from vecrollout.data.trajectory import Trajectory, TrajectoryWithRew
from vecrollout.distributed._ray import ray
from vecrollout.errors import OptionError, ShapeError
from vecrollout.interop.conversion.leaves import named_leaves, tree_of
from vecrollout.storage.dataset import TraceDataset, open_traces
from vecrollout.storage.files.folder import folder_of
from vecrollout.storage.writing.opening import removable_files, remove_files
from vecrollout.storage.writing.options import checked_options
from vecrollout.storage.writing.writer import TraceWriter

FIELDS = ("obs", "acts", "rews", "infos")
"""Columns with a value a step. Observations and actions of several arrays have a column for each array."""

_IDENTITY = ("recording", "id", "env", "start_step", "seed", "ended_by", "terminated", "truncated")
# Worked out from the steps, or what the writer says by itself.
_DERIVED = ("length", "return_", "writer")


def to_ray(traces: TraceDataset, *, fields: Sequence[str] = FIELDS, parallelism: int = -1) -> Any:
    """A `ray.data.Dataset` with one row a trajectory.

    Ray reads the trajectories when they are needed, in parallel, on machines that see the directory.

    Args:
        traces: What `open_traces` returned, or a view of it.
        fields: Which of `"obs"`, `"acts"`, `"rews"` and `"infos"` to read. The others are not decompressed.
        parallelism: Number of tasks that read; -1: as many as Ray thinks right.

    Returns:
        The data set. `obs` is an array of shape `(T + 1, *obs_shape)`, `acts` one of shape `(T, *act_shape)`, `rews`
        one of shape `(T,)`, and `infos` a list of T dicts. Observations that are a dict have the columns
        `obs/<key>`. The other columns are those of `traces.to_arrow()`.

    Raises:
        OptionError: If a field is unknown.
    """
    unknown = set(fields) - set(FIELDS)
    if unknown:
        raise OptionError(f"fields: expected some of {FIELDS}, got {sorted(unknown)}")
    options = {} if parallelism == -1 else {"override_num_blocks": whole_number("parallelism", parallelism, 1)}
    return ray.data.read_datasource(TraceDatasource(traces, fields), **options)


def from_ray(data: Any, directory: str | os.PathLike[str], **options: Any) -> TraceDataset:
    """Write a `ray.data.Dataset` with one row a trajectory as a trace.

    Several tasks write at the same time. If a task dies and Ray repeats it, trajectories that it had written are in the
    directory twice. `verify_traces` then names them, and `repair_traces` removes them. Rows have no reset infos, spaces
    and spec; pass `spaces` and `env_spec` to keep these.

    Args:
        data: A data set with the columns of `to_ray`, with at least `obs` and `acts`. Without `terminated` and
            `truncated`, trajectories are fragments. Other columns of numbers and text are the trajectories' metadata.
        directory: Where to write: a directory that all machines share, or the URL of an object store.
        **options: Options of `TraceWriter`. With `overwrite`, the traces that the directory holds are removed when
            all rows are written; if that fails, they stay beside the rows that were written.

    Returns:
        Everything in the directory, opened.

    Raises:
        ShapeError: If a row has no observations or actions.
        TraceWriteError: If nothing can be written.
    """
    data.write_datasink(TraceDatasink(directory, **options))
    return open_traces(directory)


class TraceDatasource(ray.data.Datasource):  # type: ignore[misc]  # no annotations
    """What `to_ray` reads.

    Args:
        traces: What `open_traces` returned, or a view of it.
        fields: Which of `"obs"`, `"acts"`, `"rews"` and `"infos"` to read.
    """

    def __init__(self, traces: TraceDataset, fields: Sequence[str] = FIELDS) -> None:
        self._traces, self._fields = traces, tuple(fields)

    def estimate_inmemory_data_size(self) -> int:
        """Bytes on disk; decompressed it may be more."""
        return round(float(self._traces.order.sizes.sum()))

    def get_read_tasks(
        self, parallelism: int, per_task_row_limit: int | None = None, data_context: Any = None
    ) -> list[Any]:
        """Tasks that read about the same number of steps each.

        Args:
            parallelism: The number of tasks that Ray wants.
            per_task_row_limit: The most rows that a task is to read.
            data_context: Not used.
        """
        ends = np.cumsum(self._traces.lengths)
        count = min(parallelism, len(ends))
        shares = np.linspace(0, ends[-1], count + 1)[1:-1] if count else np.empty(0)
        parts = np.split(np.arange(len(ends)), np.unique(np.searchsorted(ends, shares)))
        return [self._task(part, per_task_row_limit) for part in parts if len(part)]

    def _task(self, numbers: Any, limit: int | None) -> Any:
        view, fields = self._traces[numbers[:limit]], self._fields
        size = round(float(view.order.sizes.sum()))
        metadata = ray.data.block.BlockMetadata(
            num_rows=len(view), size_bytes=size, exec_stats=None, task_exec_stats=None
        )
        return ray.data.ReadTask(lambda: _blocks(view, fields), metadata, per_task_row_limit=limit)


class TraceDatasink(ray.data.Datasink):  # type: ignore[misc]  # no annotations
    """What `from_ray` writes to.

    Args:
        directory: Where to write.
        **options: Options of `TraceWriter`.
    """

    def __init__(self, directory: str | os.PathLike[str], **options: Any) -> None:
        check_options(options, TraceDatasink, TraceWriter)
        self._folder = folder_of(directory)
        self._options = checked_options(options)
        self._overwrites = self._options.pop("overwrite", False)
        if self._overwrites:
            self._options["mix_spaces"] = True  # the traces that are there go at the end
        self._old: list[str] = []

    def on_write_start(self, *args: Any, **kwargs: Any) -> None:
        """Make the directory."""
        self._folder.make()
        if self._overwrites:
            self._old = removable_files(self._folder)

    def on_write_complete(self, *args: Any, **kwargs: Any) -> None:
        """Remove the traces that are to be replaced."""
        remove_files(self._folder, self._old)

    def write(self, blocks: Iterable[Any], ctx: Any) -> Any:
        """Write the rows of blocks.

        Args:
            blocks: Tables.
            ctx: Not used.
        """
        with TraceWriter(self._folder.path, **self._options) as writer:
            for block in blocks:
                for row in ray.data.block.BlockAccessor.for_block(block).iter_rows(public_row_format=True):
                    trajectory, metadata = _trajectory(row)
                    writer.append(trajectory, metadata=metadata or None)
        return None


_BLOCK_STEPS = 1 << 16


def _blocks(view: TraceDataset, fields: Sequence[str]) -> Iterator[Any]:
    """Tables of some trajectories each."""
    about = view.to_arrow()
    begin = 0
    while begin < len(view):
        steps = np.cumsum(view.lengths[begin:])
        end = begin + max(int(np.searchsorted(steps, _BLOCK_STEPS)), 1)
        rows = [_columns(view, number, fields) for number in range(begin, end)]
        batch = {name: _objects([row[name] for row in rows]) for name in rows[0]}
        identity = about.slice(begin, end - begin)
        batch |= {name: np.array(identity.column(name).to_pylist(), object) for name in identity.column_names}
        yield ray.data.block.BlockAccessor.batch_to_block(batch)
        begin = end


def _columns(view: TraceDataset, number: int, fields: Sequence[str]) -> dict[str, Any]:
    found = view.columns(number, fields)
    named = dict[str, Any]()
    for name, value in found.items():
        if name in ("obs", "acts"):
            named |= named_leaves(value, name)
        elif value is not None:
            named[name] = list(value) if name == "infos" else value
    return named


def _objects(values: Sequence[Any]) -> Any:
    """An array of objects, whichever these are."""
    array = np.empty(len(values), object)
    array[:] = [*values]
    return array


def _trajectory(row: Mapping[str, Any]) -> tuple[Trajectory, dict[str, Any]]:
    """The trajectory of a row, and its metadata."""
    leaves = {name: np.asarray(value) for name, value in row.items() if name.split("/")[0] in ("obs", "acts")}
    missing = {"obs", "acts"} - {name.split("/")[0] for name in leaves}
    if missing:
        raise ShapeError(f"row: expected the columns obs and acts, got none of {sorted(missing)}")
    flags = {name: bool(row.get(name)) for name in ("terminated", "truncated")}
    identity = {name: row.get(name) for name in _IDENTITY}
    infos = row.get("infos")
    fields = {
        "obs": tree_of(leaves, "obs"),
        "acts": tree_of(leaves, "acts"),
        "infos": None if infos is None else _objects(infos),
        "terminal": any(flags.values()),
        **flags,
        "episode": Episode(
            id=identity["id"],
            env_index=identity["env"],
            start_step=identity["start_step"] or 0,
            seed=identity["seed"],
            ended_by=identity["ended_by"] or ended_by(**flags),
            recording=identity["recording"],
        ),
    }
    used = {*leaves, *FIELDS, *_IDENTITY, *_DERIVED}
    metadata = {name: value for name, value in row.items() if name not in used and value is not None}
    if row.get("rews") is None:
        return Trajectory(**fields), metadata
    return TrajectoryWithRew(**fields, rews=np.asarray(row["rews"])), metadata
