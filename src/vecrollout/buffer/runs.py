"""Runs: steps of one episode, as they lie in blocks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from vecrollout._typing import Info
from vecrollout.buffer.blocks import Block, Piece
from vecrollout.fields import trusted
from vecrollout.trajectory import EndedBy, Episode


class Run(NamedTuple):
    """Steps of one episode, in one piece a block: what becomes a trajectory."""

    pieces: list[Piece]
    steps: int
    start_step: int
    """Index in the episode of the first step."""
    id: int
    env: int
    seed: int | None
    reset_info: Info | None
    ended_by: EndedBy | None = None
    terminated: bool = False
    truncated: bool = False

    @property
    def terminal(self) -> bool:
        """Whether the environment ended the episode with the last step."""
        return self.terminated or self.truncated

    @property
    def episode_steps(self) -> int:
        """Steps of the episode up to the run's end."""
        return self.start_step + self.steps

    def episode(self) -> Episode:
        """The identity that the trajectory gets."""
        return trusted(
            Episode,
            {
                "id": self.id,
                "env_index": self.env,
                "start_step": self.start_step,
                "seed": self.seed,
                "reset_info": self.reset_info,
                "ended_by": self.ended_by,
            },
        )


class OpenRun(NamedTuple):
    """An environment's running fragment.

    Its current piece began in row `piece_row` of the current block; `pieces`, with `piece_steps` steps in all, are its
    earlier ones, in blocks that are full.
    """

    env: int
    id: int = 0
    seed: int | None = None
    reset_info: Info | None = None
    start_step: int = 0
    pieces: Sequence[Piece] = ()
    piece_steps: int = 0
    piece_row: int = 0

    @classmethod
    def of(cls, run: Run) -> OpenRun:
        """A run that goes on, as yet without a piece in the current block."""
        return cls(run.env, run.id, run.seed, run.reset_info, run.start_step, run.pieces, run.steps)

    def resting(self, row: int) -> OpenRun:
        """The episode has ended and no other begun; what is in this row begins no transition."""
        return self._replace(pieces=(), piece_steps=0, piece_row=row)

    def next_fragment(self, row: int) -> OpenRun:
        """What was recorded so far is handed out; a fragment of the same episode begins in this row."""
        start_step = self.start_step + self.steps(row)
        return OpenRun(self.env, self.id, self.seed, self.reset_info, start_step, piece_row=row)

    def next_piece(self, row: int, block: Block) -> OpenRun:
        """The block is full: the fragment has come as far as this row of it."""
        return self._replace(pieces=self.pieces_at(row, block), piece_steps=self.steps(row), piece_row=row)

    def moved(self, row: int) -> OpenRun:
        """The current observation, with which a piece begins, is in this row now."""
        return self._replace(piece_row=row)

    def steps(self, row: int) -> int:
        """Steps of the fragment, if the current observation is in this row."""
        return self.piece_steps + row - self.piece_row

    def close(
        self, row: int, block: Block, ended_by: EndedBy | None, terminated: bool = False, truncated: bool = False
    ) -> Run:
        """The fragment as it stands, if the current observation is in this row."""
        return Run(
            self.pieces_at(row, block),
            self.steps(row),
            self.start_step,
            self.id,
            self.env,
            self.seed,
            self.reset_info,
            ended_by,
            terminated,
            truncated,
        )

    def pieces_at(self, row: int, block: Block) -> list[Piece]:
        """All pieces, the one that runs up to this row included."""
        steps = row - self.piece_row
        return [*self.pieces, Piece(block, self.piece_row, steps)] if steps else [*self.pieces]
