"""`restart` and `advance`: every recorder, in the same way, whatever resets its environments."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3.common.vec_env import DummyVecEnv
from vector_envs import MODES, sync_env

from vecrollout import BufferingEnvWrapper, BufferingWrapper, VectorBufferingWrapper
from vecrollout.testing import CountingEnv, EpisodeScript

SCRIPTS = [[EpisodeScript(3), EpisodeScript(1, "truncated")], [EpisodeScript(2)]]


def counting(env: int) -> Any:
    return CountingEnv("box", SCRIPTS[env], first=100 * env, stride=10)


FNS = [lambda: counting(0), lambda: counting(1)]
MAKERS: dict[str, Any] = {
    "single": lambda: BufferingEnvWrapper(counting(0)),
    "VecEnv": lambda: BufferingWrapper(DummyVecEnv(FNS)),
    **{mode: lambda mode=mode: VectorBufferingWrapper(sync_env(FNS, mode)) for mode in MODES},
}
if hasattr(gym.wrappers, "Autoreset"):
    MAKERS["single that resets itself"] = lambda: BufferingEnvWrapper(gym.wrappers.Autoreset(counting(0)))


@pytest.mark.parametrize("name", MAKERS)
def test_what_a_policy_acts_on_is_what_is_recorded(name: str) -> None:
    recorder = MAKERS[name]()
    obs = recorder.restart()
    envs = len(obs)
    acts = np.zeros(envs, int)
    # By environment, episodes as the one who acts sees them: lists of observations.
    seen: list[list[list[float]]] = [[[each]] for each in obs[:, 0].tolist()]
    over = np.zeros(envs, bool)
    for _ in range(20):
        obs, ended, starts = recorder.advance(acts)
        assert ended.shape == starts.shape == (envs,)
        assert ended.dtype == starts.dtype == bool
        for env in range(envs):
            # An episode begins with the step that ended one, or with the next.
            assert starts[env] == (over[env] if name == "next_step" else ended[env])
            if starts[env]:
                seen[env].append([])
            seen[env][-1].append(float(obs[env, 0]))
        over = ended
    trajectories = sorted(recorder.pop_trajectories()[0], key=lambda each: each.episode.id)
    recorder.close()
    for env in range(envs):
        # The last observation of an episode is not acted on; with next-step autoreset, it is returned all the same.
        recorded = [
            each.obs[: len(each) + (name == "next_step" or not each.terminal), 0].tolist()
            for each in trajectories
            if each.episode.env_index == env
        ]
        assert [each for each in seen[env] if len(each) > 1 or name != "next_step"][: len(recorded)] == recorded
        assert len(recorded) >= 6
