"""The rows of a trace by number. Small columns are joined in memory, large ones stay in the files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from vecrollout._typing import Array
from vecrollout.data.fields import info_array
from vecrollout.data.sampling.joined_rows import index_in_parts
from vecrollout.data.sampling.rows import Leaf, RowNumbers
from vecrollout.data.sampling.step_index import StepIndex
from vecrollout.errors import ShapeError
from vecrollout.storage.codec.schema import LARGE_ROW_BYTES
from vecrollout.storage.reading.arrays import BatchArrays
from vecrollout.storage.reading.catalog import Located, Place
from vecrollout.storage.reading.shard import Shard

ReadSteps = Callable[[int, Sequence[str], int, int], dict[str, Any]]
"""Number of a trajectory, names of fields, and a range of its steps, to the fields; as `TraceReader.columns`."""


class TraceRows:
    """All rows of a trace, numbered in the order of the files; a trajectory's last observation is a row, too.

    Args:
        groups: All groups of the trace.
        located: Where in the groups each trajectory is.
        is_used: Which groups the rows come from; their shards are of one kind.
        shard: Opens the shard of a group.
        read_steps: Reads some steps of a trajectory: for text, objects and infos.
        memory_bytes: Limit of the memory in use. Columns of small rows get it first. Decoded batches of the other
            columns get the rest.
    """

    def __init__(
        self,
        groups: Sequence[Place],
        located: Located,
        is_used: npt.NDArray[np.bool_],
        shard: Callable[[Place], Shard],
        read_steps: ReadSteps,
        memory_bytes: int,
    ) -> None:
        self._read_steps = read_steps
        used = [each for each, is_in in zip(groups, is_used.tolist(), strict=True) if is_in]
        pieces = [(each, number) for each in used for number in range(len(each.group.pieces))]
        rows = [place.group.pieces[number].rows for place, number in pieces]
        # Row with which each record batch begins, and behind them the number of all.
        self._begins = np.cumsum([0, *rows], dtype=np.int64)
        counts = [len(each.group.pieces) for each in used]
        first_pieces = np.zeros(len(groups), np.int64)
        first_pieces[is_used] = np.cumsum(counts, dtype=np.int64) - counts
        self.first_rows: RowNumbers = self._begins[first_pieces[located.group]] + located.row
        """Row of each trajectory's first step, shape `(N,)`; of other groups' trajectories, any number."""
        self._lengths = located.steps
        (mine,) = is_used[located.group].nonzero()
        # Numbers of the trajectories by row.
        self._by_row = mine[self.first_rows[mine].argsort(kind="stable")]
        self.kind = shard(used[0]).schema.kind
        names = ("obs", "acts") if self.kind.rews is None else ("obs", "acts", "rews")
        columns = [(name, item) for name in names for item in self.kind.part(name).items]
        self._items = [item for _, item in columns]
        self._numbers = {name: [i for i, (each, _) in enumerate(columns) if each == name] for name in names}
        self._joinable: list[int] = []
        for size, i in sorted((item.nbytes, i) for i, item in enumerate(self._items) if _is_plain(item.dtype)):
            if size < LARGE_ROW_BYTES and size * int(self._begins[-1]) <= memory_bytes:
                self._joinable.append(i)
                memory_bytes -= size * int(self._begins[-1])
        self._arrays = BatchArrays(pieces, shard, memory_bytes)

    def take(self, name: str, rows: RowNumbers) -> Any:
        """A copy of some rows."""
        part = self.kind.part(name)
        numbers, joined = self._numbers[name], self._joined
        if not all(_is_plain(item.dtype) for item in part.items):
            return self._one_by_one(name, rows)
        leaves = [joined[i].take(rows) if i in joined else self._picked(i, rows) for i in numbers]
        return part.structure.unflatten(leaves)

    def infos(self, rows: RowNumbers) -> npt.NDArray[np.object_]:
        """Info dicts of some steps."""
        found: list[Any] = [None] * len(rows)
        for i, number, at in self._steps(rows):
            infos = self._read_steps(number, ("infos",), at, at + 1)["infos"]
            found[i] = {} if infos is None else infos[0]
        return info_array(found)

    @cached_property
    def _joined(self) -> dict[int, Leaf]:
        """Columns of small rows, in memory."""
        begins = self._begins.tolist()
        arrays = [np.empty((begins[-1], *self._items[i].shape), self._items[i].dtype) for i in self._joinable]
        if arrays:
            for batch, (begin, end) in enumerate(pairwise(begins)):
                for array, part in zip(arrays, self._arrays.read(batch, self._joinable), strict=True):
                    array[begin:end] = part
        return dict(zip(self._joinable, map(Leaf, arrays), strict=True))

    def _picked(self, number: int, rows: RowNumbers) -> Array:
        """Some rows of a column, out of record batches, in the order of the files."""
        item = self._items[number]
        found = np.empty((len(rows), *item.shape), item.dtype)
        if not len(rows):
            return found
        order = rows.argsort(kind="stable")
        ordered = rows[order]
        batches = self._begins.searchsorted(ordered, "right") - 1
        # Neighboring rows that are wanted in their own order are copied in one piece.
        breaks = (np.diff(ordered) != 1) | (np.diff(order) != 1) | (np.diff(batches) != 0)
        first = np.concatenate([[0], np.flatnonzero(breaks) + 1])
        counts = np.diff(first, append=len(rows)).tolist()
        local = (ordered - self._begins[batches])[first].tolist()
        last, array = -1, found
        for batch, to, begin, count in zip(batches[first].tolist(), order[first].tolist(), local, counts, strict=True):
            if batch != last:
                last, array = batch, self._arrays.get(batch, number)
            found[to : to + count] = array[begin : begin + count]
        return found

    def _one_by_one(self, name: str, rows: RowNumbers) -> Any:
        """Rows with text or objects."""
        part = self.kind.part(name)
        found: list[Any] = [None] * len(rows)
        for i, number, at in self._steps(rows):
            step = min(at, int(self._lengths[number]) - 1)
            read = self._read_steps(number, (name,), step, step + 1)[name]
            found[i] = part.structure.flatten(read[at - step : at - step + 1])
        if not found:
            return part.structure.unflatten([np.empty((0, *item.shape), item.dtype) for item in part.items])
        return part.structure.unflatten([np.concatenate(parts) for parts in zip(*found, strict=True)])

    def _steps(self, rows: RowNumbers) -> Iterator[tuple[int, int, int]]:
        """Place among the rows, trajectory, and step of each row, in the order of the files."""
        by_row = self._by_row
        order = rows.argsort(kind="stable")
        numbers = by_row[self.first_rows[by_row].searchsorted(rows[order], "right") - 1]
        return zip(order.tolist(), numbers.tolist(), (rows[order] - self.first_rows[numbers]).tolist(), strict=True)


class RowsByKind:
    """The rows of a trace, those of each structure, dtypes and shapes apart.

    Args:
        groups: All groups of the trace.
        located: Where in the groups each trajectory is.
        shard: Opens the shard of a group.
        read_steps: Reads some steps of a trajectory.
        memory_bytes: Limit of the memory in use; each kind gets a share by its rows.
    """

    def __init__(
        self,
        groups: Sequence[Place],
        located: Located,
        shard: Callable[[Place], Shard],
        read_steps: ReadSteps,
        memory_bytes: int,
    ) -> None:
        self._groups, self._located, self._shard, self._read_steps = groups, located, shard, read_steps
        self._memory_bytes = memory_bytes
        kinds: dict[Any, int] = {}
        of_shards: dict[str, int] = {}
        for place in {place.shard: place for place in groups}.values():
            kind = shard(place).schema.kind
            of_shards[place.shard] = kinds.setdefault((kind.family, str(kind.rews)), len(kinds))
        # Number of each group's kind.
        self._kinds = np.array([of_shards[place.shard] for place in groups], np.int64)
        self._rows: dict[int, TraceRows] = {}

    def index(self, numbers: npt.NDArray[np.int64]) -> StepIndex:
        """Where each step of some trajectories lies; a `ShapeError` where there are none at all."""
        if not self._groups:
            raise ShapeError("steps: expected at least one trajectory, got a trace without any")
        kinds = self._kinds[self._located.group[numbers]]
        return index_in_parts(kinds, lambda kind, at: self._index_of_kind(kind, numbers[at]))

    def _index_of_kind(self, kind: int, numbers: npt.NDArray[np.int64]) -> StepIndex:
        located, rows = self._located, self._rows.get(kind)
        if rows is None:
            steps = np.bincount(self._kinds[located.group], located.steps)
            limit = int(self._memory_bytes * (steps[kind] / steps.sum()))
            is_used = self._kinds == kind
            rows = self._rows[kind] = TraceRows(self._groups, located, is_used, self._shard, self._read_steps, limit)
        first, ended = rows.first_rows[numbers], located.ended[numbers]
        flags = ended & 1 > 0, ended & 2 > 0
        return StepIndex(rows, located.steps[numbers], *flags, first, first, located.start_step[numbers])


def _is_plain(dtype: np.dtype[Any]) -> bool:
    return dtype.kind not in "USO"
