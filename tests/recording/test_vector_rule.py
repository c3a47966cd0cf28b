"""The autoreset rule: as the environment says, as the caller names it, never guessed."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from custom_vector_env import CustomVectorEnv, with_final_obs
from vector_envs import HAS_MODES, IS_VERSION_0, MODES, RULES, async_env, sync_env

from vecrollout import VectorBufferingWrapper
from vecrollout.errors import OptionError
from vecrollout.testing import Scenario

CALLS = 13


def assert_records(env, scenario, **options):
    recorder = VectorBufferingWrapper(env, **options)
    recorder.reset()
    for call in range(CALLS):
        recorder.step(scenario.actions(call))
    trajectories = recorder.pop_trajectories()[0]
    expected = scenario.recorded(0, CALLS)
    assert [len(each) for each in trajectories] == [len(each) for each in expected]
    for trajectory, recorded in zip(trajectories, expected, strict=True):
        assert np.array_equal(trajectory.obs, recorded.obs)
        assert np.array_equal(trajectory.acts, recorded.acts)
        assert np.array_equal(trajectory.rews, recorded.rews)
        assert (trajectory.terminated, trajectory.truncated) == (recorded.terminated, recorded.truncated)
    recorder.close()


@pytest.mark.parametrize("make", [sync_env, async_env])
@pytest.mark.parametrize("mode", [mode for mode in MODES if mode != "disabled"])
def test_gymnasiums_own_environments_say_it(make, mode):
    """Up to 1.0 not in words: 0.29 has one rule only, and so has 1.0."""
    scenario = Scenario(has_dead_calls=mode == "next_step")
    env = make(scenario.env_fns(), mode)
    assert ("autoreset_mode" in env.metadata) == HAS_MODES
    assert_records(env, scenario)


@pytest.mark.skipif(IS_VERSION_0, reason="its wrappers forward attributes with a warning")
def test_it_is_seen_through_gymnasiums_wrappers():
    scenario = Scenario(has_dead_calls=MODES[0] == "next_step")
    wrapped = gym.wrappers.vector.TransformReward(sync_env(scenario.env_fns()), lambda rews: rews)
    assert_records(wrapped, scenario)


@pytest.mark.parametrize("rule", ["next_step", "same_step"])
def test_an_environment_that_says_nothing_is_refused(rule):
    """A guess would be wrong for one of these two."""
    env = CustomVectorEnv(Scenario().env_fns(), rule)
    with pytest.raises(OptionError, match=r"CustomVectorEnv does not say .* autoreset_mode=.*next_step.*same_step"):
        VectorBufferingWrapper(env)


def test_what_an_environment_writes_into_its_base_class_is_not_what_another_says(monkeypatch):
    """ALE's vector environments have no metadata of their own, and write their rule into those of all."""
    monkeypatch.setitem(gym.vector.VectorEnv.metadata, "autoreset_mode", "NextStep")
    with pytest.raises(OptionError, match="autoreset_mode"):
        VectorBufferingWrapper(CustomVectorEnv(Scenario().env_fns(), "same_step"))


NAMES = {
    "next_step": ["next_step", "NextStep", "NEXT_STEP", "next-step"],
    "same_step": ["same_step", "SameStep", "SAME_STEP", "same-step"],
}


@pytest.mark.parametrize(("rule", "name"), [(rule, name) for rule, names in NAMES.items() for name in names])
def test_the_caller_names_it(rule, name):
    scenario = Scenario(has_dead_calls=rule == "next_step")
    env = CustomVectorEnv(scenario.env_fns(), rule, alter=with_final_obs())
    assert_records(env, scenario, autoreset_mode=name)


@pytest.mark.skipif(not HAS_MODES, reason="this gymnasium has no AutoresetMode")
@pytest.mark.parametrize("rule", ["next_step", "same_step"])
def test_the_caller_names_it_by_gymnasiums_own_class(rule):
    scenario = Scenario(has_dead_calls=rule == "next_step")
    env = CustomVectorEnv(scenario.env_fns(), rule, alter=with_final_obs())
    assert_records(env, scenario, autoreset_mode=gym.vector.AutoresetMode[rule.upper()])


@pytest.mark.parametrize("rule", ["next_step", "same_step"])
def test_the_environment_says_it_in_words(rule):
    scenario = Scenario(has_dead_calls=rule == "next_step")
    env = CustomVectorEnv(scenario.env_fns(), rule, alter=with_final_obs())
    env.metadata = {"autoreset_mode": rule}
    assert_records(env, scenario)


def test_a_rule_that_contradicts_the_environment_is_refused_when_it_is_given():
    scenario = Scenario(has_dead_calls=True)
    env = CustomVectorEnv(scenario.env_fns(), "next_step")
    env.metadata = {"autoreset_mode": "same_step"}
    with pytest.raises(OptionError, match=r"autoreset_mode: expected 'same_step', .* got 'next_step'; leave"):
        VectorBufferingWrapper(env, autoreset_mode="next_step")
    env.metadata = {"autoreset_mode": "next_step"}
    assert_records(env, scenario, autoreset_mode="NextStep")


@pytest.mark.parametrize("name", ["sometimes", "", 3, "final_obs"])
def test_a_name_of_no_rule(name):
    env = CustomVectorEnv(Scenario().env_fns())
    with pytest.raises(OptionError, match='autoreset_mode: expected "next_step", "same_step" or "disabled", got'):
        VectorBufferingWrapper(env, autoreset_mode=name)


@pytest.mark.parametrize("rule", RULES)
def test_the_recorder_tells_its_rule(rule):
    env = CustomVectorEnv(Scenario().env_fns())
    assert VectorBufferingWrapper(env, autoreset_mode=rule).autoreset.value == rule
