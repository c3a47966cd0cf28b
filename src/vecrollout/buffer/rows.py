"""Which rows of which chunk some fragments consist of."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from vecrollout._typing import Array
from vecrollout.buffer.episodes import Piece, Run
from vecrollout.buffer.memory import Chunk

# Pieces of so many rows on average are put in their places one by one, shorter ones all at once.
_SLICED_ROWS = 6


class Source:
    """Rows of the chunks that some fragments lie in.

    Args:
        runs: The fragments.
    """

    def __init__(self, runs: Sequence[Run]) -> None:
        self._runs = runs
        self._columns: dict[tuple[int, int], tuple[Array, int]] = {}

    def column(self, chunk: Chunk, leaf: int) -> tuple[Array, int]:
        """As `Chunk.column`, with all rows that the fragments need; joined once."""
        found = self._columns.get((id(chunk), leaf))
        if found is None:
            span = (0, 0) if chunk.is_sealed else self._spans[id(chunk)]
            found = self._columns[id(chunk), leaf] = chunk.column(leaf, *span)
        return found

    def rows_of(self, run: Run, leaf: int, shift: int) -> Any:
        """Rows of a fragment, as a copy; with `shift` 0 up to its last observation, with 1 those behind the first."""
        *before, last = run.pieces
        rows = self._rows_of(last, leaf, shift, last.row + last.steps + 1)
        if not before:
            return rows.copy()
        # The last observation of a piece is the first one of the next.
        parts = [self._rows_of(piece, leaf, shift, piece.row + shift + piece.steps) for piece in before]
        return np.concatenate([*parts, rows])

    def _rows_of(self, piece: Piece, leaf: int, shift: int, end: int) -> Any:
        column, first = self.column(piece.chunk, leaf)
        return piece.chunk.rows(column, first, piece.env, piece.row + shift, end)

    @cached_property
    def _spans(self) -> dict[int, tuple[int, int]]:
        """Between which rows of a chunk the fragments lie."""
        spans: dict[int, tuple[int, int]] = {}
        for run in self._runs:
            for piece in run.pieces:
                begin, end = spans.get(id(piece.chunk), (piece.row, 0))
                spans[id(piece.chunk)] = min(begin, piece.row), max(end, piece.row + piece.steps + 1)
        return spans


class Rows:
    """Where the rows of fragments go if they are put behind one another.

    Args:
        runs: The fragments.
        source: Their rows.
        extra: 1 to have the last observation of each, too.
    """

    def __init__(self, runs: Sequence[Run], source: Source, extra: int) -> None:
        self._source = source
        self.extra = extra
        self.ends = np.cumsum([run.steps + extra for run in runs], dtype=np.int64)
        self.total = int(self.ends[-1])
        pieces: dict[int, list[tuple[int, int, int, int]]] = {}
        self._chunks: dict[int, Chunk] = {}
        at = 0
        for run in runs:
            last = len(run.pieces) - 1
            for j, (chunk, env, row, steps, _) in enumerate(run.pieces):
                steps += extra if j == last else 0
                pieces.setdefault(id(chunk), []).append((env, row, steps, at))
                self._chunks[id(chunk)] = chunk
                at += steps
        # By chunk: the environment of each piece, its first row, the number of its rows, and its place.
        self._pieces = pieces
        self._indices: dict[tuple[int, int], tuple[Array, Array]] = {}

    def put(self, out: Array, leaf: int, shift: int) -> None:
        """Put the rows of a column of small items in their places.

        Args:
            out: Where to, one opaque element a row.
            leaf: Entry of the records.
            shift: 1 for the rows that follow: of actions, rewards and infos those of the observations they led to.
        """
        for key, chunk in self._chunks.items():
            column, first = self._source.column(chunk, leaf)
            pieces = self._pieces[key]
            if self.total >= _SLICED_ROWS * len(pieces) * len(self._chunks):
                for env, row, rows, at in pieces:
                    out[at : at + rows] = chunk.rows(column, first, env, row + shift, row + shift + rows)
            else:
                numbers, places = self._index(key, shift)
                out[places] = column.take(numbers - first * chunk.layout.num_envs, axis=0)

    def _index(self, key: int, shift: int) -> tuple[Array, Array]:
        """Numbers of the rows of a chunk, and their places."""
        if (key, shift) not in self._indices:
            envs, rows, counts, at = np.array(self._pieces[key]).T
            ends = np.cumsum(counts)
            count = np.arange(ends[-1])
            numbers = self._chunks[key].numbers(
                np.repeat(envs, counts), count + np.repeat(rows + shift - ends + counts, counts)
            )
            self._indices[key, shift] = numbers, count + np.repeat(at - ends + counts, counts)
        return self._indices[key, shift]
