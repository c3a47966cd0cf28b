"""What passes through the recorder is the environment's own; what is kept is a copy, also when a step fails."""

from __future__ import annotations

from functools import partial

import gymnasium as gym
import numpy as np
import pytest
from custom_vector_env import CustomVectorEnv, with_final_obs
from vector_envs import MODES, async_env, sync_env

from vecrollout import BufferingEnvWrapper, VectorBufferingWrapper
from vecrollout.errors import DtypeError, ProtocolError, ShapeError
from vecrollout.testing import EpisodeScript, Scenario, ScriptedError, assert_same

SCENARIO = Scenario()
CALLS = 13


def custom(scenario=SCENARIO, rule="same_step", alter=None, reuses_arrays=False, **options):
    alter = alter or (with_final_obs() if rule == "same_step" else tuple)
    env = CustomVectorEnv(scenario.env_fns(), rule, alter, reuses_arrays)
    return VectorBufferingWrapper(env, autoreset_mode=rule, **options)


def assert_recorded(trajectories, expected):
    assert [len(each) for each in trajectories] == [len(each) for each in expected]
    for trajectory, each in zip(trajectories, expected, strict=True):
        assert_same(trajectory.obs, each.obs)
        assert_same(trajectory.acts, each.acts)
        assert_same(trajectory.rews, each.rews)


# What passes through


def test_what_is_returned_is_the_environments_own():
    returned = []

    def alter(step):
        returned.append(with_final_obs()(step))
        return returned[-1]

    env = CustomVectorEnv(SCENARIO.env_fns(), alter=alter)
    recorder = VectorBufferingWrapper(env, autoreset_mode="same_step")
    reset = env.reset

    def kept_reset(**kwargs):
        returned.append(reset(**kwargs))
        return returned[-1]

    env.reset = kept_reset
    for got, given in zip(recorder.reset(seed=2, options={"level": 1}), returned[-1], strict=True):
        assert got is given
    for call in range(CALLS):
        actions = SCENARIO.actions(call)
        got = recorder.step(actions)
        assert env.actions is actions
        assert got is returned[-1]


def test_attributes_are_the_environments_own():
    env = sync_env(SCENARIO.env_fns())
    recorder = VectorBufferingWrapper(env)
    for name in ("num_envs", "observation_space", "action_space", "single_observation_space", "single_action_space"):
        assert getattr(recorder, name) == getattr(env, name)
    assert recorder.unwrapped is env
    recorder.close()
    assert env.closed


@pytest.mark.parametrize("mode", MODES)
def test_infos_are_left_as_they_are(mode):
    """The learner above finds everything in them: nothing is taken out or put in."""
    plain, wrapped = sync_env(SCENARIO.env_fns(), mode), sync_env(SCENARIO.env_fns(), mode)
    recorder = VectorBufferingWrapper(wrapped)
    assert_same(recorder.reset(seed=1)[1], plain.reset(seed=1)[1])
    for call in range(CALLS):
        got, expected = recorder.step(SCENARIO.actions(call)), plain.step(SCENARIO.actions(call))
        assert_same(got, expected)
        mask = expected[2] | expected[3]
        if mode == "disabled" and mask.any():
            resets = [env.reset(options={"reset_mask": mask.copy()}) for env in (recorder, plain)]
            assert_same(*resets)


# Copies on entry


@pytest.mark.parametrize("rule", ["same_step", "next_step"])
def test_an_environment_that_reuses_its_arrays(rule):
    scenario = Scenario(has_dead_calls=rule == "next_step")
    recorder = custom(scenario, rule, reuses_arrays=True)
    recorder.reset()
    for call in range(CALLS):
        recorder.step(scenario.actions(call))
    assert_recorded(recorder.pop_trajectories()[0], scenario.recorded(0, CALLS))


@pytest.mark.parametrize("rule", ["same_step", "next_step"])
def test_a_caller_that_writes_into_what_it_got(rule):
    scenario = Scenario(has_dead_calls=rule == "next_step")
    recorder = custom(scenario, rule)
    recorder.reset()[0][...] = -5
    for call in range(CALLS):
        actions = scenario.actions(call)
        obs, rews, terminated, truncated, infos = recorder.step(actions)
        for array in (actions, obs, rews):
            array[...] = -5
        terminated[...] = truncated[...] = True
        for last in infos.get("final_obs", ()):
            if last is not None:
                last[...] = -5
    assert_recorded(recorder.pop_trajectories()[0], scenario.recorded(0, CALLS))


def test_arrays_that_the_environment_shares_with_its_caller():
    """Gymnasium's `copy=False`: every observation is the same array."""
    env = sync_env(SCENARIO.env_fns(), MODES[0], copy=False)
    recorder = VectorBufferingWrapper(env)
    first, _ = recorder.reset()
    scenario = Scenario(has_dead_calls=MODES[0] == "next_step")
    for call in range(CALLS):
        assert recorder.step(scenario.actions(call))[0] is first
    assert_recorded(recorder.pop_trajectories()[0], scenario.recorded(0, CALLS))


# Rewards


class ArrayRewards(gym.Wrapper):
    def step(self, action):
        obs, rew, *rest = self.env.step(action)
        return obs, np.array([rew]), *rest


def array_rewards(env_fn):
    return ArrayRewards(env_fn())


def test_sub_environments_whose_rewards_have_one_entry():
    """An asynchronous vector makes a column of them."""
    scenario = Scenario(episodes=[[EpisodeScript(5)], [EpisodeScript(4)]])
    recorder = VectorBufferingWrapper(async_env([partial(array_rewards, fn) for fn in scenario.env_fns()]))
    recorder.reset()
    for call in range(4):
        rews = recorder.step(scenario.actions(call))[1]
        assert rews.shape == (2, 1)
    assert_recorded(recorder.pop_trajectories()[0], scenario.recorded(0, 4))
    recorder.close()


def test_a_single_environment_whose_rewards_have_one_entry():
    scenario = Scenario(episodes=[[EpisodeScript(4)]])
    recorder = BufferingEnvWrapper(ArrayRewards(scenario.env_fns()[0]()))
    recorder.reset()
    for call in range(4):
        recorder.step(scenario.actions(call)[0])
    assert_recorded(recorder.pop_trajectories()[0], scenario.recorded(0, 4))


def test_rewards_with_several_entries():
    """A vector an environment; rewards of another shape do not fit those recorded before."""
    width = 2

    def alter(step):
        step[1] = np.stack([step[1]] * width, axis=1)
        return with_final_obs()(step)

    recorder = custom(alter=alter)
    recorder.reset()
    recorder.step(SCENARIO.actions(0))
    width = 3
    with pytest.raises(ShapeError, match=r"rews: expected shape \(3, 2\).*got \(3, 3\)"):
        recorder.step(SCENARIO.actions(1))
    assert recorder.held == 3
    for trajectory, expected in zip(recorder.pop_trajectories()[0], SCENARIO.recorded(0, 1), strict=True):
        assert_same(trajectory.rews, np.stack([expected.rews] * 2, axis=1))


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_rewards_of_another_dtype(dtype):
    def alter(step):
        step[1] = step[1].astype(dtype)
        return with_final_obs()(step)

    recorder = custom(alter=alter)
    recorder.reset()
    for call in range(CALLS):
        recorder.step(SCENARIO.actions(call))
    for trajectory, each in zip(recorder.pop_trajectories()[0], SCENARIO.recorded(0, CALLS), strict=True):
        assert_same(trajectory.rews, each.rews.astype(dtype))


# The step that resets


def test_flags_of_the_step_that_resets_mean_nothing():
    """An engine may leave them as they were: no episode ends there."""

    def alter(step):
        step[2] |= step[1] == 0  # no step of these environments has a reward of 0
        return tuple(step)

    scenario = Scenario(has_dead_calls=True)
    recorder = custom(scenario, "next_step", alter)
    recorder.reset()
    for call in range(CALLS):
        recorder.step(scenario.actions(call))
    assert_recorded(recorder.pop_trajectories()[0], scenario.recorded(0, CALLS))
    assert recorder.stepped == scenario.steps(CALLS)


# What fails


@pytest.mark.parametrize("mode", MODES)
def test_a_step_that_fails(mode):
    """It is not recorded; what was recorded before can be popped, and after a reset stepping goes on."""
    scenario = Scenario(has_dead_calls=mode == "next_step")
    env = sync_env(scenario.env_fns(), mode)
    recorder = VectorBufferingWrapper(env)
    recorder.reset()
    recorder.step(scenario.actions(0))
    stepped = recorder.stepped
    env.envs[0].fail_next = True
    with pytest.raises(ScriptedError):
        recorder.step(scenario.actions(1))
    with pytest.raises(ProtocolError, match="reset"):
        recorder.step(scenario.actions(2))
    assert (recorder.stepped, recorder.held) == (stepped, stepped)
    assert_recorded(recorder.pop_trajectories()[0], scenario.recorded(0, 1))
    recorder.reset()
    recorder.step(scenario.actions(3))
    assert recorder.held == 3


@pytest.mark.parametrize(
    ("misfit", "error"),
    [(lambda acts: acts.astype(np.float32), DtypeError), (lambda acts: np.stack([acts, acts], 1), ShapeError)],
    ids=["dtype", "shape"],
)
def test_actions_that_do_not_fit(misfit, error):
    """They are refused before the environments are stepped."""
    scenario = Scenario(has_dead_calls=MODES[0] == "next_step")
    recorder = VectorBufferingWrapper(sync_env(scenario.env_fns()))
    recorder.reset()
    for call in range(CALLS):
        if call:
            with pytest.raises(error, match="acts: expected"):
                recorder.step(misfit(scenario.actions(call)))
        recorder.step(scenario.actions(call))
    assert_recorded(recorder.pop_trajectories()[0], scenario.recorded(0, CALLS))


@pytest.mark.parametrize("rule", ["same_step", "next_step"])
def test_an_observation_that_does_not_fit(rule):
    strange = False

    def alter(step):
        if strange:
            step[0] = step[0].astype(np.int64).astype("M8[s]")
        return with_final_obs()(step)

    scenario = Scenario(has_dead_calls=rule == "next_step")
    recorder = custom(scenario, rule, alter)
    recorder.reset()
    for call in range(4):
        recorder.step(scenario.actions(call))
    strange = True
    with pytest.raises(DtypeError, match="obs: expected dtype float32"):
        recorder.step(scenario.actions(4))
    assert_recorded(recorder.pop_trajectories()[0], scenario.recorded(0, 4))


def test_a_reset_that_fails():
    """Some environments may be reset and others not, so all have to be before the next step."""
    env = CustomVectorEnv(SCENARIO.env_fns(), "next_step")
    recorder = VectorBufferingWrapper(env, False, autoreset_mode="next_step")
    recorder.reset()
    recorder.step(SCENARIO.actions(0))
    broken, env.envs[2] = env.envs[2], None
    with pytest.raises(AttributeError):
        recorder.reset()
    env.envs[2] = broken
    with pytest.raises(ProtocolError, match="reset"):
        recorder.step(SCENARIO.actions(1))
    assert recorder.held == 3
    recorder.reset()
    recorder.step(SCENARIO.actions(1))
    # The first environment was reset twice more, the third one once.
    first, *_, last = recorder.pop_trajectories()[0][-3:]
    assert (first.episode.reset_info, first.obs[0, 0], last.obs[0, 0]) == ({}, 8, 104)


def test_closing_when_the_sink_refuses():
    """The environments are closed all the same."""

    class Refusing:
        def append(self, trajectory):
            raise RuntimeError("full")

    env = sync_env(SCENARIO.env_fns())
    recorder = VectorBufferingWrapper(env, sink=Refusing())
    recorder.reset()
    with pytest.raises(RuntimeError, match="full"):
        recorder.step(SCENARIO.actions(0))
    with pytest.raises(RuntimeError, match="full"):
        recorder.close()
    assert env.closed
    assert recorder.held == 3


# Halves of steps, and seeds


def test_halves_of_a_step():
    """An asynchronous environment can be stepped in two calls."""
    scenario = Scenario(has_dead_calls=MODES[0] == "next_step")
    recorder = VectorBufferingWrapper(async_env(scenario.env_fns()))
    recorder.reset()
    for call in range(CALLS):
        recorder.step_async(scenario.actions(call))
        with pytest.raises(ProtocolError, match="still wait"):
            recorder.step_async(scenario.actions(call))
        recorder.step_wait()
    assert_recorded(recorder.pop_trajectories()[0], scenario.recorded(0, CALLS))
    recorder.close()


@pytest.mark.parametrize(
    ("seed", "expected"), [(None, [None] * 3), (0, [0, 1, 2]), (9, [9, 10, 11]), ([4, 2, 8], [4, 2, 8])]
)
def test_seeds(seed, expected):
    recorder = VectorBufferingWrapper(sync_env(SCENARIO.env_fns()))
    recorder.reset(seed=seed)
    recorder.step(SCENARIO.actions(0))
    trajectories = sorted(recorder.pop_trajectories()[0], key=lambda each: each.episode.env_index)
    assert [each.episode.seed for each in trajectories] == expected
    assert [each.episode.reset_info["seed"] for each in trajectories] == expected


def test_seeds_in_an_array():
    """As ALE's vector environment takes them."""

    class Seeded(CustomVectorEnv):
        def reset(self, *, seed=None, options=None):
            return super().reset()

    recorder = VectorBufferingWrapper(Seeded(SCENARIO.env_fns()), autoreset_mode="next_step")
    recorder.reset(seed=np.array([7, 0, 3]))
    recorder.step(SCENARIO.actions(0))
    trajectories = sorted(recorder.pop_trajectories()[0], key=lambda each: each.episode.env_index)
    assert [each.episode.seed for each in trajectories] == [7, 0, 3]


@pytest.mark.skipif("same_step" not in MODES, reason="this gymnasium does not have the rule")
def test_two_recorders_in_one_stack():
    """Both record all of it."""
    inner = VectorBufferingWrapper(sync_env(SCENARIO.env_fns(), "same_step"))
    outer = VectorBufferingWrapper(inner)
    outer.reset()
    for call in range(CALLS):
        outer.step(SCENARIO.actions(call))
    for recorder in (inner, outer):
        assert_recorded(recorder.pop_trajectories()[0], SCENARIO.recorded(0, CALLS))
