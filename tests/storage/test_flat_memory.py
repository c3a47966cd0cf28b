"""Memory does not grow with what was recorded."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

# What is resident at the peak, after so many episodes in a process of its own.
RECORDING = """
import resource, sys
import numpy as np
from stable_baselines3.common.vec_env import DummyVecEnv
from vecrollout import record_traces
from vecrollout.testing import CountingEnv, EpisodeScript

def make():
    return CountingEnv("box", [EpisodeScript(20, "terminated"), EpisodeScript(7, "truncated")])

venv = record_traces(DummyVecEnv([make] * 4), sys.argv[1], max_shard_bytes=1 << 20, queue_bytes=1 << 20)
venv.reset()
for _ in range(int(sys.argv[2]) * 27 // 8):
    venv.step(np.zeros(4, dtype=np.int64))
venv.close()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def peak_bytes(directory: Path, episodes: int) -> int:
    paths = os.pathsep.join(filter(None, sys.path))
    command = [sys.executable, "-c", RECORDING, str(directory), str(episodes)]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True, check=True)
    return int(json.loads(done.stdout)) * 1024


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="units of resident memory differ")
def test_ten_times_as_many_episodes_take_no_more(tmp_path: Path) -> None:
    few, many = (peak_bytes(tmp_path / str(episodes), episodes) for episodes in (2_000, 20_000))
    # Queues and caches fill up; what was recorded in between would take 60 MB and more, for its info dicts alone.
    assert many < few + (16 << 20)
