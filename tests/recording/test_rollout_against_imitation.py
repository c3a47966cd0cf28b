"""The same trajectories, bit for bit and in the same order, as the real imitation collects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.utils import set_random_seed
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

import vecrollout as ours
from vecrollout.testing import VEC_ENV_SPACES, EpisodeScript, Scenario
from vecrollout.testing.comparison import assert_same

# What imitation says to observations that are plain numbers.
pytestmark = pytest.mark.filterwarnings("ignore:tried to wrap")
theirs = pytest.importorskip("imitation.data.rollout")
their_wrappers = pytest.importorskip("imitation.data.wrappers")

scripts = st.builds(EpisodeScript, st.integers(1, 6), st.sampled_from(["terminated", "truncated", "both"]))
episodes = st.lists(st.lists(scripts, min_size=1, max_size=3), min_size=1, max_size=4)
# Names of conditions with what to give them, so that each side makes its own.
conditions = st.one_of(
    st.tuples(st.just("make_min_episodes"), st.fixed_dictionaries({"n": st.integers(1, 12)})),
    st.tuples(st.just("make_min_timesteps"), st.fixed_dictionaries({"n": st.integers(1, 40)})),
    st.tuples(
        st.just("make_sample_until"),
        st.fixed_dictionaries({"min_timesteps": st.integers(1, 40), "min_episodes": st.integers(1, 12)}),
    ),
)


def content(data: Any) -> dict[str, Any]:
    """What imitation's types hold."""
    names = ("obs", "acts", "infos", "terminal", "rews", "next_obs", "dones")
    return {name: getattr(data, name) for name in names if hasattr(data, name)}


def assert_equal(actual: Sequence[Any], expected: Sequence[Any]) -> None:
    assert len(actual) == len(expected)
    for mine, other in zip(actual, expected, strict=True):
        assert_same(content(mine), content(other))


def counting(scenario: Scenario):
    """The scenario's actions, by the number of the call."""
    called = []

    def act(observations, states, episode_starts):
        called.append(None)
        return scenario.actions(len(called) - 1), None

    return act


@given(st.sampled_from(["box", "box_scalar", "discrete", "image", "dict"]), episodes, conditions, st.integers(0, 100))
def test_functions(space, episodes, condition, seed) -> None:
    scenario = Scenario(space, episodes=episodes)
    name, options = condition
    mine, other = (
        side.generate_trajectories(
            counting(scenario),
            DummyVecEnv(scenario.env_fns()),
            getattr(side, name)(**options),
            np.random.default_rng(seed),
        )
        for side in (ours, theirs)
    )
    assert_equal(mine, other)


# imitation does not take Tuple observations.
@pytest.mark.parametrize("space", [name for name in VEC_ENV_SPACES if name != "tuple"])
@pytest.mark.parametrize("action_space", ["box", "discrete", "multi_discrete", "multi_binary"])
def test_spaces(space, action_space) -> None:
    scenario = Scenario(space, action_space)
    mine, other = (
        side.generate_trajectories(
            counting(scenario),
            DummyVecEnv(scenario.env_fns()),
            side.make_min_episodes(7),
            np.random.default_rng(0),
        )
        for side in (ours, theirs)
    )
    assert_equal(mine, other)


def cartpole(wrapper: Any = None) -> DummyVecEnv:
    venv = DummyVecEnv([lambda: Monitor((wrapper or (lambda env: env))(gym.make("CartPole-v1")))] * 3)
    venv.seed(5)
    return venv


def without_times(trajectories: Sequence[Any]) -> Sequence[Any]:
    """`Monitor` says how long an episode took; no two take equally long."""
    for trajectory in trajectories:
        trajectory.infos[-1]["episode"].pop("t")
    return trajectories


@pytest.mark.parametrize("kind", [A2C, PPO])
@pytest.mark.parametrize("of", ["algorithm", "policy"])
@pytest.mark.parametrize("deterministic_policy", [False, True])
def test_algorithms(kind, of, deterministic_policy) -> None:
    algorithm = kind("MlpPolicy", cartpole(), seed=1, device="cpu")
    policy = algorithm if of == "algorithm" else algorithm.policy
    collected = []
    for side in (ours, theirs):
        set_random_seed(2)
        trajectories = side.generate_trajectories(
            policy,
            cartpole(),
            side.make_min_timesteps(400),
            np.random.default_rng(3),
            deterministic_policy=deterministic_policy,
        )
        collected.append(without_times(trajectories))
    assert_equal(*collected)
    assert_same(ours.rollout_stats(collected[0]), theirs.rollout_stats(collected[1]))


def test_random_actions_from_the_action_space() -> None:
    collected = []
    for side in (ours, theirs):
        venv = cartpole()
        venv.action_space.seed(4)
        policy = ours.policy_to_callable(None, venv) if side is ours else None
        trajectories = side.generate_trajectories(policy, venv, side.make_min_episodes(20), np.random.default_rng(3))
        collected.append(without_times(trajectories))
    assert_equal(*collected)


@pytest.mark.parametrize("truncate", [False, True])
def test_transitions(truncate) -> None:
    scenario = Scenario()
    mine, other = (
        side.generate_transitions(
            counting(scenario), DummyVecEnv(scenario.env_fns()), 23, np.random.default_rng(0), truncate=truncate
        )
        for side in (ours, theirs)
    )
    assert_equal([mine], [other])


@pytest.mark.parametrize("unwrap", [False, True])
@pytest.mark.parametrize("exclude_infos", [False, True])
def test_rollout(unwrap, exclude_infos, caplog) -> None:
    """Below `VecNormalize`, which changes what is recorded and not what `RolloutInfoWrapper` sees."""
    collected, logged = [], []
    for side, wrapper in ((ours, ours.RolloutInfoWrapper), (theirs, their_wrappers.RolloutInfoWrapper)):
        venv = VecNormalize(cartpole(wrapper))
        policy = A2C("MlpPolicy", venv, seed=1, device="cpu")
        set_random_seed(2)
        caplog.clear()
        with caplog.at_level("INFO"):
            trajectories = side.rollout(
                policy,
                venv,
                side.make_sample_until(min_episodes=10),
                np.random.default_rng(3),
                unwrap=unwrap,
                exclude_infos=exclude_infos,
            )
        for each in trajectories:
            if each.infos is not None:
                # The record's class differs, and "rollouts" is ours alone.
                each.infos[-1].pop("rollout")
                each.infos[-1].pop("rollouts", None)
                each.infos[-1]["episode"].pop("t")
        collected.append(trajectories)
        logged += [record.getMessage() for record in caplog.records if "stats" in record.getMessage()]
    assert_equal(*collected)
    assert all((each.infos is None) == exclude_infos for each in collected[0])
    assert len(logged) == 2
    assert logged[0] == logged[1]


@given(st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=20), st.floats(0, 1), st.sampled_from("fd"))
def test_discounted_sum(values, gamma, dtype) -> None:
    for arr in (np.array(values, dtype), np.array([values, values], dtype).T):
        assert_same(np.asarray(ours.discounted_sum(arr, gamma)), np.asarray(theirs.discounted_sum(arr, gamma)))
