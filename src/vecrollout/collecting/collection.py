"""The loop in which a policy acts in environments until there is enough data."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from vecrollout.collecting.acting import Acting
from vecrollout.collecting.stop import Collected, SampleUntil
from vecrollout.data.trajectory import TrajectoryWithRew
from vecrollout.recording.recorder import Recorder


class Collection(NamedTuple):
    """The result of a collection."""

    finished: Collected
    """The whole episodes that count, in the order of their ends."""
    running: list[TrajectoryWithRew]
    """Fragments of unfinished episodes that would have counted, by environment index."""
    enough: bool
    """Whether `sample_until` said so."""
    complete: bool
    """Whether there is enough, and no running episode would have counted."""


def collect(
    recorder: Recorder,
    acting: Acting,
    sample_until: SampleUntil,
    max_steps: int | None,
    show: Callable[[Collected], None],
) -> Collection:
    """Let a policy act until each environment has finished the episode in which there was enough."""
    finished = Collected()
    enough = False
    # Environments whose current episode counts.
    active = np.ones(acting.num_envs, dtype=bool)
    acting.begin(recorder.restart())
    for _ in itertools.count() if max_steps is None else range(max_steps):
        ended = acting.step()
        if ended.any():
            finished.extend(of_envs(active, recorder.pop_finished_trajectories()[0]))
            show(finished)
        enough = sample_until(finished)
        if enough:
            active = active & ~ended
            if not active.any():
                return Collection(finished, [], enough=True, complete=True)
    return Collection(finished, of_envs(active, recorder.pop_trajectories()[0]), enough, complete=False)


def of_envs(chosen: npt.NDArray[np.bool_], trajectories: Iterable[TrajectoryWithRew]) -> list[TrajectoryWithRew]:
    """The trajectories of some environments."""
    return [each for each in trajectories if chosen[each.episode.env_index]]
