"""`vecrollout replay`: which recordings happen again, and where others differ."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3.common.env_util import make_vec_env

from vecrollout import TraceDataset, TraceWriter, open_traces, record_traces

if TYPE_CHECKING:
    from conftest import Run


def record_by_hand(directory: Path, episodes: int = 3) -> None:
    """Only the first reset has a seed."""
    with record_traces(gym.make("CartPole-v1"), directory) as env:
        env.action_space.seed(0)
        for number in range(episodes):
            env.reset(seed=0 if number == 0 else None)
            done = False
            while not done:
                _, _, terminated, truncated, _ = env.step(env.action_space.sample())
                done = terminated or truncated


def altered(traces: TraceDataset, directory: Path, number: int, step: int) -> None:
    """A copy of a trace with another observation after one step."""
    with TraceWriter(directory, metadata=traces.metadata, env_spec=traces.env_spec) as writer:
        for at, each in enumerate(traces):
            obs = np.array(each.obs)
            obs[step + 1] += at == number
            writer.append(type(each)(**{**vars(each), "obs": obs}))


def test_a_recording_happens_again(run: Run, cartpole: Path) -> None:
    assert run("replay", cartpole).out == "12 of 12 trajectories are the same\n"


def test_an_episode_by_itself(run: Run, cartpole: Path, tmp_path: Path) -> None:
    assert run("filter", cartpole, "--episodes", "6,11", "--out", tmp_path / "two").code == 0
    assert run("replay", tmp_path / "two", "--json").json == {"replayed": 2, "same": 2, "failed": []}


def test_the_first_step_that_differs_is_named(run: Run, traces: TraceDataset, tmp_path: Path) -> None:
    altered(traces, tmp_path, number=4, step=3)
    ran = run("replay", tmp_path)
    assert ran.code == 1
    first, last = ran.out.splitlines()
    assert first.startswith("episode 4: step 3: observation: recorded [")
    assert last == "11 of 12 trajectories are the same"
    assert run("replay", tmp_path, "--tolerance", 1.5).code == 0


def test_episodes_of_an_autoreset_follow_those_before(run: Run, tmp_path: Path) -> None:
    record_by_hand(tmp_path / "trace")
    assert run("replay", tmp_path / "trace").code == 0
    assert run("replay", tmp_path / "trace", "--episodes", 2, "--json").json["same"] == 1


def test_a_missing_episode_is_told(run: Run, tmp_path: Path) -> None:
    record_by_hand(tmp_path / "trace")
    open_traces(tmp_path / "trace")[[0, 2]].write(tmp_path / "gap")
    ran = run("replay", tmp_path / "gap", "--json")
    assert ran.code == 1
    assert (ran.json["same"], [each["episode"] for each in ran.json["failed"]]) == (1, [1])
    assert "no seed" in ran.json["failed"][0]["what"]


def test_recordings_of_sb3_environments(run: Run, tmp_path: Path) -> None:
    """With Monitors, that the spec names too, and without the command's own metadata."""
    venv = record_traces(make_vec_env("CartPole-v1", n_envs=2, seed=1), tmp_path)
    venv.reset()
    for _ in range(60):
        venv.step(np.array([venv.action_space.sample() for _ in range(2)]))
    venv.close()
    ran = run("replay", tmp_path)
    assert ran.code == 0, ran.out + ran.err


def test_another_environment_differs(run: Run, cartpole: Path) -> None:
    ran = run("replay", cartpole, "--env", "Acrobot-v1")
    assert ran.code == 1
    assert "first observation" in ran.out


class Drifting(gym.Env[Any, Any]):
    """Its second episode is another one each time."""

    observation_space = gym.spaces.Dict({"at": gym.spaces.Box(-np.inf, np.inf, (1,), np.float64)})
    action_space = gym.spaces.Discrete(2)
    made = 0

    def __init__(self) -> None:
        Drifting.made += 1
        self._steps = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return {"at": np.zeros(1)}, {}

    def step(self, action: Any) -> Any:
        self._steps += 1
        at = float(self._steps if self._steps < 5 else Drifting.made)
        return {"at": np.array([at])}, 0.0, self._steps % 4 == 0, False, {}


def test_a_function_makes_the_environment(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with record_traces(Drifting(), tmp_path / "trace") as env:
        for number in range(2):
            env.reset(seed=number)
            for _ in range(4):
                env.step(0)
    ran = run("replay", tmp_path / "trace")
    assert ran.code == 2
    assert "--env MODULE:FUNCTION" in ran.error
    (tmp_path / "making.py").write_text("from test_replay import Drifting\n\ndef make():\n    return Drifting()\n")
    monkeypatch.chdir(tmp_path)
    ran = run("replay", "trace", "--env", "making.py:make")
    assert ran.code == 1
    assert ran.out.splitlines()[0] == "episode 1: step 0: observation['at']: recorded [1.0], now [2.0]"
