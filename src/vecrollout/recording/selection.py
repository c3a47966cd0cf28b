"""Which steps of a recording are kept: a sink before another one, to which it hands on fragments of those steps."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from vecrollout._typing import Array
from vecrollout.data.checks import check_function
from vecrollout.data.trajectory import Sink, TrajectoryWithRew
from vecrollout.errors import OptionError


class BalancedRewards:
    """Keeps steps so that each class of rewards is kept about as often as the others.

    A reward counts to the class that it is nearest to, and to the first of two that are as near. A step is kept with
    probability (how often the rarest class was seen) / (how often its own was seen), itself included: none before each
    class was seen once.

    Args:
        classes: The classes' rewards, at least one.
        seed: Seed of what decides, or a generator.

    Raises:
        OptionError: If `classes` is no list of finite numbers, or empty, or `seed` is none.
    """

    def __init__(self, classes: Sequence[float], seed: int | np.random.Generator | None = None) -> None:
        try:
            self._classes = np.asarray(classes, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise OptionError(f"reward_classes: expected a list of numbers, got {classes!r}") from error
        if self._classes.ndim != 1 or not self._classes.size or not np.isfinite(self._classes).all():
            raise OptionError(f"reward_classes: expected a list of finite numbers, at least one, got {classes!r}")
        self._seen = [0] * len(self._classes)
        try:
            self._generator = np.random.default_rng(seed)
        except (TypeError, ValueError) as error:
            raise OptionError(f"seed: expected an integer of at least 0, or a generator, got {seed!r}") from error

    def keeps(self, rews: Array) -> npt.NDArray[np.bool_]:
        """Which of some steps are kept; each counts as seen.

        Args:
            rews: Their rewards, shape `(T,)`, float.

        Returns:
            A mask, shape `(T,)`.
        """
        nearest = np.abs(rews[:, np.newaxis] - self._classes).argmin(axis=1)
        draws = self._generator.random(len(rews))
        kept = np.zeros(len(rews), dtype=bool)
        seen = self._seen
        for step, (its_class, draw) in enumerate(zip(nearest.tolist(), draws.tolist(), strict=True)):
            seen[its_class] += 1
            kept[step] = draw * seen[its_class] < min(seen)
        return kept


class Selection:
    """Which steps of a recording are kept.

    Args:
        episode_filter: Says by an episode's id whether it is kept.
        frame_filter: Says by a step's index in its episode whether the step is kept.
        reward_classes: Rewards between whose classes the steps that the others keep are balanced.
        seed: Seed of what that leaves to chance, or a generator.

    Raises:
        ArgumentTypeError: If a filter is no function.
        OptionError: If `reward_classes` is no list of finite numbers, or empty, or `seed` is none.
    """

    def __init__(
        self,
        episode_filter: Callable[[int], object] | None = None,
        frame_filter: Callable[[int], object] | None = None,
        reward_classes: Sequence[float] | None = None,
        seed: int | np.random.Generator | None = None,
    ) -> None:
        for name, each in (("episode_filter", episode_filter), ("frame_filter", frame_filter)):
            if each is not None:
                check_function(name, each, "an index")
        self._episode_filter = episode_filter
        self._frame_filter = frame_filter
        self._rewards = None if reward_classes is None else BalancedRewards(reward_classes, seed)
        # The episode that the filter was asked about last, and its answer.
        self._episode: tuple[int | None, bool] | None = None

    @property
    def cuts_episodes(self) -> bool:
        """Whether single steps may be left out."""
        return self._frame_filter is not None or self._rewards is not None

    def before(self, sink: Sink) -> Sink:
        """A sink that hands on to another one what is kept."""
        return SelectedSteps(sink, self) if self.cuts_episodes or self._episode_filter is not None else sink

    def kept(self, trajectory: TrajectoryWithRew) -> npt.NDArray[np.bool_]:
        """Which steps of a trajectory are kept: a mask of shape `(T,)`. What a filter raises passes through."""
        kept = np.full(len(trajectory), self._keeps_episode(trajectory.episode.id))
        if self._frame_filter is not None and kept.any():
            first = trajectory.episode.start_step
            kept[:] = [bool(self._frame_filter(step)) for step in range(first, first + len(trajectory))]
        if self._rewards is not None:
            kept[kept] = self._rewards.keeps(trajectory.rews[kept])
        return kept

    def _keeps_episode(self, number: int | None) -> bool:
        if self._episode_filter is None or number is None:
            return True
        if self._episode is None or self._episode[0] != number:
            self._episode = (number, bool(self._episode_filter(number)))
        return self._episode[1]


class SelectedSteps:
    """Hands on those steps of trajectories that are kept: each run of them as a fragment.

    What comes to `append` once and is refused by the sink behind may come again: then it goes on where it stopped.

    Args:
        sink: Takes the fragments.
        selection: Says which steps are kept.
    """

    def __init__(self, sink: Sink, selection: Selection) -> None:
        self._sink = sink
        self._selection = selection
        # What of the trajectory that was taken last, by episode and first step, is still to be handed on.
        self._taken: tuple[int | None, int] | None = None
        self._fragments: deque[TrajectoryWithRew] = deque()

    def append(self, trajectory: TrajectoryWithRew, /) -> None:
        """Take one trajectory, and hand on what is kept of it. What a filter or the sink raises passes through."""
        taken = trajectory.episode.id, trajectory.episode.start_step
        if not self._fragments or self._taken != taken:
            self._fragments, self._taken = deque(runs(trajectory, self._selection.kept(trajectory))), taken
        while self._fragments:
            self._sink.append(self._fragments[0])
            self._fragments.popleft()

    def before_close(self, callback: Callable[[], object], /) -> Callable[[], object] | None:
        """Have a function called before the sink behind closes, where that one does so by itself.

        There is no `before_flush`: what a filter raises is to come up with the step.
        """
        ask: Callable[..., Callable[[], object]] | None = getattr(self._sink, "before_close", None)
        return None if ask is None else ask(callback)


def runs(trajectory: TrajectoryWithRew, kept: npt.NDArray[np.bool_]) -> Iterator[TrajectoryWithRew]:
    """A trajectory's runs of steps that are kept, as fragments that are views.

    Args:
        trajectory: The trajectory.
        kept: Which steps are kept, shape `(T,)`.
    """
    edges = np.flatnonzero(np.diff(kept, prepend=False, append=False)).tolist()
    for start, stop in zip(edges[::2], edges[1::2], strict=True):
        yield trajectory if stop - start == len(trajectory) else fragment(trajectory, start, stop)


def fragment(trajectory: TrajectoryWithRew, start: int, stop: int) -> TrajectoryWithRew:
    """The steps from `start` up to, not including, `stop`, as views."""
    reaches_end = stop == len(trajectory)
    episode = dataclasses.replace(
        trajectory.episode,
        start_step=trajectory.episode.start_step + start,
        ended_by=trajectory.episode.ended_by if reaches_end else None,
    )
    obs: Any = trajectory.obs
    return dataclasses.replace(
        trajectory,
        obs=obs[start : stop + 1],
        acts=trajectory.acts[start:stop],
        rews=trajectory.rews[start:stop],
        infos=None if trajectory.infos is None else trajectory.infos[start:stop],
        terminal=reaches_end and trajectory.terminal,
        terminated=reaches_end and trajectory.terminated,
        truncated=reaches_end and trajectory.truncated,
        episode=episode,
    )
