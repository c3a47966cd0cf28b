"""Which episode a trajectory belongs to, and how episodes end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from vecrollout.data.equality import same

EndedBy: TypeAlias = Literal["terminated", "truncated", "reset_early", "closed"]


@dataclass(frozen=True, eq=False)
class Episode:
    """Which episode a trajectory belongs to, and which part of it the trajectory is.

    Recorders fill it in; it does not take part in the equality of trajectories.
    """

    id: int | None = None
    """Number of the episode in its `recording`, counted in the order of the episodes' starts; None: unknown."""

    env_index: int | None = None
    """Index of the environment in the vector environment, in `[0, E)`; None: unknown."""

    start_step: int = 0
    """Index in the episode of the trajectory's first step: 0 unless the trajectory misses the episode's start."""

    seed: int | None = None
    """Seed given to the reset that began the episode; None where none was given (autoreset) or it is unknown."""

    reset_info: Mapping[str, Any] | None = None
    """Info returned by the reset that began the episode; None where it is unknown."""

    ended_by: EndedBy | None = None
    """What ended the episode at the trajectory's last step: the environment (`"terminated"`, also when it was truncated
    in the same step, or `"truncated"`), an early `reset` (`"reset_early"`), the closing of the recorder (`"closed"`);
    None where the episode goes on after the trajectory."""

    recording: str | None = None
    """Random name of the recorder's recording. With `id` it names an episode anywhere: several recorders may share a
    writer, several machines a data set. None: unknown."""

    def __eq__(self, other: object) -> bool:
        """Whether all fields are equal; never raises."""
        return isinstance(other, Episode) and same(vars(self), vars(other))

    def __hash__(self) -> int:
        # Without the reset's info, which is a dict.
        return hash((self.recording, self.id, self.env_index, self.start_step, self.seed, self.ended_by))


def ended_by(terminated: bool, truncated: bool) -> EndedBy | None:
    """How an episode with these flags ended."""
    if terminated:
        return "terminated"
    return "truncated" if truncated else None
