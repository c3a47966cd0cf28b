"""What a collection has to return, by the definition: from the scripts of the environments' episodes."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st

from vecrollout import TrajectoryWithRew, make_min_episodes, make_min_timesteps, make_sample_until
from vecrollout.testing import EpisodeScript, Recorded, Scenario

FOREVER = EpisodeScript(10**9)


def seeded(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def scripted(scenario: Scenario) -> Callable[..., Any]:
    """The scenario's own actions."""
    calls = itertools.count()
    return lambda observations, states, episode_starts: (scenario.actions(next(calls)), None)


def lengths(trajectories: Sequence[Any]) -> list[int]:
    return sorted(map(len, trajectories))


def ends(scenario: Scenario, calls: int = 200) -> Iterator[tuple[int, Recorded]]:
    """Every episode that ends within so many calls, with the call that ends it."""
    clocks = [0] * scenario.num_envs
    for run in scenario.recorded(0, calls):
        clocks[run.env_index] += len(run)
        if run.terminal:
            yield clocks[run.env_index] - 1, run
            clocks[run.env_index] += scenario.has_dead_calls


def unbiased(scenario: Scenario, sample_until: Callable[[Sequence[Any]], bool]) -> list[Recorded]:
    """What ended up to the call with which there was enough, and in what ended later, each environment's first."""
    everything = list(ends(scenario))
    last = next(call for call, _ in everything if sample_until([run for end, run in everything if end <= call]))
    settled = {run.env_index for call, run in everything if call == last}
    chosen = []
    for call, run in everything:
        if call <= last:
            chosen.append(run)
        elif run.env_index not in settled:
            chosen.append(run)
            settled.add(run.env_index)
    return chosen


def shuffled(runs: Sequence[Any], rng: np.random.Generator) -> list[Any]:
    order = list(range(len(runs)))
    rng.shuffle(order)
    return [runs[i] for i in order]


def assert_recorded(
    trajectories: Sequence[TrajectoryWithRew],
    expected: Sequence[Recorded],
    *,
    reward_dtype: type[np.floating[Any]] = np.float32,
    sees_both: bool = False,
) -> None:
    assert len(trajectories) == len(expected)
    for trajectory, run in zip(trajectories, expected, strict=True):
        run.assert_recorded_as(trajectory, reward_dtype=reward_dtype, sees_both=sees_both)


scripts = st.builds(EpisodeScript, st.integers(1, 6), st.sampled_from(["terminated", "truncated", "both"]))
many_episodes = st.lists(st.lists(scripts, min_size=1, max_size=3), min_size=1, max_size=4)
conditions = st.one_of(
    st.builds(make_min_episodes, st.integers(1, 12)),
    st.builds(make_min_timesteps, st.integers(1, 40)),
    st.builds(make_sample_until, st.integers(1, 40), st.integers(1, 12)),
)
