from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from vecrollout.errors import ProtocolError
from vecrollout.testing import SPACES, CountingEnv, EpisodeScript, ScriptedError, assert_same, element_of, leaves_of


def test_an_environment_by_the_script():
    env = CountingEnv(
        "box", [EpisodeScript(2), EpisodeScript(1, "truncated"), EpisodeScript(1, "both")], first=7, stride=10
    )
    seen = []
    for seed in (5, None, None, None):
        obs, info = env.reset(seed=seed)
        seen.append((obs[0], info))
        ended = False
        while not ended:
            obs, rew, terminated, truncated, info = env.step(0)
            seen.append((obs[0], rew, terminated, truncated, info))
            ended = terminated or truncated
    assert seen == [
        (7, {"episode": 0, "seed": 5}),
        (8, 8.5, False, False, {"t": 1}),
        (9, 9.5, True, False, {"t": 2}),
        (17, {"episode": 1, "seed": None}),
        (18, 18.5, False, True, {"t": 1}),
        (27, {"episode": 2, "seed": None}),
        (28, 28.5, True, True, {"t": 1}),
        (37, {"episode": 3, "seed": None}),
        (38, 38.5, False, False, {"t": 1}),
        (39, 39.5, True, False, {"t": 2}),
    ]


def test_observations_count_on_from_0_after_255_and_rewards_do_not():
    env = CountingEnv("image", [EpisodeScript(3)], first=254)
    env.reset()
    steps = [env.step(0)[:2] for _ in range(3)]
    assert [(obs[0, 0, 0], rew) for obs, rew in steps] == [(255, 255.5), (0, 256.5), (1, 257.5)]


@pytest.mark.parametrize("name", [name for name in SPACES if name not in ("nested", "text")])
@pytest.mark.filterwarnings("ignore")  # advice on how spaces should look for learning
def test_gymnasium_takes_it_for_an_environment(name):
    check_env(CountingEnv(name, [EpisodeScript(5)]), skip_render_check=True)


@pytest.mark.parametrize("name", [name for name in SPACES if name != "text"])
def test_arrays_that_are_used_again(name):
    env = CountingEnv(name, [EpisodeScript(3)], reuse_obs=True, reuse_info=True)
    first, first_info = env.reset()
    obs, _, _, _, info = env.step(0)
    assert info is first_info
    assert obs is first
    assert_same(*(list(map(np.asarray, leaves_of(each))) for each in (obs, element_of(SPACES[name], 1))))


def test_calls_that_no_environment_takes():
    env = CountingEnv(episodes=[EpisodeScript(1)])
    with pytest.raises(ProtocolError, match="reset"):
        env.step(0)
    env.reset()
    env.step(0)
    with pytest.raises(ProtocolError, match="reset"):
        env.step(0)


def test_failing_on_demand():
    env = CountingEnv()
    env.reset()
    env.fail_next = True
    with pytest.raises(ScriptedError):
        env.step(0)
    assert_same(env.step(0)[0], element_of(SPACES["box"], 1))


def test_actions_are_kept_as_copies():
    env = CountingEnv()
    env.reset()
    action = np.array([1])
    env.step(action)
    action[0] = 2
    assert env.actions == [np.array([1])]


def test_the_package_needs_no_test_runner():
    code = "import sys, vecrollout.testing; print({'pytest', 'hypothesis', 'torch'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "set()"
