"""Which rows of the log are which episode: worked out from the notes of the records when somebody asks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

from vecrollout._typing import Info
from vecrollout.buffer.memory import Chunk
from vecrollout.data.episode import EndedBy, Episode, ended_by
from vecrollout.data.fields import trusted

# None of these classes is frozen, and none is a named tuple: making one would take several times as long, and most of
# what short episodes cost is making these. Nobody alters a `Piece`, a `Span` or a `Run`.


@dataclass(slots=True, eq=False)
class Ending:
    """An episode that ended with a step."""

    env: int
    terminated: bool
    truncated: bool
    final_obs: Any
    """The episode's last observation, where the step's own observation begins the next episode already. None: the
    step's own is the last one, and the environment waits to be reset. An array is the buffer's to keep. A log puts the
    leaves in its place."""
    info: Info | None = None
    """The step's info, the buffer's to keep. None: it is among the step's infos like those of the others."""
    reset_info: Info | None = None
    """Info of the reset that began the next episode, if one did."""
    drops_last: bool = False
    """Whether the last observation is lost: the step's own begins the next episode, and the transition is dropped."""

    @property
    def begins(self) -> bool:
        """Whether an episode begins with the record's observation."""
        return self.final_obs is not None or self.drops_last


@dataclass(slots=True, eq=False)
class Restart:
    """An environment that was reset in place of a step, or between two steps: its observation begins an episode."""

    env: int
    reset_info: Info | None
    seed: int | None = None
    """Seed given to the reset, where it is known."""
    start_step: int = 0
    """How far the episode has come already."""

    begins: ClassVar[bool] = True
    final_obs: ClassVar[None] = None


@dataclass(slots=True, eq=False)
class Discard:
    """An episode that is dropped while it runs: what was recorded of it, and the steps until its end."""

    env: int

    begins: ClassVar[bool] = False
    final_obs: ClassVar[None] = None


Note: TypeAlias = Ending | Restart | Discard
"""What a record says about an episode."""


@dataclass(slots=True, eq=False)
class Piece:
    """Steps of one environment in one chunk."""

    chunk: Chunk
    env: int
    row: int
    """Row of the observation before the first step."""
    steps: int
    lane: int
    """The same row in the lanes."""


@dataclass(slots=True, eq=False)
class Span:
    """Where a fragment of an episode begins."""

    recording: str
    env: int
    id: int | None
    seed: int | None
    reset_info: Info | None
    start_step: int
    """Index in the episode of the fragment's first step."""
    chunk: int = 0
    """Number of the chunk that the fragment begins in,"""
    row: int = 0
    """the row there,"""
    lane: int = 0
    """and the row in its lanes."""
    before: tuple[Piece, ...] = ()
    """Earlier steps, which were copied out of their chunks."""

    @classmethod
    def of_episode(cls, episode: Episode) -> Span:
        """A fragment of an episode that a recorder named."""
        info = episode.reset_info
        named = episode.recording or "", episode.env_index or 0, episode.id, episode.seed
        return cls(*named, None if info is None else dict(info), episode.start_step)

    def later(self, steps: int, chunk: int, row: int, lane: int, before: tuple[Piece, ...] = ()) -> Span:
        """The fragment of the same episode that begins so many steps later, in this place."""
        named = self.recording, self.env, self.id, self.seed, self.reset_info
        return Span(*named, self.start_step + steps, chunk, row, lane, before)

    def episode(self, ended_by: EndedBy | None = None) -> Episode:
        """The identity of the fragment."""
        return trusted(
            Episode,
            {
                "id": self.id,
                "env_index": self.env,
                "start_step": self.start_step,
                "seed": self.seed,
                "reset_info": self.reset_info,
                "ended_by": ended_by,
                "recording": self.recording,
            },
        )


@dataclass(slots=True, eq=False)
class Run:
    """Steps of one episode, in their places: what becomes a trajectory."""

    span: Span
    pieces: tuple[Piece, ...]
    steps: int
    ending: Ending | None = None
    """How the environment ended the episode with the last step; None: it did not."""
    closed_by: EndedBy | None = None
    """What else ended it."""

    @property
    def final(self) -> Sequence[Any] | None:
        """Leaves of the last observation, where it is not the row behind the last step."""
        return None if self.ending is None else self.ending.final_obs

    @property
    def episode(self) -> Episode:
        """The identity, which is made when it is asked for."""
        return self.span.episode(self.ended_by)

    @property
    def ended_by(self) -> EndedBy | None:
        """What ended the episode at the last step."""
        ending = self.ending
        return self.closed_by if ending is None else ended_by(ending.terminated, ending.truncated)
