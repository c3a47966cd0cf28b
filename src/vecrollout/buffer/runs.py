"""Runs: steps of one episode, as they lie in blocks."""

from __future__ import annotations

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


class OpenRun:
    """An environment's running fragment.

    Its current piece began in row `piece_row` of the current block; `pieces`, with `piece_steps` steps in all, are its
    earlier ones, in blocks that are full.
    """

    __slots__ = ("env", "id", "piece_row", "piece_steps", "pieces", "reset_info", "seed", "start_step")

    def __init__(self, env: int) -> None:
        self.env = env
        self.pieces: list[Piece]
        self.begin_episode(0, 0, None, None)

    @classmethod
    def of(cls, run: Run) -> OpenRun:
        """A run that goes on, as yet without a piece in the current block."""
        reopened = cls(run.env)
        reopened.begin_episode(0, run.id, run.seed, run.reset_info)
        reopened.start_step, reopened.pieces, reopened.piece_steps = run.start_step, run.pieces, run.steps
        return reopened

    def begin_episode(self, row: int, id_: int, seed: int | None, reset_info: Info | None) -> None:
        """An episode begins; its first observation is in this row."""
        self.id = id_
        self.seed = seed
        self.reset_info = reset_info
        self.start_step = 0
        self._begin(row)

    def wait(self, row: int) -> None:
        """The episode has ended and no other begun; what is in this row begins no transition."""
        self._begin(row)

    def begin_fragment(self, row: int) -> None:
        """What was recorded so far is handed out; a fragment of the same episode begins in this row."""
        self.start_step += self.steps(row)
        self._begin(row)

    def begin_piece(self, row: int) -> None:
        """The fragment goes on in another block."""
        self.piece_row = row

    def steps(self, row: int) -> int:
        """Steps of the fragment, if the current observation is in this row."""
        return self.piece_steps + row - self.piece_row

    def end_piece(self, row: int, block: Block) -> None:
        """The block is full: the fragment has come as far as this row of it."""
        self.pieces = self.pieces_at(row, block)
        self.piece_steps = self.steps(row)
        self.piece_row = row

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
        return [*self.pieces, Piece(block, self.piece_row, steps)] if steps else self.pieces

    def _begin(self, row: int) -> None:
        self.pieces = []
        self.piece_steps = 0
        self.piece_row = row
