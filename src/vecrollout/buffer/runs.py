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
    """An environment's running fragment: where it and its episode began.

    Steps are counted in ticks, which all environments share. The fragment's current piece began at `piece_tick` in row
    `piece_row` of the current block; `pieces` are its earlier ones, in blocks that are full.
    """

    __slots__ = ("env", "episode_tick", "id", "piece_row", "piece_tick", "pieces", "reset_info", "seed", "tick")

    def __init__(self, env: int) -> None:
        self.env = env
        self.begin_episode(0, 0, 0, None, None)

    def begin_episode(self, tick: int, row: int, id_: int, seed: int | None, reset_info: Info | None) -> None:
        """An episode begins at this tick; its first observation is in this row."""
        self.id = id_
        self.seed = seed
        self.reset_info = reset_info
        self.episode_tick = tick
        self.begin(tick, row)

    def begin(self, tick: int, row: int) -> None:
        """A fragment of the same episode begins."""
        self.tick = tick
        self.pieces: list[Piece] = []
        self.begin_piece(tick, row)

    def begin_piece(self, tick: int, row: int) -> None:
        """The fragment goes on in another block."""
        self.piece_tick = tick
        self.piece_row = row

    def pieces_at(self, tick: int, block: Block, block_tick: int) -> list[Piece]:
        """All pieces, if the fragment ends at this tick."""
        steps = tick - self.piece_tick
        if not steps:
            return self.pieces
        return [*self.pieces, Piece(block, self.env, self.piece_row, steps, self.piece_tick - block_tick)]
