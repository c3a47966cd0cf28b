"""Filters in front of a sink: it gets fragments of the selected steps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import numpy.typing as npt

from vecrollout._typing import Array
from vecrollout.data.checks import check_function
from vecrollout.data.fields import scalar_rewards
from vecrollout.data.trajectory import Episode, Sink, TrajectoryWithRew, cut
from vecrollout.errors import OptionError


class BalancedRewards:
    """Selects steps so that each class of rewards is selected about as often as the others.

    A reward belongs to the nearest class, and to the first of two that are equally near. A step is selected with
    probability (how often the rarest class was seen) / (how often its own was seen), itself included. No step is
    selected before each class was seen once.
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
        """Which of some steps are selected, by their rewards; each counts as seen."""
        nearest = np.abs(scalar_rewards(rews, "reward_classes")[:, np.newaxis] - self._classes).argmin(axis=1)
        draws = self._generator.random(len(rews))
        kept = np.zeros(len(rews), dtype=bool)
        seen = self._seen
        for step, (its_class, draw) in enumerate(zip(nearest.tolist(), draws.tolist(), strict=True)):
            seen[its_class] += 1
            kept[step] = draw * seen[its_class] < min(seen)
        return kept


class Selection:
    """The steps of a recording that are written: filters by episode and by step, and balanced rewards."""

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
        self._answers: dict[int, bool] = {}  # of the episode filter, by running episode

    @property
    def cuts_episodes(self) -> bool:
        """Whether single steps may be left out."""
        return self._frame_filter is not None or self._rewards is not None

    def before(self, sink: Sink) -> Sink:
        """A sink that passes the selected steps on to another one."""
        return SelectedSteps(sink, self) if self.cuts_episodes or self._episode_filter is not None else sink

    def fragments(self, trajectory: TrajectoryWithRew) -> list[TrajectoryWithRew]:
        """Each run of selected steps as a fragment, which is a view. An error of a filter passes through."""
        edges = np.flatnonzero(np.diff(self._selected(trajectory), prepend=False, append=False)).tolist()
        return [cut(trajectory, start, stop) for start, stop in zip(edges[::2], edges[1::2], strict=True)]

    def _selected(self, trajectory: TrajectoryWithRew) -> npt.NDArray[np.bool_]:
        """A mask of the selected steps, shape `(T,)`."""
        selected = np.full(len(trajectory), self._selects_episode(trajectory.episode))
        if self._frame_filter is not None and selected.any():
            first = trajectory.episode.start_step
            selected[:] = [bool(self._frame_filter(step)) for step in range(first, first + len(trajectory))]
        if self._rewards is not None:
            selected[selected] = self._rewards.keeps(trajectory.rews[selected])
        return selected

    def _selects_episode(self, episode: Episode) -> bool:
        if self._episode_filter is None or episode.id is None:
            return True
        answer = self._answers.pop(episode.id, None)
        if answer is None:
            answer = bool(self._episode_filter(episode.id))
        if episode.ended_by is None:
            self._answers[episode.id] = answer
        return answer


class SelectedSteps:
    """A sink that passes the selected steps on to another sink, each run of them as a fragment.

    A recorder offers trajectories again after an error. Each of them is selected from once, and passed on once.
    """

    def __init__(self, sink: Sink, selection: Selection) -> None:
        self._sink = sink
        self._selection = selection
        # Fragments of the trajectories of an offer that failed, by recording, episode and first step.
        self._pending: dict[tuple[str | None, int | None, int], list[TrajectoryWithRew]] = {}

    def extend(self, trajectories: Iterable[TrajectoryWithRew], /) -> None:
        """Take trajectories. An error of a filter or of the other sink passes through."""
        before, self._pending = self._pending, {}
        for each in trajectories:
            key = each.episode.recording, each.episode.id, each.episode.start_step
            self._pending[key] = before[key] if key in before else self._selection.fragments(each)
        extend = getattr(self._sink, "extend", None)
        if extend is not None:
            extend([fragment for fragments in self._pending.values() for fragment in fragments])
        else:
            for fragments in self._pending.values():
                while fragments:
                    self._sink.append(fragments[0])
                    fragments.pop(0)
        self._pending = {}

    def append(self, trajectory: TrajectoryWithRew, /) -> None:
        """Take one trajectory."""
        self.extend([trajectory])

    def flush(self) -> None:
        """Flush the other sink, if it can."""
        getattr(self._sink, "flush", _nothing)()

    def close(self) -> None:
        """Close the other sink, if it can."""
        getattr(self._sink, "close", _nothing)()


def _nothing() -> None:
    """The flush and close of a sink without these methods."""
