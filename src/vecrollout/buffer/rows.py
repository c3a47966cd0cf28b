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

TablePart: TypeAlias = tuple[Table, Any, Any]
"""A table, and where a fragment's observations and steps are in it."""

# Rows that are gathered at a time. They stay in the processor's caches until they are in their places, and so do the
# info dicts whose references are counted.
_BLOCK_ROWS = 4096


class Tables:
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

    def parts_of(self, run: Run) -> list[TablePart]:
        """Where a fragment's rows are; its last observation is in the last part."""
        parts = []
        last = run.pieces[-1]
        for piece in run.pieces:
            env, row, steps = piece.env, piece.row, piece.steps
            table = self._tables.get(id(piece.chunk)) or self.table(piece.chunk)
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
    """The rows of fragments, put behind one another: those of the steps, or with `extra` 1 the last observations too.

    Args:
        runs: The fragments.
        tables: Their chunks.
    """

    def __init__(self, runs: Sequence[Run], tables: Tables) -> None:
        pieces = [piece for run in runs for piece in run.pieces]
        chunks = [piece.chunk for piece in pieces]
        count = len(pieces)
        self._envs = np.fromiter([piece.env for piece in pieces], np.int64, count)
        self._firsts = np.fromiter([piece.row for piece in pieces], np.int64, count)
        self._steps = np.fromiter([piece.steps for piece in pieces], np.int64, count)
        self._last: Any = slice(None)  # pieces with which a fragment ends
        if len(pieces) > len(runs):
            self._last = np.cumsum([len(run.pieces) for run in runs]) - 1
        by_id = dict(zip(map(id, chunks), chunks, strict=True))
        self._tables: list[tuple[Table, Any]] = [(tables.table(chunk), slice(None)) for chunk in by_id.values()]
        if len(by_id) > 1:
            ids = np.fromiter(map(id, chunks), np.int64, count)
            self._tables = [(tables.table(chunk), ids == key) for key, chunk in by_id.items()]
        # Otherwise steps have the numbers of the observations before them.
        self._is_ragged = any(table.is_ragged for table, _ in self._tables)
        self._indices: dict[tuple[bool, int, int], list[tuple[Table, Array, Any]]] = {}

    def ends(self, extra: int) -> Array:
        """The number of rows up to the end of each fragment."""
        ends: Array = np.cumsum(self._counts(extra))[self._last]
        return ends

    def put(
        self, whole: Array, leaf: int, item: Item | None, *, are_steps: bool = False, shift: int = 0, extra: int = 0
    ) -> None:
        """Put the rows of a column in their places.

        `are_steps`: the column has actions, rewards or infos, and otherwise observations. `shift` 1 takes the following
        rows. With `extra`, rows behind the last steps have anything. An `item` of None means infos.
        """
        closed = whole if item is None else item.closed(whole)
        which = are_steps and self._is_ragged, shift, extra
        if which not in self._indices:
            self._indices[which] = self._index(*which)
        for table, numbers, places in self._indices[which]:
            column, out = table.column(leaf), closed
            theirs = None if item is None else table.layout.item(leaf - LEAVES)
            if item is not None and theirs is not None and theirs.dtype != item.dtype:
                column, out = theirs.opened(column), whole  # recorded before the column was widened
            for begin in range(0, len(numbers), _BLOCK_ROWS):
                block = slice(begin, begin + _BLOCK_ROWS)
                out[block if places is None else places[block]] = column.take(numbers[block], axis=0, mode="clip")

    def _counts(self, extra: int) -> Array:
        """Rows of each piece."""
        counts = self._steps.copy()
        counts[self._last] += extra
        return counts

    def _index(self, are_steps: bool, shift: int, extra: int) -> list[tuple[Table, Array, Any]]:
        """Each table, the numbers of its rows, and their places. Places of None are one behind another."""
        counts = self._counts(extra)
        begins = np.cumsum(counts) - counts
        found = []
        for table, mine in self._tables:
            rows = counts[mine]
            numbers_of = table.step_numbers if are_steps else table.row_numbers
            numbers = numbers_of(self._envs[mine], self._firsts[mine] + shift, rows)
            places = None
            if len(self._tables) > 1:
                places = np.arange(len(numbers)) + np.repeat(begins[mine] - (np.cumsum(rows) - rows), rows)
            found.append((table, numbers, places))
        return found
