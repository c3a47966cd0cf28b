"""Infos, which vector environments batch key by key, come apart again into a dict an environment."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from custom_vector_env import CustomVectorEnv
from vector_envs import HAS_MODES, IS_VERSION_0, MODES, async_env, sync_env

from vecrollout import VectorBufferingWrapper
from vecrollout.testing import CountingEnv, EpisodeScript, Scenario, assert_same


class TellingEnv(CountingEnv):
    """Its infos have all kinds of values, and keys that come and go."""

    def reset(self, **kwargs):
        obs, info = super().reset(**kwargs)
        return obs, {**info, "begun": np.float32(self._number), "both": "reset"}

    def step(self, action):
        *returned, info = super().step(action)
        return *returned, {**info, **telling(self._number, self._t), "both": "step"}


def telling(number, t):
    info = {
        "flag": number % 2 == 0,
        "float": number / 4,
        "array": np.array([number, -number], dtype=np.int16),
        "text": f"number {number}",
        "nested": {"number": number, "deep": {"half": number / 2}},
    }
    if number % 3 == 0:
        info["sometimes"] = number
        info["nested"]["sometimes"] = -number
    if t == 1:
        info["first"] = True
    return info


EPISODES = [[EpisodeScript(3), EpisodeScript(2, "truncated")], [EpisodeScript(4)], [EpisodeScript(1)]]
CALLS = 9


def recorder_of(mode, make=sync_env, **options):
    env_fns = [lambda i=i: TellingEnv("box", EPISODES[i], first=50 * i, stride=5) for i in range(3)]
    return VectorBufferingWrapper(make(env_fns, mode), **options)


def run(recorder, mode, calls=CALLS):
    recorder.reset(seed=20)
    for _ in range(calls):
        _, _, terminated, truncated, _ = recorder.step(np.zeros(3, np.int64))
        if mode == "disabled" and (terminated | truncated).any():
            recorder.reset(options={"reset_mask": terminated | truncated})


@pytest.mark.parametrize("make", [sync_env, async_env])
@pytest.mark.parametrize("mode", MODES)
def test_each_step_has_the_info_that_its_environment_gave(make, mode):
    """Not the zeros that stand in the batch where an environment lacks a key, and not the next reset's."""
    recorder = recorder_of(mode, make)
    run(recorder, mode)
    trajectories = recorder.pop_trajectories()[0]
    assert sum(map(len, trajectories)) == recorder.stepped >= 2 * CALLS
    for trajectory in trajectories:
        first = int(trajectory.obs[0, 0])
        for t, info in enumerate(trajectory.infos, start=1):
            expected = {"t": t, **telling(first + t, t), "both": "step"}
            assert info.keys() == expected.keys()
            assert info["nested"].keys() == expected["nested"].keys()
            assert_same(plain(info), plain(expected))
    recorder.close()


def plain(value):
    """Numbers come back as NumPy's."""
    if isinstance(value, dict):
        return {key: plain(child) for key, child in value.items()}
    return value.item() if isinstance(value, np.generic) else value


@pytest.mark.parametrize("mode", MODES)
def test_each_episode_has_the_info_of_the_reset_that_began_it(mode):
    recorder = recorder_of(mode)
    run(recorder, mode)
    for trajectory in recorder.pop_trajectories()[0]:
        env = trajectory.episode.env_index
        first = int(trajectory.obs[0, 0])
        episode = (first - 50 * env) // 5
        info = trajectory.episode.reset_info
        seed = 20 + env if episode == 0 else None
        assert trajectory.episode.seed == seed
        assert {key: info[key] for key in ("episode", "begun", "both")} == {
            "episode": episode,
            "begun": first,
            "both": "reset",
        }
        assert info["seed"] == seed
        assert info.keys() - {"options"} == {"episode", "seed", "begun", "both"}


@pytest.mark.parametrize("mode", MODES)
def test_infos_of_some_keys(mode):
    recorder = recorder_of(mode, record_infos=["sometimes", "nested", "nowhere"])
    run(recorder, mode)
    for trajectory in recorder.pop_trajectories()[0]:
        first = int(trajectory.obs[0, 0])
        for t, info in enumerate(trajectory.infos, start=1):
            told = telling(first + t, t)
            assert_same(plain(info), plain({key: told[key] for key in ("sometimes", "nested") if key in told}))


@pytest.mark.skipif(IS_VERSION_0, reason="its batches are arrays of objects, which are the environments' own")
@pytest.mark.parametrize("mode", MODES)
def test_infos_do_not_change_with_what_the_caller_holds(mode):
    """A wrapper above, or the environment, may write into the batch."""
    recorder = recorder_of(mode)
    recorder.reset()
    infos = recorder.step(np.zeros(3, np.int64))[-1]
    for value in [infos["array"], infos["nested"]["number"], infos["nested"]["deep"]["half"], infos["_t"]]:
        value[...] = 0
    infos["nested"].clear()
    assert_same(plain(recorder.pop_trajectories()[0][-1].infos[0]), {"t": 1, **plain(telling(51, 1)), "both": "step"})


class Path(CountingEnv):
    """Its infos hold lists and arrays that it goes on to fill."""

    def reset(self, **kwargs):
        obs, info = super().reset(**kwargs)
        self.path, self.last = [np.zeros(1)], np.zeros(1)
        return obs, {**info, **self.said()}

    def step(self, action):
        *returned, info = super().step(action)
        self.last[:] = self._t
        self.path[0] += 1
        self.path.append(self._t)
        return *returned, {**info, **self.said()}

    def said(self):
        return {"path": self.path, "deep": {"path": (self.path,)}, "last": self.last}


@pytest.mark.parametrize("mode", MODES)
def test_infos_do_not_change_with_what_the_environment_holds(mode):
    recorder = VectorBufferingWrapper(sync_env([lambda: Path("box", [EpisodeScript(3)])] * 3, mode))
    run(recorder, mode)
    trajectories = recorder.pop_trajectories()[0]
    assert len(trajectories) >= 6
    for trajectory in trajectories:
        for t, info in enumerate([trajectory.episode.reset_info, *trajectory.infos]):
            path = [np.array([float(t)]), *range(1, t + 1)]
            told = {key: info[key] for key in ("path", "deep", "last")}
            assert_same(told, {"path": path, "deep": {"path": (path,)}, "last": np.array([float(t)])})


def test_values_that_are_not_batched_are_everybodys():
    """A third party's infos need no masks."""

    def alter(step):
        step[-1] = {"speed": 2.5, "rows": step[0][:, 0].copy(), "table": np.arange(7), "names": ["a", "b", "c"]}
        return tuple(step)

    scenario = Scenario(has_dead_calls=True)
    env = CustomVectorEnv(scenario.env_fns(), "next_step", alter=alter)
    recorder = VectorBufferingWrapper(env, autoreset_mode="next_step")
    recorder.reset()
    recorder.step(scenario.actions(0))
    for trajectory in sorted(recorder.pop_trajectories()[0], key=lambda each: each.episode.env_index):
        (info,) = trajectory.infos
        number = np.float32(50 * trajectory.episode.env_index + 1)
        assert_same(info, {"speed": 2.5, "rows": number, "table": np.arange(7), "names": ["a", "b", "c"]})


@pytest.mark.skipif(IS_VERSION_0, reason="its wrappers forward attributes with a warning")
@pytest.mark.parametrize("mode", [mode for mode in MODES if mode != "disabled"])  # where the statistics are wrong
def test_statistics_of_an_episode_are_its_own(mode):
    """Where the same step begins the next episode, they come among the infos of that one's reset."""
    if mode == "same_step" and not counts_same_step_episodes():
        pytest.skip("this gymnasium's RecordEpisodeStatistics knows next-step environments only")
    env = gym.wrappers.vector.RecordEpisodeStatistics(sync_env([lambda: gym.make("CartPole-v1")] * 2, mode))
    recorder = VectorBufferingWrapper(env)
    recorder.reset(seed=3)
    for _ in range(80):
        recorder.step(np.ones(2, np.int64))
    trajectories = recorder.pop_finished_trajectories()[0]
    assert len(trajectories) > 10
    for trajectory in trajectories:
        statistics = trajectory.infos[-1]["episode"]
        assert (statistics["r"], statistics["l"]) == (trajectory.rews.sum(), len(trajectory))
        assert not any("episode" in info for info in trajectory.infos[:-1])
        assert "episode" not in (trajectory.episode.reset_info or {})


def counts_same_step_episodes():
    return HAS_MODES and tuple(map(int, gym.__version__.split(".")[:2])) >= (1, 4)
