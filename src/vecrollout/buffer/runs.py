"""Runs: steps of one episode, as they lie in blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from vecrollout._typing import Info
from vecrollout.buffer.blocks import Block, Piece
from vecrollout.data.fields import trusted
from vecrollout.data.trajectory import EndedBy, Episode


# Neither is altered once it is made. They are not frozen, because that makes one several times as expensive to make.
@dataclass(slots=True, eq=False)
class OpenRun:
    """An environment's running fragment.

    Its current piece began in row `piece_row` of the current block; `pieces`, with `piece_steps` steps in all, are its
    earlier ones, in blocks that are full.
    """

    env: int
    id: int = 0
    seed: int | None = None
    reset_info: Info | None = None
    start_step: int = 0
    """Index in the episode of the first step."""
    pieces: Sequence[Piece] = ()
    piece_steps: int = 0
    piece_row: int = 0

    def resting(self, row: int) -> OpenRun:
        """The episode has ended and no other begun; what is in this row begins no transition."""
        return replace(self, pieces=(), piece_steps=0, piece_row=row)

    def next_fragment(self, row: int) -> OpenRun:
        """What was recorded so far is handed out; a fragment of the same episode begins in this row."""
        start_step = self.start_step + self.steps(row)
        return OpenRun(self.env, self.id, self.seed, self.reset_info, start_step, piece_row=row)

    def next_piece(self, row: int, block: Block) -> OpenRun:
        """The block is full: the fragment has come as far as this row of it."""
        return replace(self, pieces=self.pieces_at(row, block), piece_steps=self.steps(row), piece_row=row)

    def moved(self, row: int) -> OpenRun:
        """The current observation, with which a piece begins, is in this row now."""
        return replace(self, piece_row=row)

    def steps(self, row: int) -> int:
        """Steps of the fragment, if the current observation is in this row."""
        return self.piece_steps + row - self.piece_row

    def pieces_at(self, row: int, block: Block) -> list[Piece]:
        """All pieces, the one that runs up to this row included."""
        steps = row - self.piece_row
        return [*self.pieces, Piece(block, self.piece_row, steps)] if steps else [*self.pieces]


@dataclass(slots=True, eq=False)
class Run:
    """Steps of one episode: what becomes a trajectory. Noted as it ends, and worked out when it is looked at."""

    fragment: OpenRun
    """The running fragment that it was."""
    row: int
    """Row of the last observation."""
    block: Block
    """The block that the row is in."""
    ended_by: EndedBy | None = None
    terminated: bool = False
    truncated: bool = False

    @property
    def steps(self) -> int:
        """Number of steps."""
        return self.fragment.steps(self.row)

    @property
    def pieces(self) -> list[Piece]:
        """Where they lie: one piece a block."""
        return self.fragment.pieces_at(self.row, self.block)

    @property
    def terminal(self) -> bool:
        """Whether the environment ended the episode with the last step."""
        return self.terminated or self.truncated

    @property
    def episode_steps(self) -> int:
        """Steps of the episode up to the run's end."""
        return self.fragment.start_step + self.steps

    def episode(self) -> Episode:
        """The identity that the trajectory gets."""
        fragment = self.fragment
        return trusted(
            Episode,
            {
                "id": fragment.id,
                "env_index": fragment.env,
                "start_step": fragment.start_step,
                "seed": fragment.seed,
                "reset_info": fragment.reset_info,
                "ended_by": self.ended_by,
            },
        )

    def moved(self, pieces: list[Piece]) -> Run:
        """The same steps, copied to these pieces."""
        fragment = replace(self.fragment, pieces=pieces, piece_steps=self.steps, piece_row=self.row)
        return replace(self, fragment=fragment, block=pieces[-1].block)
