"""Room for the steps to come: another block where one is full, and what is dropped where no more may be held."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import replace
from itertools import chain

import numpy as np

from vecrollout._typing import OnFull
from vecrollout.buffer.blocks import Block
from vecrollout.buffer.episodes import Episodes
from vecrollout.buffer.packing import repacked
from vecrollout.errors import BufferFullError

# When runs are copied out of the blocks that they lie in: where these are more than so many, and not even one of so
# many of their rows is held.
_FEW_BLOCKS = 3
_SPARSE = 4


class Room(Episodes):
    """Sees to it that the next step fits."""

    _max_transitions: int | None
    _on_full: OnFull

    def _make_room(self) -> None:
        if self._starts_over:
            # Not before: until the next step, what was popped last may have been let go of, and its memory be free.
            self._starts_over = False
            if not self.held:
                self._start_over()
        if self._may_be_late:
            self._drain()
        # A step takes one row, and one more where an episode ends: the last one for which there is room may take two.
        if self._arena.is_full():
            self._roll()
        room = self._arena.free_rows() - 1
        if self._arena.is_staged:
            room = min(room, self._arena.staged_steps)
        limit = self._max_transitions
        if limit is not None:
            if self._on_full == "flush" and self.held + self.num_envs > limit:
                self._close_running(np.arange(self.num_envs), None)
            while self._on_full == "drop_oldest" and self._finished and self.held + self.num_envs > limit:
                steps = self._finished[0].steps
                # No calls from here on: an interrupt cannot come between.
                self.dropped += steps
                self._finished_steps -= steps
                self._finished.popleft()
            if self.held + self.num_envs > limit:
                cure = {
                    "refuse": 'pop them, or pass on_full="drop_oldest"',
                    "drop_oldest": "raise max_transitions",
                    "flush": "the sink has to take them",
                }[self._on_full]
                raise BufferFullError(
                    f"{self.held} transitions are held, {self.num_envs} more would exceed max_transitions={limit}; "
                    f"{cure}. The environments were not stepped"
                )
            room = min(room, (limit - self.held) // self.num_envs)
        self._room = room

    def _start_over(self) -> None:
        """Nothing is held: take up memory again."""
        try:
            self._arena.start_over()
            self._begin_pieces()
        except BaseException:
            # The current observations may not have come along.
            self._begin_pieces()
            self.abort()
            raise

    def _roll(self) -> None:
        """The block is full: running fragments go on in another."""
        arena = self._arena
        before = self._mark()
        try:
            rows = arena.row.tolist()
            self._open = [run.next_piece(row, arena.block) for run, row in zip(self._open, rows, strict=True)]
            kept = self._rows_kept()
            # Where most of what went through the block is gone again, it is large enough.
            grow = 2 * kept[arena.block] > arena.block.capacity * self.num_envs
            rows_taken = sum(block.num_envs * block.capacity for block in kept)
            if len(kept) > _FEW_BLOCKS and rows_taken > _SPARSE * self.held:
                self._pack()
                kept = self._rows_kept()
            arena.roll(kept, grow)
            self._begin_pieces()
        except BaseException:
            self._return_to(before)
            raise

    def _rows_kept(self) -> Counter[Block]:
        """How many rows of each block the runs lie in, without the pieces that running fragments have begun."""
        kept: Counter[Block] = Counter()
        for run in self._finished:
            steps = run.row - run.fragment.piece_row
            if steps:  # its last piece, which is the only one of most
                kept[run.block] += steps + 1
        for earlier in chain(self._open, (run.fragment for run in self._finished)):
            for piece in earlier.pieces:
                kept[piece.block] += piece.steps + 1
        return kept

    def _pack(self) -> None:
        """A few long runs keep many blocks from being freed: copy them, and let go of the blocks."""
        runs = [*(run.pieces for run in self._finished), *(run.pieces for run in self._open)]
        copies = iter(repacked(runs, self._arena.layout))
        self._finished = deque(run.moved(next(copies)) for run in self._finished)
        self._open = [replace(run, pieces=next(copies)) for run in self._open]
