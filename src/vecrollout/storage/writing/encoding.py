"""Gathers trajectories into record batches, and record batches into shards."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from vecrollout._typing import Array
from vecrollout.data.batch import TrajectoryBatch
from vecrollout.data.trajectory import Episode, Trajectory, cut
from vecrollout.storage.codec.encode import Numbered, encode
from vecrollout.storage.codec.identities import Identities
from vecrollout.storage.codec.infos import InfoColumns
from vecrollout.storage.codec.layout import Layout, Spaces
from vecrollout.storage.codec.schema import TraceSchema
from vecrollout.storage.writing.numbering import Numbering, Steps
from vecrollout.storage.writing.shards import Shards

BATCH_ROWS = 8192
"""A batch is written once it has so many rows,"""

BATCH_BYTES = 8 << 20
"""or so many bytes before compression. A trajectory of that size has a batch of its own."""

# A new column stays in all shards that follow: fewer infos than these do not decide on one.
_TELLING_INFOS = 32

# More do not tell more of their keys. Only the last ones may have some keys, which are rare all the same.
_TOLD_INFOS = 512
_TOLD_ENDS = 64


@dataclass
class Handed:
    """Trajectories on their way to the disk."""

    trajectories: TrajectoryBatch | list[Trajectory]
    steps: list[int]
    """Of each trajectory."""
    nbytes: int
    """Memory of their arrays, and a guess at that of their infos."""
    notes: list[dict[str, Any]] | None = None
    """What else is kept of each; None: nothing."""

    def __len__(self) -> int:
        return len(self.steps)

    @property
    def episodes(self) -> Sequence[Episode]:
        """Identity of each trajectory."""
        if isinstance(self.trajectories, TrajectoryBatch):
            return self.trajectories.episodes
        return [each.episode for each in self.trajectories]

    @property
    def rows(self) -> int:
        """Rows that all of them take."""
        return sum(self.steps) + len(self.steps)

    def part(self, begin: int, end: int) -> Handed:
        """Some of the trajectories."""
        notes = None if self.notes is None else self.notes[begin:end]
        nbytes = self.nbytes * (end - begin) // len(self)
        return Handed(self.trajectories[begin:end], self.steps[begin:end], nbytes, notes)


@dataclass
class _Placed:
    """Trajectories with the numbers of their episodes."""

    handed: list[Handed]
    identities: Identities | None
    """None: there are no trajectories."""
    numbers: list[int]
    steps: list[int]


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
        self._taken: deque[Handed] = deque()
        # The next batch; once its episodes have numbers, what of it did not come before.
        self._pending: list[Handed] = []
        self._placed: _Placed | None = None
        self._pending_rows = 0
        self._pending_bytes = 0
        self.info_bytes = 200
        """A guess at the memory of an info."""

    def take(self, handed: Handed) -> None:
        """Take trajectories."""
        self._taken.extend(_parts(handed))

    def write_full(self) -> None:
        """Write what makes a batch."""
        if self._placed is not None:
            self._write_pending()  # it failed before
        while self._taken:
            following = self._taken[0]
            if _is_full(self._pending_rows + following.rows, self._pending_bytes + following.nbytes):
                self._write_pending()
            self._pending.append(following)
            self._pending_rows += following.rows
            self._pending_bytes += following.nbytes
            self._taken.popleft()
        if _is_full(self._pending_rows, self._pending_bytes):
            self._write_pending()

    @property
    def is_clear(self) -> bool:
        """Whether everything that was taken is written."""
        return not (self._pending or self._taken)

    def lost(self) -> list[tuple[int, int]]:
        """Of each trajectory that is not written, the number of its episode and the steps."""
        pending = self._placed or self._place(self._pending)
        return [
            pair for each in (pending, self._place(self._taken)) for pair in zip(each.numbers, each.steps, strict=True)
        ]

    def forget(self) -> None:
        """Let go of what is not written."""
        self._placed, self._pending, self._pending_rows, self._pending_bytes = None, [], 0, 0
        self._taken.clear()

    def write(self) -> None:
        """Write everything that was taken."""
        self.write_full()
        self._write_pending()

    def _write_pending(self) -> None:
        """Write what is pending; if that fails, it stays so."""
        if self._placed is None:
            self._placed = self._place(self._pending)
        numbered = _joined(self._placed)
        if numbered is not None:
            batch = numbered.batch
            schema = self._fitting_schema(batch)
            record_batch, index = encode(numbered, schema, self._arrow_schema, self._dropped)
            if not self._shards.is_open:
                self._shards.begin(self._arrow_schema)
            self._shards.write(record_batch, index)
            if batch.infos is not None:
                self.info_bytes = _info_bytes(batch.infos[0])
        self._placed, self._pending, self._pending_rows, self._pending_bytes = None, [], 0, 0
        self._shards.finish_full()

    def sync(self) -> None:
        """Write what is pending, and make everything durable."""
        self.write()
        self._shards.sync()

    def finish(self) -> None:
        """Write what is pending, and finish all files."""
        self.write()
        self._shards.close()

    def _place(self, pending: Collection[Handed]) -> _Placed:
        """Trajectories with the numbers of their episodes, without steps that came before."""
        if not pending:
            return _Placed([], None, [], [])
        steps = [length for each in pending for length in each.steps]
        identities = Identities.of(episode for each in pending for episode in each.episodes)
        numbers, news = self._numbering.place(identities, steps)
        if news is None:
            return _Placed(list(pending), identities, numbers, steps)
        left, numbers = _without_known(pending, numbers, news)
        if not left:
            return _Placed([], None, [], [])
        steps = [length for each in left for length in each.steps]
        return _Placed(left, Identities.of(episode for each in left for episode in each.episodes), numbers, steps)

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


def _parts(handed: Handed) -> list[Handed]:
    """The trajectories in runs that make little more than a batch each."""
    rows = handed.rows
    if len(handed) == 1 or not _is_full(rows // 2, handed.nbytes // 2):
        return [handed]
    row_bytes, parts, begin, rows = handed.nbytes / rows, [], 0, 0
    for i, steps in enumerate(handed.steps):
        if i > begin and _is_full(rows + steps + 1, int((rows + steps + 1) * row_bytes)):
            parts.append(handed.part(begin, i))
            begin, rows = i, 0
        rows += steps + 1
    return [*parts, handed.part(begin, len(handed))]


def _without_known(
    pending: Collection[Handed], numbers: Sequence[int], news: Sequence[list[Steps]]
) -> tuple[list[Handed], list[int]]:
    """The new steps of trajectories of which some or all came before, and the numbers of their episodes."""
    left: list[Handed] = []
    kept: list[int] = []
    singles = (each.part(i, i + 1) for each in pending for i in range(len(each)))
    for single, number, new in zip(singles, numbers, news, strict=True):
        for begin, end in new:
            trajectory = cut(single.trajectories[0], begin, end)
            left.append(Handed([trajectory], [end - begin], single.nbytes, single.notes))
            kept.append(number)
    return left, kept


def _joined(placed: _Placed) -> Numbered | None:
    """Trajectories as one batch; None: there are none."""
    if placed.identities is None:
        return None
    parts = [each.trajectories for each in placed.handed]
    has_infos: list[bool] = []
    for part in parts:
        if isinstance(part, TrajectoryBatch):
            has_infos += [part.has_infos] * len(part)
        else:
            has_infos += [each.infos is not None for each in part]
    if any(isinstance(part, TrajectoryBatch) for part in parts):
        batch = TrajectoryBatch.concatenate([_batch(part) for part in parts])
    else:
        batch = _batch(list(chain.from_iterable(parts)))
    notes = None
    if any(each.notes is not None for each in placed.handed):
        notes = [note for each in placed.handed for note in each.notes or [{}] * len(each)]
    return Numbered(batch, placed.identities, placed.numbers, has_infos, notes)


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
    last: Array = np.cumsum(batch.lengths[:_TOLD_ENDS]) - 1
    rows = np.union1d(np.arange(min(_TOLD_INFOS, len(batch.infos))), last)
    return [batch.infos[row] for row in rows.tolist()]


def _is_full(rows: int, size: int) -> bool:
    return rows >= BATCH_ROWS or size >= BATCH_BYTES


def _info_bytes(info: Any) -> int:
    values = info.values() if isinstance(info, Mapping) else ()
    return 200 + sum(value.nbytes for value in values if isinstance(value, np.ndarray))
