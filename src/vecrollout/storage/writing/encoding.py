"""Gathers trajectories into record batches, and record batches into shards."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from vecrollout._typing import Array
from vecrollout.data.batch import TrajectoryBatch
from vecrollout.data.trajectory import Episode, Trajectory, cut
from vecrollout.storage.codec.encode import Numbered, encode
from vecrollout.storage.codec.identities import Identities
from vecrollout.storage.codec.infos import InfoColumns
from vecrollout.storage.codec.layout import Layout
from vecrollout.storage.codec.schema import TraceSchema
from vecrollout.storage.writing.numbering import Numbering
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


class Handed(NamedTuple):
    """Trajectories of one layout on their way to the disk."""

    trajectories: TrajectoryBatch | list[Trajectory]
    layout: Layout
    rows: int
    """Rows that all of them take."""
    nbytes: int
    """Memory of their arrays, and a guess at that of their infos."""
    has_infos: list[bool] | bool
    """Whether infos of each or of all were kept."""
    notes: list[dict[str, Any]] | None = None
    """What else is kept of each; None: nothing."""

    @property
    def episodes(self) -> Sequence[Episode]:
        """Identity of each trajectory."""
        if isinstance(self.trajectories, TrajectoryBatch):
            return self.trajectories.episodes
        return [each.episode for each in self.trajectories]

    @property
    def steps(self) -> list[int]:
        """Steps of each trajectory."""
        if isinstance(self.trajectories, TrajectoryBatch):
            return self.trajectories.lengths.tolist()  # type: ignore[no-any-return]
        return list(map(len, self.trajectories))

    def part(self, begin: int, end: int, rows: int) -> Handed:
        """Some of the trajectories, which take so many rows."""
        if isinstance(self.trajectories, TrajectoryBatch):
            some: TrajectoryBatch | list[Trajectory] = self.trajectories.part(begin, end)
        else:
            some = self.trajectories[begin:end]
        has_infos = self.has_infos if isinstance(self.has_infos, bool) else self.has_infos[begin:end]
        notes = None if self.notes is None else self.notes[begin:end]
        return Handed(some, self.layout, rows, self.nbytes * rows // self.rows, has_infos, notes)


class TraceEncoder:
    """Writes one writer's trajectories; knows nothing of threads.

    Args:
        shards: Where to.
        about: What the shards say about the trace.
        dropped: Gains, by key, the number of values of infos that could not be kept.
    """

    def __init__(self, shards: Shards, about: Mapping[str, Any], dropped: Counter[str]) -> None:
        self._shards = shards
        self._about = about
        self._dropped = dropped
        self._numbering = Numbering()
        # Of the last shard; its layout, and the one that it was made from when the shard was begun.
        self._schema: TraceSchema | None = None
        self._arrow_schema: Any = None
        self._base: Layout | None = None
        self._taken: deque[Handed] = deque()
        # The next batch, of one layout; once its episodes have numbers, what of it did not come before.
        self._pending: list[Handed] = []
        self._numbered: Numbered | None = None
        self._pending_rows = 0
        self._pending_bytes = 0
        self.info_bytes = 200
        """A guess at the memory of an info."""

    def take(self, handed: Handed) -> None:
        """Take trajectories."""
        if _is_full(handed.rows // 2, handed.nbytes // 2):
            self._taken.extend(_parts(handed))
        else:
            self._taken.append(handed)

    def write_full(self) -> None:
        """Write what makes a batch."""
        if self._numbered is not None:
            self._write_pending()  # it failed before
        taken, pending = self._taken, self._pending
        while taken:
            following = taken[0]
            rows, nbytes = self._pending_rows + following.rows, self._pending_bytes + following.nbytes
            if pending and (_is_full(rows, nbytes) or following.layout is not pending[0].layout):
                self._write_pending()
                rows, nbytes = following.rows, following.nbytes
            pending.append(following)
            self._pending_rows, self._pending_bytes = rows, nbytes
            taken.popleft()
        if _is_full(self._pending_rows, self._pending_bytes):
            self._write_pending()

    @property
    def is_clear(self) -> bool:
        """Whether everything that was taken is written."""
        return not (self._pending or self._taken)

    def lost(self) -> list[tuple[int, int]]:
        """Of each trajectory that is not written, the number of its episode and the steps."""
        lost: list[tuple[int, int]] = []
        if self._numbered is not None:
            lost += zip(self._numbered.numbers, self._numbered.batch.lengths.tolist(), strict=True)
        for each in [*([] if self._numbered else self._pending), *self._taken]:
            steps = each.steps
            numbers, news = self._numbering.place(Identities.of(each.episodes), steps)
            for number, new in zip(numbers, news or [[(0, length)] for length in steps], strict=True):
                lost += [(number, end - begin) for begin, end in new]
        return lost

    def forget(self) -> None:
        """Let go of what is not written."""
        self._clear()
        self._taken.clear()

    def write(self) -> None:
        """Write everything that was taken."""
        self.write_full()
        self._write_pending()

    def save(self) -> None:
        """Write everything, and make it durable on this machine."""
        self.write()
        self._shards.save()

    def sync(self) -> None:
        """Write everything, and make it durable where it belongs."""
        self.write()
        self._shards.sync()

    def finish(self) -> None:
        """Write everything, and finish all files."""
        self.write()
        self._shards.close()

    def _write_pending(self) -> None:
        """Write what is pending; if that fails, it stays so."""
        if self._numbered is None:
            self._numbered = self._number(self._pending)
        numbered = self._numbered
        if numbered is not None:
            batch = numbered.batch
            schema = self._fitting_schema(batch, self._pending[0].layout)
            record_batch, index = encode(numbered, schema, self._arrow_schema, self._dropped)
            if not self._shards.is_open:
                self._shards.begin(self._arrow_schema)
            self._shards.write(record_batch, index)
            if batch.infos is not None:
                self.info_bytes = _info_bytes(batch.infos[0])
        self._clear()
        self._shards.finish_full()

    def _clear(self) -> None:
        self._pending.clear()
        self._numbered, self._pending_rows, self._pending_bytes = None, 0, 0

    def _number(self, pending: Collection[Handed]) -> Numbered | None:
        """Trajectories as one batch, without steps that came before; None: there are none."""
        if not pending:
            return None
        batch, has_infos, notes = _joined(pending)
        identities = Identities.of(batch.episodes)
        numbers, news = self._numbering.place(identities, batch.lengths.tolist())
        if news is None:
            return Numbered(batch, identities, numbers, has_infos, notes)
        pieces = [(i, begin, end) for i, new in enumerate(news) for begin, end in new]
        if not pieces:
            return None
        left = _batch([cut(batch[i], begin, end) for i, begin, end in pieces])
        return Numbered(
            left,
            Identities.of(left.episodes),
            [numbers[i] for i, _, _ in pieces],
            [has_infos[i] for i, _, _ in pieces],
            None if notes is None else [notes[i] for i, _, _ in pieces],
        )

    def _fitting_schema(self, batch: TrajectoryBatch, base: Layout) -> TraceSchema:
        """The columns, planned when a shard is begun; where later data needs another type, that is a new shard's."""
        old = self._schema
        first = old is None or self._base is not base
        layout = base if old is None or first else old.layout
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
        schema = TraceSchema(layout, columns, dict(self._about), self._shards.begun)
        self._arrow_schema = schema.to_arrow()
        self._schema, self._base = schema, base
        return schema


def _parts(handed: Handed) -> list[Handed]:
    """The trajectories in runs that make a batch each, as far as single ones are not larger."""
    ends = np.cumsum(np.array(handed.steps) + 1)
    most = max(1, min(BATCH_ROWS, BATCH_BYTES * handed.rows // max(handed.nbytes, 1)))
    parts, begin, before = [], 0, 0
    while begin < len(ends):
        end = max(int(np.searchsorted(ends, before + most)), begin + 1)
        parts.append(handed.part(begin, end, int(ends[end - 1]) - before))
        begin, before = end, int(ends[end - 1])
    return parts


def _joined(pending: Collection[Handed]) -> tuple[TrajectoryBatch, list[bool], list[dict[str, Any]] | None]:
    """Trajectories as one batch, whether infos of each were kept, and what else is kept of each."""
    parts: list[TrajectoryBatch] = []
    singles: list[Trajectory] = []
    for each in pending:
        if not isinstance(each.trajectories, TrajectoryBatch):
            singles += each.trajectories
            continue
        if singles:
            parts.append(_batch(singles))
            singles = []
        parts.append(each.trajectories)
    if singles:
        parts.append(_batch(singles))
    batch = TrajectoryBatch.concatenate(parts)
    kept = [each.has_infos for each in pending]
    if kept.count(True) == len(kept) or kept.count(False) == len(kept):
        has_infos = [kept[0] is True] * len(batch)
    else:
        all_kept = (
            [has] * len(each) if isinstance(has, bool) else has for (each, *_), has in zip(pending, kept, strict=True)
        )
        has_infos = [has for some in all_kept for has in some]
    notes = None
    if any(each.notes is not None for each in pending):
        notes = [note for each in pending for note in each.notes or [{}] * len(each.trajectories)]
    return batch, has_infos, notes


def _batch(trajectories: list[Trajectory]) -> TrajectoryBatch:
    if len(trajectories) > 1:
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
