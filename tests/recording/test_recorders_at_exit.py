"""How recorders end with their process: at its exit, and by SIGTERM; processes are real ones."""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import processes
from vecrollout import open_traces, verify_traces

pytestmark = pytest.mark.skipif(os.name != "posix", reason="processes are ended by signals on POSIX")

BY_SIGTERM = 128 + signal.SIGTERM

# A process that records environments, whose episodes end after 40 steps, and says when it is ready.
PRELUDE = """
import signal, sys, time
import gymnasium as gym
import numpy as np
from stable_baselines3.common.vec_env import DummyVecEnv
from vecrollout import BufferingEnvWrapper, BufferingWrapper, TraceWriter, VectorBufferingWrapper, record_traces

directory = sys.argv[1]


class Counting(gym.Env):
    observation_space = gym.spaces.Box(0, 40, (1,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        self.t = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.t += 1
        return np.full(1, self.t, np.float32), 1.0, self.t == 40, False, {"t": self.t}


MAKERS = {
    "single": Counting,
    "VecEnv": lambda: DummyVecEnv([Counting] * 2),
    "VectorEnv": lambda: gym.vector.SyncVectorEnv([Counting] * 2),
}
WRAPPERS = {"single": BufferingEnvWrapper, "VecEnv": BufferingWrapper, "VectorEnv": VectorBufferingWrapper}


def recorder(kind, how, place=directory):
    if how == "record_traces":
        env = record_traces(MAKERS[kind](), place)
    else:
        env = WRAPPERS[kind](MAKERS[kind](), error_on_premature_reset=False, sink=TraceWriter(place))
    env.restart()
    return env


def steps(env, kind, count):
    acts = np.zeros(1 if kind == "single" else 2, int)
    for _ in range(count):
        env.advance(acts)


def ready():
    print("ready", flush=True)


def record_everything():
    recorders = []
    for kind in MAKERS:
        for how in ("record_traces", "sink"):
            env = recorder(kind, how, f"{directory}/{kind} {how}")
            steps(env, kind, 100)
            recorders.append(env)
    return recorders


def idle():
    while True:
        time.sleep(0.1)  # Python looks at signals between naps; one that comes just before a nap waits for its end
"""


def terminated(code: str, directory: Path, after_s: float) -> tuple[int, str]:
    with process(code, directory) as child:
        return processes.terminated(child, after_s)


def process(code: str, directory: Path) -> AbstractContextManager[subprocess.Popen[str]]:
    return processes.process(PRELUDE + code, directory)


def assert_steps_in_a_row(directory: Path) -> list[Any]:
    """Each environment's episodes follow on each other, whole but for the last one, which the exit closed."""
    assert verify_traces(directory).ok
    traces: list[Any] = list(open_traces(directory))
    for env in {each.episode.env_index for each in traces}:
        own = [each for each in traces if each.episode.env_index == env]
        for each in own:
            np.testing.assert_array_equal(each.obs[:, 0], np.arange(len(each) + 1))
            assert [info["t"] for info in each.infos] == list(range(1, len(each) + 1))
        assert all((len(each), each.episode.ended_by) == (40, "terminated") for each in own[:-1])
        assert own[-1].episode.ended_by == ("terminated" if len(own[-1]) == 40 else "closed")
    return traces


def assert_everything_is_there(directory: Path) -> None:
    """Finished episodes and running fragments of all recorders."""
    places = sorted(directory.iterdir())
    assert len(places) == 6
    for place in places:
        total = sum(map(len, assert_steps_in_a_row(place)))
        envs = 1 if place.name.startswith("single") else 2
        # With next-step autoreset, two of the calls reset the environments.
        assert total in {100 * envs, 98 * envs}


def test_by_sigterm_while_idle(tmp_path: Path) -> None:
    """All recorders of the process are closed, whatever their kind."""
    assert terminated("recorders = record_everything(); ready(); idle()", tmp_path, 0.0) == (BY_SIGTERM, "")
    assert_everything_is_there(tmp_path)


@pytest.mark.parametrize("kind", ["VecEnv", pytest.param("single", marks=pytest.mark.slow)])
@pytest.mark.parametrize("after_s", [0.1, *(pytest.param(0.04 * n, marks=pytest.mark.slow) for n in range(1, 13))])
def test_by_sigterm_while_stepping(after_s: float, kind: str, tmp_path: Path) -> None:
    """Wherever the signal comes; only the step in flight is lost."""
    code = f"env = recorder({kind!r}, 'record_traces'); steps(env, {kind!r}, 1); ready(); steps(env, {kind!r}, 10**9)"
    assert terminated(code, tmp_path, after_s) == (BY_SIGTERM, "")
    assert assert_steps_in_a_row(tmp_path)


def test_by_sigterm_whose_exception_is_lost(tmp_path: Path) -> None:
    """As in some functions of NumPy, which swallow what is raised in them: the next step ends the process."""
    code = """
class Swallowing(Counting):
    def step(self, action):
        try:
            if self.t == 7:
                signal.raise_signal(signal.SIGTERM)
        except SystemExit:
            pass
        return super().step(action)


env = record_traces(Swallowing(), directory)
env.restart()
steps(env, "single", 10**9)
"""
    with process(code, tmp_path) as child:
        _, stderr = child.communicate(timeout=60)
    assert (child.returncode, stderr) == (BY_SIGTERM, "")
    assert sum(map(len, assert_steps_in_a_row(tmp_path))) == 8


@pytest.mark.parametrize("end", ["", pytest.param("sys.exit(3)", marks=pytest.mark.slow)])
def test_at_exit(end: str, tmp_path: Path) -> None:
    with process(f"recorders = record_everything(); {end}", tmp_path) as child:
        _, stderr = child.communicate(timeout=60)
    assert (child.returncode, stderr) == (3 if "exit" in end else 0, "")
    assert_everything_is_there(tmp_path)


def test_the_users_own_handler_stays(tmp_path: Path) -> None:
    code = """
signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
env = recorder("single", "sink")
steps(env, "single", 50)
ready()
idle()
"""
    assert terminated(code, tmp_path, 0.0) == (7, "")
    assert sum(map(len, assert_steps_in_a_row(tmp_path))) == 50
