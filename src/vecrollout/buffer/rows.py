"""Which rows of which chunk some fragments consist of."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any, TypeAlias

import numpy as np

from vecrollout._typing import Array
from vecrollout.buffer.episodes import Run
from vecrollout.buffer.memory import LEAVES, Chunk
from vecrollout.data.kinds import Item

# Fragments of so many steps in a chunk are put in their places one by one, shorter ones all at once.
_SLICED_STEPS = 12

Part: TypeAlias = tuple[Chunk, Any, Array, tuple[int, int]]
"""A chunk, places in the result, numbers of rows, and between which rows of the chunk they lie."""


class Rows:
    """Which rows of which chunk some fragments consist of, and where each goes.

    Args:
        runs: The fragments.
        extra: 1 to have the last observation of each, too.
    """

    def __init__(self, runs: Sequence[Run], extra: int = 0) -> None:
        self.extra = extra
        pieces = list(chain.from_iterable([run.pieces for run in runs]))
        chunks, envs, rows, lengths, _ = zip(*pieces, strict=True)
        steps = np.array(lengths, np.int64)
        ends = np.cumsum([len(run.pieces) for run in runs])
        steps[ends - 1] += extra
        behind = np.cumsum(steps)
        self.ends = behind[ends - 1]
        self.total = int(behind[-1])
        table = np.array([envs, rows, steps, behind - steps])
        each = list(dict.fromkeys(chunks))
        ids = np.array(list(map(id, chunks))) if len(each) > 1 else None
        self._chunks = [(chunk, table if ids is None else table[:, ids == id(chunk)]) for chunk in each]
        self._known: dict[int, list[Part]] = {}

    def by_chunk(self, shift: int) -> list[Part]:
        """What each chunk contributes; with `shift` 1, the rows that follow."""
        if shift not in self._known:
            self._known[shift] = [self._part(chunk, pieces, shift) for chunk, pieces in self._chunks]
        return self._known[shift]

    def _part(self, chunk: Chunk, pieces: Array, shift: int) -> Part:
        envs, rows, steps, at = pieces
        ends = np.cumsum(steps)
        before = ends - steps
        count = np.arange(ends[-1])
        numbers = chunk.numbers(np.repeat(envs, steps), count + np.repeat(rows + shift - before, steps))
        if len(self._chunks) == 1:  # the fragments lie in the result as they come
            places: Any = None
        elif ends[-1] >= _SLICED_STEPS * len(steps):
            places = list(zip(at.tolist(), before.tolist(), ends.tolist(), strict=True))
        else:
            places = count + np.repeat(at - before, steps)
        return chunk, places, numbers, (int(rows.min()) + shift, int((rows + steps).max()) + shift)

    def take_into(self, item: Item, leaf: int, out: Array, shift: int) -> None:
        """A column of small items."""
        closed = item.closed(out)
        for chunk, places, numbers, span in self.by_chunk(shift):
            theirs = chunk.layout.item(leaf - LEAVES)
            rows = chunk.take(leaf, numbers, *span)
            if theirs.dtype == item.dtype:
                put(closed, places, rows)
            else:  # recorded before the column was widened
                put(out, places, theirs.opened(rows))


def put(out: Array, places: Any, rows: Array) -> None:
    """Put the rows of a chunk in their places: one behind another, in slices, or one by one."""
    if places is None:
        out[:] = rows
    elif type(places) is list:
        for at, begin, end in places:
            out[at : at + end - begin] = rows[begin:end]
    else:
        out[places] = rows
