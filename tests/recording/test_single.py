"""The wrappers for the inside of a vector environment: `RolloutInfoWrapper`, and `CopyingWrapper` below it."""

from __future__ import annotations

import copy

import gymnasium as gym
import numpy as np
import pytest
from checks import run
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecNormalize

from vecrollout import (
    BufferingWrapper,
    CopyingWrapper,
    DictObs,
    RolloutInfoWrapper,
    Trajectory,
    TrajectoryWithRew,
    TupleObs,
    unwrap_traj,
)
from vecrollout.errors import ProtocolError, ShapeError
from vecrollout.testing import SPACES, CountingEnv, EpisodeScript, Scenario, assert_same, batch_of

STEPS = 5
CALLS = 13


def episode(env, steps=STEPS):
    """Infos of an episode's steps."""
    env.reset()
    return [env.step(env.action_space.sample())[-1] for _ in range(steps)]


def counting(space="box", **options):
    return CountingEnv(space, [EpisodeScript(STEPS, "both")], first=10, stride=20, **options)


# The record at an episode's end


@pytest.mark.parametrize("space", [*SPACES])
@pytest.mark.parametrize("reuses", [False, True])
def test_the_record_is_the_episode(space, reuses):
    env = RolloutInfoWrapper(counting(space, reuse_obs=reuses, reuse_info=reuses))
    for k in range(3):
        infos = [copy.copy(info) for info in episode(env)]
        assert ["rollout" in info for info in infos] == [False] * (STEPS - 1) + [True]
        record = infos[-1]["rollout"]
        assert infos[-1]["rollouts"] is record
        assert infos[-1]["t"] == STEPS
        assert record.keys() == {"obs", "rews"}
        first = 10 + 20 * k
        assert_same(record["obs"], batch_of(SPACES[space], range(first, first + STEPS + 1)))
        assert_same(record["rews"], np.arange(first + 1, first + STEPS + 1) + 0.5)


def test_kinds_of_records():
    kinds = {"box": np.ndarray, "dict": DictObs, "tuple": TupleObs}
    for space, kind in kinds.items():
        assert type(episode(RolloutInfoWrapper(counting(space)))[-1]["rollout"]["obs"]) is kind


def test_the_inner_record_stands_where_there_are_two():
    """The inner one has the raw data."""

    class Tenfold(gym.ObservationWrapper):
        def observation(self, observation):
            return observation * 10

    env = RolloutInfoWrapper(Monitor(Tenfold(RolloutInfoWrapper(counting()))))
    for k in range(2):
        last = episode(env)[-1]
        assert_same(last["rollout"]["obs"], batch_of(SPACES["box"], range(10 + 20 * k, 16 + 20 * k)))
        assert last["rollouts"] is last["rollout"]


def test_an_early_reset_begins_a_new_record():
    env = RolloutInfoWrapper(counting())
    assert "rollout" not in episode(env, steps=2)[-1]
    assert_same(episode(env)[-1]["rollout"]["obs"], batch_of(SPACES["box"], range(30, 36)))


def test_the_record_is_a_copy():
    env = RolloutInfoWrapper(CopyingWrapper(counting(reuse_obs=True)))
    env.reset()
    kept = []
    for _ in range(STEPS):
        obs, _, _, _, info = env.step(0)
        kept.append(obs)
    for obs in kept:
        obs[...] = -1
    assert_same(info["rollout"]["obs"], batch_of(SPACES["box"], range(10, 16)))


def test_the_environments_own_info_gets_no_record():
    """An environment that hands out one dict all the time would show it in its next episode."""
    base = counting(reuse_info=True)
    env = RolloutInfoWrapper(base)
    episode(env)
    assert "rollout" not in env.reset()[1]
    assert "rollout" not in env.step(0)[-1]


def test_rewards_of_any_kind_are_floats_in_the_record():
    class Rewards(CountingEnv):
        rewards = (1, True, np.float32(0.5), np.float64(0.25), np.array(2))

        def step(self, action):
            obs, _, *rest = super().step(action)
            return obs, self.rewards[self._t - 1], *rest

    record = episode(RolloutInfoWrapper(Rewards("box", [EpisodeScript(5)])))[-1]["rollout"]
    assert_same(record["rews"], np.array([1, 1, 0.5, 0.25, 2.0]))


def test_float32_rewards_stay_float32():
    class Rewards(CountingEnv):
        def step(self, action):
            obs, rew, *rest = super().step(action)
            return obs, np.float32(rew), *rest

    record = episode(RolloutInfoWrapper(Rewards("box", [EpisodeScript(3)])), 3)[-1]["rollout"]
    assert_same(record["rews"], np.array([1.5, 2.5, 3.5], np.float32))


def test_step_before_reset():
    class Careless(CountingEnv):
        def step(self, action):
            return self.observation_space.sample(), 0.0, False, False, {}

    with pytest.raises(ProtocolError, match="reset"):
        RolloutInfoWrapper(Careless()).step(0)


@pytest.mark.parametrize("wrapper", [RolloutInfoWrapper, CopyingWrapper])
def test_seed_and_options_are_passed_on(wrapper):
    env = wrapper(counting())
    assert env.reset(seed=3, options={"a": 1})[1] == {"episode": 0, "seed": 3, "options": {"a": 1}}
    assert env.reset()[1] == {"episode": 1, "seed": None}


# Trajectories with the record in the place of their own data


@pytest.mark.parametrize("make", [DummyVecEnv, SubprocVecEnv])
def test_raw_data_below_whatever_is_done_to_it(make):
    """The recorder above sees normalised observations and rewards; the record has those of the environments."""
    scenario = Scenario()
    env_fns = [lambda env_fn=env_fn: RolloutInfoWrapper(env_fn()) for env_fn in scenario.env_fns()]
    venv = BufferingWrapper(VecNormalize(make(env_fns)))
    venv.reset()
    run(venv, scenario, 0, CALLS)
    trajectories = venv.pop_finished_trajectories()[0]
    venv.close()
    expected = [each for each in scenario.recorded(0, CALLS) if each.terminal]
    for trajectory, raw in zip(trajectories, expected, strict=True):
        assert not np.array_equal(trajectory.obs, raw.obs)
        unwrapped = unwrap_traj(trajectory)
        raw.assert_recorded_as(unwrapped, reward_dtype=np.float64, sees_both=False)
        assert type(unwrapped) is TrajectoryWithRew


@pytest.mark.parametrize("space", ["dict", "tuple"])
def test_unwrapped_trajectories_of_structured_spaces(space):
    scenario = Scenario(space=space)
    venv = BufferingWrapper(DummyVecEnv([lambda e=e: RolloutInfoWrapper(e()) for e in scenario.env_fns()]))
    venv.reset()
    run(venv, scenario, 0, CALLS)
    expected = [each for each in scenario.recorded(0, CALLS) if each.terminal]
    for trajectory, raw in zip(venv.pop_finished_trajectories()[0], expected, strict=True):
        raw.assert_recorded_as(unwrap_traj(trajectory), reward_dtype=np.float64, sees_both=False)


def fragment(infos, cls=TrajectoryWithRew, **fields):
    return cls(obs=np.zeros((3, 1)), acts=np.zeros(2), infos=infos, terminal=True, **fields)


def test_what_cannot_be_unwrapped():
    rews = {"rews": np.zeros(2)}
    with pytest.raises(ShapeError, match=r'must have infos to unwrap.*record_infos="all"'):
        unwrap_traj(fragment(None, **rews))
    with pytest.raises(ShapeError, match="RolloutInfoWrapper"):
        unwrap_traj(fragment([{}, {}], **rews))
    record = {"obs": np.zeros((6, 1)), "rews": np.zeros(5)}
    with pytest.raises(ShapeError, match="obs"):
        unwrap_traj(fragment([{}, {"rollout": record}], **rews))


def test_a_fragment_of_an_episode_is_not_unwrapped():
    """Its record is longer than itself: obs and rewards would not belong to its actions."""
    scenario = Scenario(episodes=[[EpisodeScript(4)]])
    venv = BufferingWrapper(DummyVecEnv([lambda: RolloutInfoWrapper(scenario.env_fns()[0]())]))
    venv.reset()
    run(venv, scenario, 0, 2)
    venv.pop_trajectories()
    run(venv, scenario, 2, 4)
    (rest,) = venv.pop_trajectories()[0]
    assert isinstance(rest, Trajectory)
    with pytest.raises(ShapeError, match="obs"):
        unwrap_traj(rest)
