"""Over and under the wrappers of Stable-Baselines3: recorded is what passes the recorder's place among them."""

from __future__ import annotations

from functools import partial

import gymnasium as gym
import numpy as np
import pytest
from checks import assert_recorded
from custom_venv import CustomVecEnv
from gymnasium import spaces
from observed import Observed
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    SubprocVecEnv,
    VecCheckNan,
    VecExtractDictObs,
    VecFrameStack,
    VecMonitor,
    VecNormalize,
    VecTransposeImage,
)

from vecrollout import BufferingWrapper
from vecrollout.testing import Scenario, assert_same

CALLS = 13

BOXES = spaces.Dict(
    {
        "camera": spaces.Box(0, 255, (4, 4, 1), np.uint8),
        "position": spaces.Box(-np.inf, np.inf, (2,), np.float32),
    }
)

# Name, observation space, wrapper.
STACKS = [
    ("VecNormalize", "box", VecNormalize),
    ("VecNormalize of the space's float64", "box_float64", VecNormalize),
    ("VecNormalize without rewards", "box", partial(VecNormalize, norm_reward=False)),
    ("VecNormalize at evaluation", "box", partial(VecNormalize, training=False)),
    ("VecNormalize that clips", "box", partial(VecNormalize, clip_obs=0.5, clip_reward=0.1)),
    ("VecNormalize of a dict", "dict", partial(VecNormalize, norm_obs_keys=["position"])),
    ("VecFrameStack", "box", partial(VecFrameStack, n_stack=3)),
    ("VecFrameStack of images", "image", partial(VecFrameStack, n_stack=2)),
    ("VecFrameStack of images, channels first", "image", partial(VecFrameStack, n_stack=2, channels_order="first")),
    ("VecFrameStack of a dict", BOXES, partial(VecFrameStack, n_stack=2)),
    ("VecTransposeImage", "image", VecTransposeImage),
    ("VecTransposeImage of a dict", "dict", VecTransposeImage),
    ("VecMonitor", "box", VecMonitor),
    ("VecMonitor of a tuple", "tuple", VecMonitor),
    ("VecExtractDictObs", "dict", partial(VecExtractDictObs, key="position")),
    ("VecExtractDictObs of a number", "dict", partial(VecExtractDictObs, key="level")),
    ("VecCheckNan", "box", partial(VecCheckNan, raise_exception=True)),
    ("VecCheckNan of a dict", "dict", partial(VecCheckNan, raise_exception=True)),
    ("BufferingWrapper", "dict", BufferingWrapper),
    ("several", "image", lambda venv: VecMonitor(VecNormalize(VecTransposeImage(VecFrameStack(venv, 2))))),
]
PARAMETERS = pytest.mark.parametrize(("space", "wrap"), [pytest.param(*rest, id=name) for name, *rest in STACKS])


def drive(venv, scenario):
    observed = Observed(venv)
    for call in range(CALLS):
        observed.step(scenario.actions(call))
    return observed


@PARAMETERS
@pytest.mark.parametrize("base", [DummyVecEnv, partial(CustomVecEnv, reuses_arrays=True)], ids=["Dummy", "reusing"])
def test_over_and_under_each_wrapper(space, wrap, base):
    """Two recorders: the lower one has the raw data, the upper one what the wrapper made of it."""
    scenario = Scenario(space=space)
    lower = BufferingWrapper(base(scenario.env_fns()))
    upper = BufferingWrapper(wrap(lower))
    drive(upper, scenario).assert_recorded(upper.pop_trajectories()[0])
    trajectories = lower.pop_trajectories()[0]
    assert_recorded(trajectories, scenario.recorded(0, CALLS))
    for trajectory in trajectories:
        if trajectory.terminal:
            last = trajectory.obs[-1]
            assert_same(trajectory.infos[-1]["terminal_observation"], getattr(last, "unwrap", lambda x=last: x)())


@pytest.mark.parametrize(("space", "wrap"), [("image", VecFrameStack), ("box", VecNormalize)])
def test_over_subprocesses(space, wrap):
    wrap = partial(wrap, n_stack=2) if wrap is VecFrameStack else wrap
    scenario = Scenario(space=space)
    lower = BufferingWrapper(SubprocVecEnv(scenario.env_fns()))
    upper = BufferingWrapper(wrap(lower))
    drive(upper, scenario).assert_recorded(upper.pop_trajectories()[0])
    assert_recorded(lower.pop_trajectories()[0], scenario.recorded(0, CALLS), reward_dtype=np.float64)
    upper.close()


def test_identity_of_episodes_through_wrappers():
    """Seeds and reset infos are the base environment's, however far below it is."""
    scenario = Scenario(space="image")
    venv = BufferingWrapper(VecMonitor(VecTransposeImage(VecFrameStack(DummyVecEnv(scenario.env_fns()), 2))))
    venv.seed(7)
    drive(venv, scenario)
    for trajectory in venv.pop_trajectories()[0]:
        identity = trajectory.episode
        assert identity.seed == (7 + identity.env_index if identity.reset_info["episode"] == 0 else None)
        assert identity.reset_info["seed"] == identity.seed


def test_monitor_inside():
    """Its entry about the episode is in the last info."""
    scenario = Scenario()
    venv = BufferingWrapper(DummyVecEnv([lambda env_fn=env_fn: Monitor(env_fn()) for env_fn in scenario.env_fns()]))
    drive(venv, scenario)
    trajectories = venv.pop_trajectories()[0]
    assert_recorded(trajectories, scenario.recorded(0, CALLS))
    for trajectory in trajectories:
        summaries = [info["episode"] for info in trajectory.infos if "episode" in info]
        expected = [(trajectory.rews.sum(), len(trajectory))] if trajectory.terminal else []
        assert [(each["r"], each["l"]) for each in summaries] == expected


def test_nan_passes():
    """A recorder keeps what it is given, bit for bit."""

    class Nan(gym.ObservationWrapper):
        def observation(self, observation):
            return np.array([np.nan, -0.0, np.inf], np.float32)

    scenario = Scenario()
    venv = BufferingWrapper(DummyVecEnv([lambda env_fn=env_fn: Nan(env_fn()) for env_fn in scenario.env_fns()]))
    observed = drive(venv, scenario)
    observed.assert_recorded(venv.pop_trajectories()[0])
