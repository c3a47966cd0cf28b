"""Gymnasium's own vector wrappers: what is recorded is what passed through the recorder's place in the stack."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from vector_envs import IS_VERSION_0, MODES, sync_env

if IS_VERSION_0:
    pytest.skip("gymnasium 0.29 has no wrappers for vector environments only", allow_module_level=True)

from gymnasium.wrappers import vector as wrappers

from vecrollout import VectorBufferingWrapper
from vecrollout.testing import SPACES, Scenario, assert_same

CALLS = 13


def scenario_of(mode, **changes):
    return Scenario(has_dead_calls=mode == "next_step", **changes)


def run(env, mode, scenario, calls=CALLS, first=0):
    """Steps the whole stack; returns what came out of it."""
    returned = []
    for call in range(first, first + calls):
        obs, rews, terminated, truncated, _ = env.step(scenario.actions(call))
        returned.append((np.array(obs), np.array(rews), terminated | truncated))
        if mode == "disabled" and returned[-1][-1].any():
            env.reset(options={"reset_mask": returned[-1][-1]})
    return returned


def above(wrap, mode, scenario):
    """A recorder above the wrapper."""
    recorder = VectorBufferingWrapper(wrap(sync_env(scenario.env_fns(), mode)))
    recorder.reset()
    run(recorder, mode, scenario)
    return recorder.pop_trajectories()[0]


def below(wrap, mode, scenario):
    recorder = VectorBufferingWrapper(sync_env(scenario.env_fns(), mode))
    stack = wrap(recorder)
    stack.reset()
    run(stack, mode, scenario)
    return recorder.pop_trajectories()[0]


def assert_recorded(trajectories, expected, obs=None, acts=None, rews=None):
    """The functions say what the wrapper did to each column."""
    assert [len(each) for each in trajectories] == [len(each) for each in expected]
    for trajectory, each in zip(trajectories, expected, strict=True):
        assert_same(trajectory.obs, obs(each.obs) if obs else each.obs)
        assert_same(trajectory.acts, acts(each.acts) if acts else each.acts)
        assert_same(trajectory.rews, rews(each.rews) if rews else each.rews)
        assert (trajectory.terminated, trajectory.truncated) == (each.terminated, each.truncated)


# Observations. Gymnasium refuses to wrap those of environments with same-step autoreset.

OBSERVATION_MODES = [mode for mode in MODES if mode != "same_step"]


def tripled(obs):
    return obs * np.float32(3)


def transform(env):
    return wrappers.TransformObservation(env, tripled)


@pytest.mark.parametrize("mode", OBSERVATION_MODES)
def test_transform_observation_above_the_recorder(mode):
    scenario = scenario_of(mode)
    assert_recorded(below(transform, mode, scenario), scenario.recorded(0, CALLS))


@pytest.mark.parametrize("mode", OBSERVATION_MODES)
def test_transform_observation_below_the_recorder(mode):
    scenario = scenario_of(mode)
    assert_recorded(above(transform, mode, scenario), scenario.recorded(0, CALLS), obs=tripled)


@pytest.mark.parametrize("mode", OBSERVATION_MODES[:1])  # it takes no others
def test_normalize_observation(mode):
    """Above it, the values it gave when it gave them, which its statistics have moved away from since."""
    scenario = scenario_of(mode)
    assert_recorded(below(wrappers.NormalizeObservation, mode, scenario), scenario.recorded(0, CALLS))

    recorder = VectorBufferingWrapper(wrappers.NormalizeObservation(sync_env(scenario.env_fns(), mode)))
    rows = [[row] for row in np.array(recorder.reset()[0])]
    over = np.zeros(3, bool)
    finished = []
    for obs, _, dones in run(recorder, mode, scenario):
        for env in range(3):
            rows[env] = [obs[env]] if over[env] else [*rows[env], obs[env]]
            if dones[env]:
                finished.append(rows[env])
        over = dones
    trajectories = recorder.pop_finished_trajectories()[0]
    assert len(finished) == len(trajectories) > 3
    for trajectory, row in zip(trajectories, finished, strict=True):
        assert_same(trajectory.obs, np.stack(row))
        assert np.abs(trajectory.obs).max() < 10


# Actions and rewards


@pytest.mark.parametrize("mode", MODES)
def test_rescale_action(mode):
    """Above it the learner's actions, below it those that the environments took."""
    bounded = spaces.Box(0, 1000, (3,), np.float32)
    scenario = scenario_of(mode, action_space=bounded)

    def rescale(env):
        return wrappers.RescaleAction(env, np.float32(0), np.float32(500))

    expected = scenario.recorded(0, CALLS)
    assert_recorded(above(rescale, mode, scenario), expected)
    assert_recorded(below(rescale, mode, scenario), expected, acts=lambda acts: acts * 2)


@pytest.mark.parametrize("mode", MODES)
def test_clip_reward(mode):
    scenario = scenario_of(mode)

    def clip(env):
        return wrappers.ClipReward(env, 3, 53)

    expected = scenario.recorded(0, CALLS)
    assert_recorded(above(clip, mode, scenario), expected, rews=lambda rews: np.clip(rews, 3, 53))
    assert_recorded(below(clip, mode, scenario), expected)


@pytest.mark.parametrize("mode", MODES)
def test_transform_reward_below_and_above(mode):
    """Two recorders in one stack keep two different records."""
    scenario = scenario_of(mode)
    inner = VectorBufferingWrapper(sync_env(scenario.env_fns(), mode))
    outer = VectorBufferingWrapper(wrappers.TransformReward(inner, lambda rews: rews * 10))
    outer.reset()
    run(outer, mode, scenario)
    expected = scenario.recorded(0, CALLS)
    assert_recorded(inner.pop_trajectories()[0], expected)
    assert_recorded(outer.pop_trajectories()[0], expected, rews=lambda rews: rews * 10)


# Statistics


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode != "disabled"])
def test_episode_statistics_above_the_recorder(mode):
    """They are the same as without the recorder, and are not recorded."""
    env_fns = [lambda: gym.make("CartPole-v1")] * 3
    plain = wrappers.RecordEpisodeStatistics(sync_env(env_fns, mode))
    recorder = VectorBufferingWrapper(sync_env(env_fns, mode))
    stack = wrappers.RecordEpisodeStatistics(recorder)
    for env in (plain, stack):
        env.reset(seed=8)
        for _ in range(60):
            env.step(np.ones(3, np.int64))
    assert len(stack.return_queue) > 0
    assert list(stack.return_queue) == list(plain.return_queue)
    trajectories = recorder.pop_trajectories()[0]
    assert not any("episode" in info for each in trajectories for info in each.infos)


@pytest.mark.parametrize("space", ["dict", "image"])
def test_flatten_observation(space):
    """Another space above the wrapper than below it."""
    mode = MODES[0]
    scenario = scenario_of(mode, space=space)
    single = SPACES[space]

    def flat(obs):
        if not isinstance(obs, dict):
            return np.stack([spaces.flatten(single, each) for each in obs])
        rows = [dict(zip(obs, values, strict=True)) for values in zip(*obs.values(), strict=True)]
        return np.stack([spaces.flatten(single, row) for row in rows])

    expected = scenario.recorded(0, CALLS)
    assert_recorded(above(wrappers.FlattenObservation, mode, scenario), expected, obs=flat)
    assert_recorded(below(wrappers.FlattenObservation, mode, scenario), expected)
