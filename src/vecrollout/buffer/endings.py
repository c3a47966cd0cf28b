"""What a step does to episodes, as a wrapper tells it to the buffer."""

from __future__ import annotations

from dataclasses import dataclass

from vecrollout._typing import Info
from vecrollout.data.trees import Tree


# Not frozen: that makes one several times as expensive, and most of what short episodes cost is making these.
@dataclass(slots=True, eq=False)
class Ending:
    """An episode that ended with a step."""

    at: int
    """Where in the step's arrays the environment stands: its index, unless the step was one of some environments."""
    terminated: bool
    truncated: bool
    final_obs: Tree | None
    """The episode's last observation, where the step's own observation of the environment begins the next episode
    already. None: the step's own is the last one, and the environment waits to be reset."""
    info: Info | None = None
    """The step's info, ours to keep. None: it is among the step's infos as those of the other environments."""
    reset_info: Info | None = None
    """Info of the reset that began the next episode, if one did."""
    drops_last: bool = False
    """Whether the last observation is lost: the step's own begins the next episode, and the transition is dropped."""


@dataclass(slots=True, eq=False)
class Restart:
    """An environment that was reset in the place of being stepped: its observation begins an episode."""

    at: int
    """Where in the step's arrays the environment stands."""
    reset_info: Info | None
    seed: int | None = None
    """Seed given to the reset, where it is known."""
