"""Gathers trajectories into record batches, and record batches into shards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vecrollout._typing import Array
from vecrollout.data.batch import TrajectoryBatch
from vecrollout.data.trajectory import cut
from vecrollout.storage.codec.encode import Numbered, encode
from vecrollout.storage.codec.infos import InfoColumns
from vecrollout.storage.codec.layout import ShardLayout
from vecrollout.storage.codec.schema import TraceSchema
from vecrollout.storage.writing.intake import BATCH_BYTES, BATCH_ROWS, Handed
from vecrollout.storage.writing.numbering import Numbering
from vecrollout.storage.writing.shards import Shards

# A new column stays in all later shards, so fewer infos than these do not add one.
_TELLING_INFOS = 32

# Infos whose keys are looked at: the first ones, and the last ones of the first trajectories.
_TOLD_INFOS = 512
_TOLD_ENDS = 64


class TraceEncoder:
    """Writes one writer's trajectories; knows nothing of threads.

    Args:
        shards: Where to write.
        about: Facts about the trace, for the shards' schemas.
        dropped: Counts the values of infos that cannot be kept, by key.
    """

    def __init__(self, shards: Shards, about: Mapping[str, Any], dropped: Counter[str]) -> None:
        self._shards = shards
        self._about = about
        self._dropped = dropped
        self._numbering = Numbering()
        # Of the last shard; its layout, and the layout of the trajectories with which the shard began.
        self._schema: TraceSchema | None = None
        self._arrow_schema: Any = None
        self._base: ShardLayout | None = None
        # Not written yet, each at most a record batch. If a write fails, the first ones have their numbers already.
        self._taken: list[Handed] = []
        self._numbered: tuple[int, Numbered | None] | None = None
        self.info_bytes = 200
        """A guess at the memory of an info."""

    @property
    def is_clear(self) -> bool:
        """Whether everything that was taken is written."""
        return not self._taken

    def take(self, handed: Sequence[Handed]) -> None:
        """Take trajectories."""
        for each in handed:
            if each.rows > BATCH_ROWS or each.nbytes > BATCH_BYTES:
                self._taken.extend(each.parts())
            else:
                self._taken.append(each)

    def write_full(self) -> None:
        """Write all full record batches."""
        self.write(only_full=True)

    def write(self, *, only_full: bool = False) -> None:
        """Write everything that was taken, or all full record batches."""
        while self._taken:
            if self._numbered is None:
                count, is_full = self._next_batch()
                if only_full and not is_full:
                    return
                self._numbered = count, self._number(self._taken[:count])
            count, numbered = self._numbered
            if numbered is not None:
                self._write_batch(numbered, self._taken[0].layout)
            self._numbered = None
            del self._taken[:count]
            self._shards.finish_full()

    def save(self) -> None:
        """Write everything, and make it durable on this machine."""
        self.write()
        self._shards.save()

    def sync(self) -> None:
        """Write everything, and make it durable in its final place."""
        self.write()
        self._shards.sync()

    def finish(self) -> None:
        """Write everything, and finish all files."""
        self.write()
        self._shards.close()

    def lost(self) -> list[tuple[int, int]]:
        """The number of the episode and the steps of each trajectory that is not written."""
        lost: list[tuple[int, int]] = []
        count, numbered = self._numbered or (0, None)
        if numbered is not None:
            lost += zip(numbered.numbers.tolist(), numbered.batch.lengths.tolist(), strict=True)
        for each in self._taken[count:]:
            steps = each.batch.lengths.tolist()
            numbers, news = self._numbering.place(each.batch.identities, steps)
            for number, new in zip(numbers.tolist(), news or [[(0, length)] for length in steps], strict=True):
                lost += [(number, end - begin) for begin, end in new]
        return lost

    def forget(self) -> None:
        """Let go of everything that is not written."""
        self._numbered = None
        self._taken.clear()

    def _next_batch(self) -> tuple[int, bool]:
        """How many of what was taken make the next record batch, and whether no more fits into it."""
        rows = nbytes = 0
        first = self._taken[0]
        for count, (_, layout, its_rows, its_bytes, _) in enumerate(self._taken):
            rows += its_rows
            nbytes += its_bytes
            if count and (rows > BATCH_ROWS or nbytes > BATCH_BYTES or layout is not first.layout):
                return count, True
        return len(self._taken), rows >= BATCH_ROWS or nbytes >= BATCH_BYTES

    def _write_batch(self, numbered: Numbered, layout: ShardLayout) -> None:
        schema = self._fitting_schema(numbered.batch, layout)
        record_batch, index = encode(numbered, schema, self._arrow_schema, self._dropped)
        if not self._shards.is_open:
            self._shards.begin(self._arrow_schema)
        self._shards.write(record_batch, index)
        if numbered.batch.infos is not None:
            self.info_bytes = _info_bytes(numbered.batch.infos[0])

    def _number(self, parts: Sequence[Handed]) -> Numbered | None:
        """Trajectories as one batch, without steps that came before; None if nothing is left."""
        batches = [each.batch for each in parts]
        batch = TrajectoryBatch.concatenate(batches)
        have_infos = {each.columns.has_infos for each in batches}
        if len(have_infos) == 1:
            has_infos = [*have_infos] * len(batch)
        else:
            has_infos = [each.has_infos for each in batches for _ in range(len(each))]
        notes = None
        if any(each.notes for each in parts):
            notes = [note for each in parts for note in each.notes or [{}] * len(each.batch)]
        identities = batch.identities
        numbers, news = self._numbering.place(identities, batch.lengths.tolist())
        if news is None:
            return Numbered(batch, identities, numbers, has_infos, notes)
        pieces = [(i, begin, end) for i, new in enumerate(news) for begin, end in new]
        if not pieces:
            return None
        left = TrajectoryBatch.from_trajectories([cut(batch[i], begin, end) for i, begin, end in pieces])
        return Numbered(
            left,
            left.identities,
            numbers[[i for i, _, _ in pieces]],
            [has_infos[i] for i, _, _ in pieces],
            None if notes is None else [notes[i] for i, _, _ in pieces],
        )

    def _fitting_schema(self, batch: TrajectoryBatch, base: ShardLayout) -> TraceSchema:
        """The columns of the open shard, or of a new one where the batch needs other columns."""
        old = self._schema
        first = old is None or self._base is not base
        layout = base if old is None or first else old.layout
        if first or layout.has_objects or (layout.rews and layout.rews.dtype != batch.kind.rews):
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


def _told(batch: TrajectoryBatch) -> list[Any]:
    """Infos that show which keys there are: those of the first steps, and the last ones of trajectories."""
    if batch.infos is None:
        return []
    last: Array = np.cumsum(batch.lengths[:_TOLD_ENDS]) - 1
    rows = np.union1d(np.arange(min(_TOLD_INFOS, len(batch.infos))), last)
    return [batch.infos[row] for row in rows.tolist()]


def _info_bytes(info: Any) -> int:
    values = info.values() if isinstance(info, Mapping) else ()
    return 200 + sum(value.nbytes for value in values if isinstance(value, np.ndarray))
