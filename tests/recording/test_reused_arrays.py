"""Environments that fill one array at every step, and the warning about them."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from checks import assert_recorded, run
from custom_venv import CustomVecEnv
from stable_baselines3.common.vec_env import DummyVecEnv

from vecrollout import BufferingWrapper, CopyingWrapper
from vecrollout.testing import VEC_ENV_SPACES, CountingEnv, EpisodeScript, Scenario

CALLS = 13


def recorder(env_fns):
    venv = BufferingWrapper(DummyVecEnv(env_fns))
    venv.reset()
    return venv


@pytest.mark.parametrize("space", [name for name in VEC_ENV_SPACES if name not in ("discrete", "discrete_from")])
def test_a_lost_last_observation_is_said_once(space):
    """It names the environment and the cure, and the line that stepped."""
    scenario = Scenario(space=space, reuse_obs=True)
    venv = recorder(scenario.env_fns())
    with pytest.warns(UserWarning, match=r"environment \d.*CopyingWrapper") as caught:
        run(venv, scenario, 0, 30)
    assert len(caught) == 1
    assert caught[0].filename.endswith("checks.py")


def test_a_last_observation_in_the_place_of_the_next_first_one():
    """Of a `VecEnv` of one's own, which returns it as a view of the array that its reset has filled. Said once."""

    def with_views(returned):
        obs, _, dones, infos = returned
        for env in np.flatnonzero(dones):
            infos[env]["terminal_observation"] = obs[env]
        return returned

    venv = BufferingWrapper(CustomVecEnv([lambda: CountingEnv("box", [EpisodeScript(1)])] * 2, alter=with_views))
    venv.reset()
    with pytest.warns(UserWarning, match="environment 0.*CopyingWrapper") as caught:
        venv.step(np.zeros(2, np.int64))
    assert len(caught) == 1


def test_the_warning_as_an_error_loses_nothing():
    """Where a user turns warnings into errors, the step is recorded, and stepping can go on."""
    scenario = Scenario(reuse_obs=True, episodes=[[EpisodeScript(2)]] * 2)
    venv = recorder(scenario.env_fns())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match="CopyingWrapper"):
            run(venv, scenario, 0, 30)
    # The second episode's end of the first environment is the first that tells.
    assert venv.stepped == venv.held == 2 * 4
    run(venv, scenario, 0, 3)
    assert venv.held == 2 * 7


@pytest.mark.parametrize("reuse_info", [False, True])
def test_the_copying_wrapper_is_the_cure(reuse_info):
    """And there is nothing to warn of: warnings are errors here."""
    scenario = Scenario(reuse_obs=True, reuse_info=reuse_info)
    venv = recorder([lambda env_fn=env_fn: CopyingWrapper(env_fn()) for env_fn in scenario.env_fns()])
    run(venv, scenario, 0, CALLS)
    assert_recorded(venv.pop_trajectories()[0], scenario.recorded(0, CALLS))


def test_no_warning_where_the_observations_are_equal_but_not_the_same():
    """An environment that ends where it began, in arrays of its own."""

    class Still(CountingEnv):
        def step(self, action):
            obs, *rest = super().step(action)
            return np.full_like(obs, self.first), *rest

    venv = recorder([lambda: Still("box", [EpisodeScript(1)])] * 2)
    for _ in range(20):
        venv.step(np.zeros(2, np.int64))
    assert venv.held == 40


def test_the_copying_wrapper_takes_an_environment_without_options():
    """Environments may leave `options` out of their reset; `DummyVecEnv` passes none unless they are set."""

    class WithoutOptions(CountingEnv):
        def reset(self, *, seed=None):
            return super().reset(seed=seed)

    venv = recorder([lambda: CopyingWrapper(WithoutOptions())])
    venv.step(np.zeros(1, np.int64))
    assert venv.held == 1
