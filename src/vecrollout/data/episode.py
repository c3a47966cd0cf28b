"""The identity of an episode, and how it ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from vecrollout.data.equality import same

EndedBy: TypeAlias = Literal["terminated", "truncated", "reset_early", "closed"]


@dataclass(frozen=True, eq=False)
class Episode:
    """The episode of a trajectory, and where the trajectory starts in it.

    Recorders fill it in. Equality of trajectories ignores it.
    """

    id: int | None = None
    """Number of the episode in its `recording`, in the order of the episodes' starts; None: unknown."""

    env_index: int | None = None
    """Index of the environment in the vector environment, in `[0, E)`; None: unknown."""

    start_step: int = 0
    """Index of the trajectory's first step in the episode; 0 unless the episode's start is missing."""

    seed: int | None = None
    """Seed of the reset that began the episode; None if there was no seed (autoreset) or it is unknown."""

    reset_info: Mapping[str, Any] | None = None
    """Info of the reset that began the episode; None: unknown."""

    ended_by: EndedBy | None = None
    """What ended the episode at the trajectory's last step: the environment (`"terminated"`, also if the step was
    truncated too, or `"truncated"`), an early `reset` (`"reset_early"`), or the end of the recorder (`"closed"`). None:
    the episode goes on after the trajectory."""

    recording: str | None = None
    """Random name that a recorder draws once. `recording` and `id` together name an episode anywhere, also if several
    recorders share a writer, or several machines a dataset. None: unknown."""

    def __eq__(self, other: object) -> bool:
        """Whether all fields are equal; never raises."""
        return isinstance(other, Episode) and same(vars(self), vars(other))

    def __hash__(self) -> int:
        # Without the reset's info, which is a dict.
        return hash((self.recording, self.id, self.env_index, self.start_step, self.seed, self.ended_by))


def ended_by(terminated: bool, truncated: bool) -> EndedBy | None:
    """The `ended_by` of an episode with these flags."""
    if terminated:
        return "terminated"
    return "truncated" if truncated else None
