"""Whatever else is asked of a vector environment goes through the recorder to the one below."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3.common.env_util import is_wrapped
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecNormalize, is_vecenv_wrapped

from vecrollout import BufferingWrapper
from vecrollout.testing import CountingEnv, EpisodeScript

# Stable-Baselines3 2.2 looks attributes up in a way that Gymnasium 0.29 warns of.
pytestmark = pytest.mark.filterwarnings("ignore:.*to get variables from other wrappers")


class MaskedEnv(CountingEnv):
    """With two methods and an attribute that other environments lack."""

    extra = 5
    render_mode = "rgb_array"

    def action_masks(self):
        return np.arange(4) >= (self._t or 0) % 4

    def times(self, number, *, plus=0):
        return self.extra * number + plus

    def render(self):
        return np.full((2, 2, 3), self.extra, np.uint8)


def make_env():
    return Monitor(MaskedEnv("box", [EpisodeScript(3)], action_space=gym.spaces.Discrete(4)))


@pytest.fixture(params=[DummyVecEnv, SubprocVecEnv])
def venv(request):
    made = BufferingWrapper(request.param([make_env] * 2))
    yield made
    made.close()


def test_attributes_and_methods(venv):
    assert venv.get_attr("render_mode") == ["rgb_array"] * 2
    assert venv.env_method("times", 3, plus=1) == [16, 16]
    assert venv.env_method("times", 3, indices=1) == [15]
    venv.set_attr("rewards_so_far", 7, indices=[0])
    assert venv.get_attr("rewards_so_far", indices=0) == [7]
    assert venv.env_is_wrapped(Monitor) == [True, True]
    assert venv.env_is_wrapped(gym.wrappers.TimeLimit) == [False, False]
    assert (venv.num_envs, venv.observation_space, venv.action_space) == (
        2,
        venv.venv.observation_space,
        venv.venv.action_space,
    )
    assert venv.unwrapped is venv.venv
    assert is_vecenv_wrapped(venv, BufferingWrapper)
    assert is_wrapped(venv, BufferingWrapper) is False  # that one is for single environments


def test_rendering(venv):
    assert [image[0, 0, 0] for image in venv.get_images()] == [5, 5]
    assert venv.render().shape[-1] == 3


def test_seeds_and_options(venv):
    assert list(venv.seed(11)) == [11, 12]
    venv.set_options({"level": 2})
    venv.reset()
    venv.step(np.zeros(2, np.int64))
    for env, trajectory in enumerate(venv.pop_trajectories()[0]):
        assert trajectory.episode.seed == 11 + env
        assert trajectory.episode.reset_info == {"episode": 0, "seed": 11 + env, "options": {"level": 2}}
    venv.reset()
    venv.step(np.zeros(2, np.int64))
    for trajectory in venv.pop_trajectories()[0]:
        assert trajectory.episode.seed is None
        assert trajectory.episode.reset_info == {"episode": 1, "seed": None}


def test_action_masks(venv):
    masking = pytest.importorskip("sb3_contrib.common.maskable.utils")
    assert masking.is_masking_supported(venv)
    venv.reset()
    for t in range(3):
        assert masking.get_action_masks(venv).tolist() == [[False] * t + [True] * (4 - t)] * 2
        venv.step(np.full(2, t))


def test_closing():
    class Closing(MaskedEnv):
        closed = 0

        def close(self):
            self.closed += 1

    base = DummyVecEnv([lambda: Closing("box", [EpisodeScript(3)])])
    BufferingWrapper(base).close()
    assert [env.closed for env in base.envs] == [1]


def test_names_of_wrappers_further_out_and_further_in():
    """A wrapper above finds the recorder's methods, and the recorder those of a wrapper below."""
    below = VecNormalize(DummyVecEnv([make_env]))
    recorder = BufferingWrapper(below)
    assert recorder.obs_rms is below.obs_rms
    above = VecNormalize(BufferingWrapper(DummyVecEnv([make_env])))
    above.reset()
    above.step(np.zeros(1, np.int64))
    assert above.n_transitions == above.held == 1
    assert len(above.pop_transitions()) == 1
    with pytest.raises(AttributeError):
        _ = recorder.nowhere
