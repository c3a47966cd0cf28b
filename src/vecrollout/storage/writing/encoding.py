"""Gathers trajectories into record batches, and record batches into shards."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from vecrollout._typing import Array
from vecrollout.data.batch import TrajectoryBatch
from vecrollout.data.trajectory import Trajectory, cut
from vecrollout.storage.codec.encode import Numbered, encode
from vecrollout.storage.codec.infos import InfoColumns
from vecrollout.storage.codec.layout import Layout, Spaces
from vecrollout.storage.codec.schema import TraceSchema
from vecrollout.storage.writing.identity import Numbering
from vecrollout.storage.writing.shards import Shards

BATCH_ROWS = 8192
"""A batch is written once it has so many rows,"""

BATCH_BYTES = 8 << 20
"""or so many bytes before compression. A trajectory of that size has a batch of its own."""

# A new column stays in all shards that follow: fewer infos than these do not decide on one.
_TELLING_INFOS = 32

# More do not tell more of their keys.
_TOLD_INFOS = 256


@dataclass
class Handed:
    """Trajectories on their way to the disk."""

    trajectories: TrajectoryBatch | list[Trajectory]
    nbytes: int
    """Memory of their arrays, and a guess at that of their infos."""
    notes: list[dict[str, Any]] | None = None
    """What else is kept of each; None: nothing."""

    def __len__(self) -> int:
        return len(self.trajectories)

    @property
    def steps(self) -> list[int]:
        """Of each trajectory."""
        if isinstance(self.trajectories, TrajectoryBatch):
            lengths: list[int] = self.trajectories.lengths.tolist()
            return lengths
        return list(map(len, self.trajectories))

    def part(self, begin: int, end: int) -> Handed:
        """Some of the trajectories."""
        notes = None if self.notes is None else self.notes[begin:end]
        return Handed(self.trajectories[begin:end], self.nbytes * (end - begin) // len(self), notes)


@dataclass
class _Pending:
    """Trajectories that wait for their batch to become full."""

    handed: Handed
    numbers: list[int]
    rows: int


class TraceEncoder:
    """Writes one writer's trajectories; knows nothing of threads.

    Args:
        shards: Where to.
        about: What the shards say about the trace.
        spaces: Observation and action space; None: not known.
        dropped: Gains, by key, the number of values of infos that could not be kept.
    """

    def __init__(self, shards: Shards, about: Mapping[str, Any], spaces: Spaces | None, dropped: Counter[str]) -> None:
        self._shards = shards
        self._about = about
        self._spaces = spaces
        self._dropped = dropped
        self._numbering = Numbering()
        self._schema: TraceSchema | None = None
        self._arrow_schema: Any = None
        self._taken: deque[_Pending] = deque()
        # The next batch.
        self._pending: list[_Pending] = []
        self._pending_rows = 0
        self._pending_bytes = 0
        self.info_bytes = 200
        """A guess at the memory of an info."""

    def take(self, handed: Handed) -> None:
        """Take trajectories, without those steps that came before."""
        for part in self._numbered(handed):
            self._taken.extend(_parts(part))

    def write_full(self) -> None:
        """Write what makes a batch."""
        while self._taken:
            following = self._taken[0]
            if _is_full(self._pending_rows + following.rows, self._pending_bytes + following.handed.nbytes):
                self._write_pending()
            self._pending.append(following)
            self._pending_rows += following.rows
            self._pending_bytes += following.handed.nbytes
            self._taken.popleft()
        if _is_full(self._pending_rows, self._pending_bytes):
            self._write_pending()

    @property
    def is_clear(self) -> bool:
        """Whether everything that was taken is written."""
        return not (self._pending or self._taken)

    def lost(self) -> list[tuple[int, int]]:
        """Of each trajectory that is not written, the number of its episode and the steps."""
        waiting = [*self._pending, *self._taken]
        return [pair for each in waiting for pair in zip(each.numbers, each.handed.steps, strict=True)]

    def forget(self) -> None:
        """Let go of what is not written."""
        self._pending, self._pending_rows, self._pending_bytes = [], 0, 0
        self._taken.clear()

    def write(self) -> None:
        """Write everything that was taken."""
        self.write_full()
        self._write_pending()

    def _write_pending(self) -> None:
        """Write what is pending; if that fails, it stays so."""
        if not self._pending:
            return
        numbered = _joined(self._pending)
        schema = self._fitting_schema(numbered.batch)
        record_batch, index = encode(numbered, schema, self._arrow_schema, self._dropped)
        if not self._shards.is_open:
            self._shards.begin(self._arrow_schema)
        self._shards.write(record_batch, index)
        self._pending, self._pending_rows, self._pending_bytes = [], 0, 0
        if numbered.batch.infos is not None:
            self.info_bytes = _info_bytes(numbered.batch.infos[0])
        self._shards.finish_full()

    def sync(self) -> None:
        """Write what is pending, and make everything durable."""
        self.write()
        self._shards.sync()

    def finish(self) -> None:
        """Write what is pending, and finish all files."""
        self.write()
        self._shards.close()

    def _numbered(self, handed: Handed) -> list[_Pending]:
        """The trajectories with the numbers of their episodes; those of which a part came before are cut."""
        trajectories = handed.trajectories
        if isinstance(trajectories, TrajectoryBatch):
            episodes = trajectories.episodes
        else:
            episodes = [each.episode for each in trajectories]
        steps = handed.steps
        placed = [self._numbering.place(*each) for each in zip(episodes, steps, strict=True)]
        numbers = [number for number, _ in placed]
        if all(new == [(0, length)] for (_, new), length in zip(placed, steps, strict=True)):
            return [_Pending(handed, numbers, sum(steps) + len(steps))]
        found = []
        for i, (number, new) in enumerate(placed):
            for begin, end in new:
                part = handed.part(i, i + 1)
                part.trajectories = [cut(part.trajectories[0], begin, end)]
                found.append(_Pending(part, [number], end - begin + 1))
        return found

    def _fitting_schema(self, batch: TrajectoryBatch) -> TraceSchema:
        """The columns, planned when a shard is begun; where later data needs another type, that is a new shard's."""
        old = self._schema
        first = old is None
        layout = Layout.of(batch.obs, batch.acts, batch.rews, self._spaces) if old is None else old.layout
        if first or layout.has_objects or (layout.rews and layout.rews.dtype != batch.rews.dtype):  # type: ignore[union-attr]
            layout = layout.fitting(layout.flattened(batch.obs, batch.acts, batch.rews), may_narrow=first)
        if old is not None and self._shards.is_open:
            if layout is old.layout:
                return old
            self._shards.finish()
        infos = _told(batch)
        if old is None:
            columns = InfoColumns.plan(infos)
        else:
            columns = old.infos if len(infos) < _TELLING_INFOS else InfoColumns.plan(infos, old.infos.columns)
        schema = self._schema = TraceSchema(layout, columns, self._about, self._shards.begun)
        self._arrow_schema = schema.to_arrow()
        return schema


def _parts(pending: _Pending) -> list[_Pending]:
    """The trajectories in runs that make no more than a batch each."""
    handed = pending.handed
    if len(handed) == 1 or not _is_full(pending.rows, handed.nbytes):
        return [pending]
    parts, begin, rows = [], 0, 0
    row_bytes = handed.nbytes / pending.rows
    for i, steps in enumerate(handed.steps):
        if i > begin and _is_full(rows + steps + 1, int((rows + steps + 1) * row_bytes)):
            parts.append(_Pending(handed.part(begin, i), pending.numbers[begin:i], rows))
            begin, rows = i, 0
        rows += steps + 1
    return [*parts, _Pending(handed.part(begin, len(handed)), pending.numbers[begin:], rows)]


def _joined(pending: Sequence[_Pending]) -> Numbered:
    """All that is pending as one batch."""
    parts = [each.handed.trajectories for each in pending]
    has_infos: list[bool] = []
    for part in parts:
        if isinstance(part, TrajectoryBatch):
            has_infos += [part.infos is not None] * len(part)
        else:
            has_infos += [each.infos is not None for each in part]
    if any(isinstance(part, TrajectoryBatch) for part in parts):
        batch = TrajectoryBatch.concatenate([_batch(part) for part in parts])
    else:
        batch = _batch(list(chain.from_iterable(parts)))
    notes = None
    if any(each.handed.notes is not None for each in pending):
        notes = [note for each in pending for note in each.handed.notes or [{}] * len(each.handed)]
    return Numbered(batch, [number for each in pending for number in each.numbers], has_infos, notes)


def _batch(trajectories: TrajectoryBatch | list[Trajectory]) -> TrajectoryBatch:
    if isinstance(trajectories, TrajectoryBatch) or len(trajectories) > 1:
        return TrajectoryBatch.from_trajectories(trajectories)
    # Without a copy: it may be as large as memory allows.
    (one,) = trajectories
    return TrajectoryBatch.from_arrays(
        one.obs,
        one.acts,
        getattr(one, "rews", None),
        one.infos,
        lengths=[len(one)],
        terminated=[one.terminated],
        truncated=[one.truncated],
        episodes=[one.episode],
    )


def _told(batch: TrajectoryBatch) -> list[Any]:
    """Infos that tell what is in all of them: of the first steps, and of the last ones of episodes."""
    if batch.infos is None:
        return []
    last: Array = np.cumsum(batch.lengths[:_TOLD_INFOS]) - 1
    rows = np.union1d(np.arange(min(_TOLD_INFOS, len(batch.infos))), last)
    return [batch.infos[row] for row in rows.tolist()]


def _is_full(rows: int, size: int) -> bool:
    return rows >= BATCH_ROWS or size >= BATCH_BYTES


def _info_bytes(info: Any) -> int:
    values = info.values() if isinstance(info, Mapping) else ()
    return 200 + sum(value.nbytes for value in values if isinstance(value, np.ndarray))
