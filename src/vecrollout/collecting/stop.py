"""Conditions that end a collection."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, overload

from vecrollout.data.trajectory import TrajectoryWithRew, cut
from vecrollout.errors import ArgumentTypeError, OptionError

SampleUntil: TypeAlias = Callable[[Sequence[TrajectoryWithRew]], bool]
"""A condition: takes the trajectories collected so far and says whether they are enough."""


class Collected(Sequence[TrajectoryWithRew]):
    """The trajectories collected so far, and the number of their steps, which a condition asks for at every step."""

    def __init__(self) -> None:
        self._trajectories: list[TrajectoryWithRew] = []
        self.steps = 0
        """Steps of all trajectories together."""

    def extend(self, trajectories: Iterable[TrajectoryWithRew]) -> None:
        """Add trajectories at the end."""
        for trajectory in trajectories:
            self._trajectories.append(trajectory)
            self.steps += len(trajectory)

    def __len__(self) -> int:
        """Number of trajectories."""
        return len(self._trajectories)

    @overload
    def __getitem__(self, key: int) -> TrajectoryWithRew: ...

    @overload
    def __getitem__(self, key: slice) -> list[TrajectoryWithRew]: ...

    def __getitem__(self, key: Any) -> Any:
        """A trajectory, or a list of some."""
        return self._trajectories[key]


@dataclass(frozen=True)
class AtLeast:
    """The condition that there are enough episodes, and enough steps in all episodes together."""

    episodes: int = 0
    """The least number of episodes; 0: any number."""

    steps: int = 0
    """The least number of steps; 0: any number."""

    def __call__(self, trajectories: Sequence[TrajectoryWithRew]) -> bool:
        """Whether the trajectories are enough."""
        if len(trajectories) < self.episodes:
            return False
        steps = trajectories.steps if isinstance(trajectories, Collected) else sum(map(len, trajectories))
        return steps >= self.steps

    def exactly(self, trajectories: Iterable[TrajectoryWithRew]) -> list[TrajectoryWithRew]:
        """The fewest first trajectories that are enough; the last one is cut where only steps were missing."""
        kept: list[TrajectoryWithRew] = []
        episodes = steps = 0
        for trajectory in trajectories:
            if episodes >= self.episodes:
                if steps >= self.steps:
                    break
                trajectory = cut(trajectory, 0, min(len(trajectory), self.steps - steps))
            kept.append(trajectory)
            episodes += trajectory.terminal
            steps += len(trajectory)
        return kept


def make_min_episodes(n: int) -> AtLeast:
    """A condition that asks for a number of episodes.

    Args:
        n: The least number of episodes, 1 or more.

    Returns:
        The condition, a function of a sequence of trajectories. A collection may return more episodes: several can end
        in one step, and running episodes are finished.

    Raises:
        ArgumentTypeError: If `n` is not a number.
        OptionError: If `n` is not positive.

    Source:
        `imitation.data.rollout.make_min_episodes` (imitation 1.0.1).
    """
    return AtLeast(episodes=positive("min_episodes", n))


def make_min_timesteps(n: int) -> AtLeast:
    """A condition that asks for a number of steps, in all episodes together.

    Args:
        n: The least number of steps, 1 or more.

    Returns:
        The condition, a function of a sequence of trajectories. A collection may return more steps, because it finishes
        its episodes.

    Raises:
        ArgumentTypeError: If `n` is not a number.
        OptionError: If `n` is not positive.

    Source:
        `imitation.data.rollout.make_min_timesteps` (imitation 1.0.1).
    """
    return AtLeast(steps=positive("min_timesteps", n))


def make_sample_until(min_timesteps: int | None = None, min_episodes: int | None = None) -> AtLeast:
    """A condition that asks for a number of steps, of episodes, or of both.

    Examples:
        >>> make_sample_until(min_timesteps=1000, min_episodes=5)([])
        False

    Args:
        min_timesteps: The least number of steps, 1 or more; None: any number.
        min_episodes: The least number of episodes, 1 or more; None: any number.

    Returns:
        The condition, a function of a sequence of trajectories.

    Raises:
        ArgumentTypeError: If an argument is neither a number nor None.
        OptionError: If both are None, or a number is not positive.

    Source:
        `imitation.data.rollout.make_sample_until` (imitation 1.0.1).
    """
    if min_timesteps is None and min_episodes is None:
        raise OptionError("At least one of min_timesteps and min_episodes must be given, got None for both")
    return AtLeast(
        episodes=0 if min_episodes is None else positive("min_episodes", min_episodes),
        steps=0 if min_timesteps is None else positive("min_timesteps", min_timesteps),
    )


def positive(name: str, n: float) -> int:
    """A number of episodes or steps; a float such as 1e6 is rounded up."""
    if not isinstance(n, numbers.Real):
        raise ArgumentTypeError(f"{name}: expected a positive number, got {n!r}")
    if not 0 < n < math.inf:
        raise OptionError(f"{name}: expected a positive number, got {n}")
    return math.ceil(n)
