"""Ctrl-C at any moment of a recorder that writes: `close` returns, and the disk holds every step once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vecrollout import open_traces, verify_traces

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals are sent to processes on POSIX")

RECORDING = """
import json, os, random, signal, sys, threading, time
import gymnasium as gym
import numpy as np
from stable_baselines3.common.vec_env import DummyVecEnv
from vecrollout import record_traces

directory, wanted, kind = sys.argv[1], int(sys.argv[2]), sys.argv[3]
generator = random.Random(wanted)
interrupts = 0


class Counting(gym.Env):
    observation_space = gym.spaces.Box(0, np.inf, (1,), np.float64)
    action_space = gym.spaces.Discrete(2)
    episodes = 0

    def reset(self, *, seed=None, options=None):
        Counting.episodes += 1
        self.t = 1000 * Counting.episodes
        return np.full(1, self.t, np.float64), {"first": self.t}

    def step(self, action):
        self.t += 1
        return np.full(1, self.t, np.float64), 1.0, self.t % 1000 == 7, False, {"t": self.t}


MAKERS = {
    "single": Counting,
    "VecEnv": lambda: DummyVecEnv([Counting] * 2),
    "VectorEnv": lambda: gym.vector.SyncVectorEnv([Counting] * 2),
}


def send():
    global interrupts
    while interrupts < wanted:
        time.sleep(generator.expovariate(300))
        interrupts += 1
        os.kill(os.getpid(), signal.SIGINT)


def insist(function):
    while True:
        try:
            return function()
        except KeyboardInterrupt:
            pass


env = record_traces(MAKERS[kind](), directory)
acts = np.zeros(1 if kind == "single" else 2, int)
sender = threading.Thread(target=send)


def record():
    if not sender.ident:
        sender.start()
    env.restart()
    while interrupts < wanted:
        env.advance(acts)
    sender.join()


insist(record)
insist(env.close)
print(json.dumps([env.stepped, env.held, env.delivered]))
"""


@pytest.mark.parametrize("interrupts", [20, pytest.param(500, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "kind", ["VecEnv", *(pytest.param(n, marks=pytest.mark.slow) for n in ("single", "VectorEnv"))]
)
def test_every_step_is_on_disk_once(kind: str, interrupts: int, tmp_path: Path) -> None:
    command = [sys.executable, "-c", RECORDING, str(tmp_path), str(interrupts), kind]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    run = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=120)
    assert run.returncode == 0, run.stderr
    stepped, held, delivered = json.loads(run.stdout)
    assert (held, delivered) == (0, stepped)
    assert verify_traces(tmp_path).ok
    traces: list[Any] = list(open_traces(tmp_path))
    assert sum(map(len, traces)) == stepped > 0
    steps: list[float] = []
    for each in traces:
        np.testing.assert_array_equal(np.diff(each.obs[:, 0]), np.ones(len(each)))
        assert [info["t"] for info in each.infos] == each.obs[1:, 0].tolist()
        assert each.episode.reset_info["first"] == each.obs[0, 0] - each.episode.start_step
        steps += each.obs[1:, 0].tolist()
    assert len(set(steps)) == len(steps)
