"""Memory: reserved for long recordings, but only where the system has it, and used again once nobody looks at it."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from checks import run
from gymnasium import spaces
from stable_baselines3.common.vec_env import DummyVecEnv

from vecrollout import BufferingWrapper
from vecrollout.testing import EpisodeScript, Scenario

IMAGES = spaces.Box(0, 255, (64, 64, 3), np.uint8)

LITTLE_MEMORY = """
import resource
import numpy as np
from gymnasium import spaces
from stable_baselines3.common.vec_env import DummyVecEnv
from vecrollout import BufferingWrapper
from vecrollout.testing import EpisodeScript, Scenario

scenario = Scenario(space=spaces.Box(0, 255, (64, 64, 3), np.uint8), episodes=[[EpisodeScript(50)]] * 2)
venv = BufferingWrapper(DummyVecEnv(scenario.env_fns()))
with open("/proc/self/statm") as file:
    used = int(file.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 28), resource.RLIM_INFINITY))
venv.reset()
for call in range(300):
    venv.step(scenario.actions(call))
trajectories = venv.pop_trajectories()[0]
for trajectory, recorded in zip(trajectories, scenario.recorded(0, 300), strict=True):
    recorded.assert_recorded_as(trajectory, reward_dtype=np.float32, sees_both=False)
print(len(trajectories))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits the process's memory by Linux's means")
def test_a_system_with_little_memory():
    """Where what would be reserved for large observations is not there, less will do."""
    command = [sys.executable, "-W", "error", "-c", LITTLE_MEMORY]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.stdout.strip() == "12", result.stderr


def addresses(venv, scenario, calls):
    """Where in memory the observations of a recording lie."""
    run(venv, scenario, 0, calls)
    return {each.obs.__array_interface__["data"][0] for each in venv.pop_trajectories()[0]}


@pytest.mark.parametrize("space", ["box", IMAGES])
def test_memory_is_used_again(space):
    """Recording the same amount over and over needs no more than the first time, if nothing is kept."""
    scenario = Scenario(space=space, episodes=[[EpisodeScript(10)]] * 2)
    venv = BufferingWrapper(DummyVecEnv(scenario.env_fns()))
    venv.reset()
    addresses(venv, scenario, 20)  # whose first row is a later one
    first = addresses(venv, scenario, 20)
    for _ in range(5):
        assert addresses(venv, scenario, 20) == first


def test_trajectories_are_views():
    """Of one array a column: popping copies nothing."""
    scenario = Scenario(space="dict")
    venv = BufferingWrapper(DummyVecEnv(scenario.env_fns()))
    venv.reset()
    run(venv, scenario, 0, 13)
    trajectories = venv.pop_trajectories()[0]
    for column in (
        [each.obs.get("position") for each in trajectories],
        [each.obs.get("camera") for each in trajectories],
        [each.acts for each in trajectories],
        [each.rews for each in trajectories],
    ):
        assert len({id(array.base) for array in column}) == 1
        assert not any(array.flags.owndata for array in column)
