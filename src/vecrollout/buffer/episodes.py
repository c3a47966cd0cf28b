"""Which rows of the log are which episode: worked out from the notes of the records when somebody asks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from vecrollout._typing import Array, Info
from vecrollout.buffer.memory import Chunk
from vecrollout.data.trajectory import Episode
from vecrollout.data.trees import Tree


# Neither is frozen: that makes one several times as expensive, and most of what short episodes cost is making these.
@dataclass(slots=True, eq=False)
class Ending:
    """An episode that ended with a step."""

    at: int
    """Where in the step's arrays the environment stands: its index, unless only some environments stepped."""
    terminated: bool
    truncated: bool
    final_obs: Tree | None
    """The episode's last observation, where the step's own observation begins the next episode already. None: the
    step's own is the last one, and the environment waits to be reset."""
    info: Info | None = None
    """The step's info, the buffer's to keep. None: it is among the step's infos like those of the others."""
    reset_info: Info | None = None
    """Info of the reset that began the next episode, if one did."""
    drops_last: bool = False
    """Whether the last observation is lost: the step's own begins the next episode, and the transition is dropped."""


@dataclass(slots=True, eq=False)
class Restart:
    """An environment that was reset in place of a step: its observation begins an episode."""

    at: int
    """Where in the step's arrays the environment stands."""
    reset_info: Info | None
    seed: int | None = None
    """Seed given to the reset, where it is known."""
    start_step: int = 0
    """How far the episode has come already."""


@dataclass(slots=True, eq=False)
class Discard:
    """An episode that is dropped while it runs: what was recorded of it, and the steps until its end."""


class Note(NamedTuple):
    """What a record says about an episode."""

    env: int
    change: Ending | Restart | Discard
    final: Sequence[Array] | None
    """Leaves of the last observation, where the record has the next episode's first one."""
    begins: bool
    """Whether an episode begins with the record's observation."""


class Piece(NamedTuple):
    """Steps of one environment in one chunk."""

    chunk: Chunk
    env: int
    row: int
    """Row of the observation before the first step."""
    steps: int
    lane: int
    """The same row in the lanes."""


class Span(NamedTuple):
    """An environment's running fragment."""

    env: int
    id: int
    seed: int | None
    reset_info: Info | None
    start_step: int
    """Index in the episode of the fragment's first step."""
    chunk: int
    """Number of the chunk that the fragment begins in,"""
    row: int
    """the row there,"""
    lane: int
    """and the row in its lanes."""
    before: tuple[Piece, ...] = ()
    """Earlier steps, which were copied out of their chunks."""


class Run(NamedTuple):
    """Steps of one episode, in their places: what becomes a trajectory."""

    pieces: tuple[Piece, ...]
    steps: int
    episode: Episode
    terminated: bool = False
    truncated: bool = False
    final: Sequence[Array] | None = None
    """Leaves of the last observation, where it is not the row behind the last step."""
    info: Info | None = None
    """Info of the last step, where it is not the row's."""

    @property
    def terminal(self) -> bool:
        """Whether the environment ended the episode with the last step."""
        return self.terminated or self.truncated
