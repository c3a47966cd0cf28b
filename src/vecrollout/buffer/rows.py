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
        for chunk, env, row, steps, _ in run.pieces:
            table = self._tables.get(id(chunk)) or self.table(chunk)
            parts.append((table, table.rows(env, row, steps), table.steps(env, row, steps)))
        parts[-1] = table, table.rows(env, row, steps + 1), parts[-1][2]
        return parts

    @cached_property
    def _spans(self) -> dict[int, tuple[int, int]]:
        """Between which rows of a chunk the fragments lie."""
        spans: dict[int, tuple[int, int]] = {}
        for run in self._runs:
            for chunk, _, row, steps, _ in run.pieces:
                begin, end = spans.get(id(chunk), (row, 0))
                spans[id(chunk)] = min(begin, row), max(end, row + steps + 1)
        return spans


class Rows:
    """The rows of fragments, put behind one another.

    Args:
        runs: The fragments.
        source: Their chunks.
        extra: 1 to have the last observation of each, too.
    """

    def __init__(self, runs: Sequence[Run], source: Source, extra: int) -> None:
        self.extra = extra
        chunks, envs, rows, counts, _ = zip(*[piece for run in runs for piece in run.pieces], strict=True)
        last = np.cumsum([len(run.pieces) for run in runs]) - 1
        self._envs, self._rows, self._counts = np.array(envs), np.array(rows), np.array(counts)
        self._counts[last] += extra
        ends = np.cumsum(self._counts)
        self.ends = ends[last]
        """Behind the last row of each fragment."""
        self.total = int(ends[-1])
        self._begins = ends - self._counts
        ids = np.array(list(map(id, chunks)))
        # The pieces in each table.
        self._tables = [(source.table(chunk), ids == key) for key, chunk in dict(zip(ids.tolist(), chunks)).items()]
        self._indices: dict[tuple[bool, int], list[tuple[Table, Array, Any]]] = {}

    def put_obs(self, out: Array, leaf: int, item: Item, shift: int) -> None:
        """Put the rows of a column of observations in their places; with `shift` 1 the rows that follow."""
        self._put(out, leaf, item, False, shift)

    def put_steps(self, out: Array, leaf: int, item: Item | None = None) -> None:
        """Put the rows of a column of actions, rewards or infos in their places."""
        self._put(out, leaf, item, True, 0)

    def _put(self, whole: Array, leaf: int, item: Item | None, are_steps: bool, shift: int) -> None:
        closed = whole if item is None else item.closed(whole)
        if (are_steps, shift) not in self._indices:
            self._indices[are_steps, shift] = [self._index(*each, are_steps, shift) for each in self._tables]
        for table, numbers, places in self._indices[are_steps, shift]:
            column, out = table.column(leaf), closed
            theirs = None if item is None else table.layout.item(leaf - LEAVES)
            if item is not None and theirs is not None and theirs.dtype != item.dtype:
                column, out = theirs.opened(column), whole  # recorded before the column was widened
            out[places] = column.take(numbers, axis=0)

    def _index(self, table: Table, mine: Array, are_steps: bool, shift: int) -> tuple[Table, Array, Any]:
        """Numbers of the rows of a table, and their places."""
        envs, rows, counts, begins = self._envs[mine], self._rows[mine], self._counts[mine], self._begins[mine]
        ends = np.cumsum(counts)
        count = np.arange(ends[-1])
        row_of = count + np.repeat(rows + shift - ends + counts, counts)
        numbers = (table.step_numbers if are_steps else table.row_numbers)(np.repeat(envs, counts), row_of)
        places = slice(None) if len(self._tables) == 1 else count + np.repeat(begins - ends + counts, counts)
        return table, numbers, places
