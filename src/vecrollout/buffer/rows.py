"""Which rows of which chunk some fragments consist of."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np

from vecrollout._typing import Array
from vecrollout.buffer.episodes import Run
from vecrollout.buffer.layout import Layout
from vecrollout.buffer.memory import Chunk
from vecrollout.buffer.table import LEAVES, Table
from vecrollout.data.kinds import Item

# Pieces of so many rows on average are put in their places one by one, shorter ones all at once.
_SLICED_ROWS = 6

Part: TypeAlias = tuple[Table, Any, Any]
"""A table, and where a fragment's observations and steps are in it."""


class Source:
    """The chunks that some fragments lie in, as tables.

    Args:
        runs: The fragments.
        layout: What their columns are made of.
    """

    def __init__(self, runs: Sequence[Run], layout: Layout) -> None:
        self._runs = runs
        self._layout = layout
        self._tables: dict[int, Table] = {}
        self.is_narrow = False
        """Whether some tables so far have narrower dtypes than the layout, which was widened since."""

    def table(self, chunk: Chunk) -> Table:
        """A chunk's columns, with all rows that the fragments need."""
        table = self._tables.get(id(chunk))
        if table is None:
            span = (0, None) if chunk.is_sealed else self._spans[id(chunk)]
            table = self._tables[id(chunk)] = chunk.table(*span)
            if table.layout is not self._layout and table.layout.items != self._layout.items:
                self.is_narrow = True
        return table

    def parts_of(self, run: Run) -> list[Part]:
        """Where a fragment's rows are; its last observation is in the last part."""
        parts = []
        last = run.pieces[-1]
        for piece in run.pieces:
            chunk, env, row, steps = piece.chunk, piece.env, piece.row, piece.steps
            table = self._tables.get(id(chunk)) or self.table(chunk)
            rows = table.rows(env, row, steps + 1 if piece is last else steps)
            parts.append((table, rows, table.steps(env, row, steps)))
        return parts

    @cached_property
    def _spans(self) -> dict[int, tuple[int, int]]:
        """Between which rows of a chunk the fragments lie."""
        spans: dict[int, tuple[int, int]] = {}
        for run in self._runs:
            for piece in run.pieces:
                key, row = id(piece.chunk), piece.row
                begin, end = spans.get(key, (row, 0))
                spans[key] = min(begin, row), max(end, row + piece.steps + 1)
        return spans


class Rows:
    """Where the rows of fragments go if they are put behind one another.

    Args:
        runs: The fragments.
        source: Their chunks.
        extra: 1 to have the last observation of each, too.
    """

    def __init__(self, runs: Sequence[Run], source: Source, extra: int) -> None:
        self._source = source
        self.extra = extra
        self.ends = np.cumsum([run.steps + extra for run in runs], dtype=np.int64)
        self.total = int(self.ends[-1])
        # By table: the environment of each piece, its first row, the number of its rows, and its place.
        self._pieces: dict[int, list[tuple[int, int, int, int]]] = {}
        self._tables: dict[int, Table] = {}
        at = count = 0
        for run in runs:
            last = run.pieces[-1]
            for piece in run.pieces:
                steps = piece.steps + extra if piece is last else piece.steps
                key = id(piece.chunk)
                pieces = self._pieces.get(key)
                if pieces is None:
                    self._tables[key] = source.table(piece.chunk)
                    pieces = self._pieces[key] = []
                pieces.append((piece.env, piece.row, steps, at))
                at += steps
            count += len(run.pieces)
        self._is_sliced = self.total >= _SLICED_ROWS * count
        self._indices: dict[tuple[int, bool, int], tuple[Array, Array]] = {}

    def put_obs(self, out: Array, leaf: int, item: Item, shift: int) -> None:
        """Put the rows of a column of observations in their places; with `shift` 1 the rows that follow.

        Args:
            out: Where to.
            leaf: Entry of the records.
            item: What rows of `out` are.
            shift: 0 or 1.
        """
        self._put(out, leaf, item, False, shift)

    def put_steps(self, out: Array, leaf: int, item: Item | None = None) -> None:
        """Put the rows of a column of actions, rewards or infos in their places."""
        self._put(out, leaf, item, True, 0)

    def _put(self, whole: Array, leaf: int, item: Item | None, are_steps: bool, shift: int) -> None:
        closed = whole if item is None else item.closed(whole)
        for key, table in self._tables.items():
            column, out = table.column(leaf), closed
            theirs = None if item is None else table.layout.item(leaf - LEAVES)
            if item is not None and theirs is not None and theirs.dtype != item.dtype:
                column, out = theirs.opened(column), whole  # recorded before the column was widened
            if self._is_sliced:
                where = table.steps if are_steps else table.rows
                for env, row, rows, at in self._pieces[key]:
                    out[at : at + rows] = column[where(env, row + shift, rows)]
            else:
                numbers, places = self._index(key, are_steps, shift)
                out[places] = column.take(numbers, axis=0)

    def _index(self, key: int, are_steps: bool, shift: int) -> tuple[Array, Array]:
        """Numbers of the rows of a table, and their places."""
        if (key, are_steps, shift) not in self._indices:
            envs, rows, counts, at = np.array(self._pieces[key]).T
            ends = np.cumsum(counts)
            count = np.arange(ends[-1])
            row_of = count + np.repeat(rows + shift - ends + counts, counts)
            table = self._tables[key]
            numbers = (table.step_numbers if are_steps else table.row_numbers)(np.repeat(envs, counts), row_of)
            self._indices[key, are_steps, shift] = numbers, count + np.repeat(at - ends + counts, counts)
        return self._indices[key, are_steps, shift]
