"""Every conversion works on a trace that does not fit into memory."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from vecrollout import TraceWriter, TrajectoryWithRew

pytest.importorskip("h5py")
pytest.importorskip("pyarrow")

EPISODES, STEPS, SHAPE = 100, 500, (2000,)
NAMES = "csv", "d3rlpy", "d4rl", "hf", "lerobot", "minari", "npz", "parquet", "rllib", "robomimic", "torchrl"

# May use a third of what the trace takes in memory, beside what the interpreter has already.
UNDER_A_LIMIT = """
import resource, sys
from pathlib import Path
sys.path.insert(0, sys.argv[4])
from test_conversions import WRITERS
from gymnasium.spaces import Box, Discrete
from trajectories import episode
from vecrollout import open_traces
name, source, target, limit = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[5])
options = {"spaces": (Box(0, 1, (2000,)), Discrete(2))} if name == "minari" else {}

WRITERS[name]([episode(3)], target + "-first-v0", progress=False)
traces = open_traces(source, memory_bytes=16 << 20)
(used,) = [int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if "VmData" in line]
resource.setrlimit(resource.RLIMIT_DATA, (used * 1024 + limit,) * 2)
report = WRITERS[name](traces, target, progress=False)
print(report.episodes, report.steps)
try:
    everything = [each.obs.copy() for each in traces]
except MemoryError:
    print("done")
"""


@pytest.fixture(scope="module")
def traces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("larger") / "traces"
    obs = np.zeros((STEPS + 1, *SHAPE), np.float32)
    with TraceWriter(directory, compression="lz4") as writer:
        for number in range(EPISODES):
            obs[:] = number % 2
            rews = np.full(STEPS, number, np.float32)
            writer.append(TrajectoryWithRew(obs, np.zeros(STEPS, np.int64), None, True, rews=rews))
    return directory


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="has no such limit")
@pytest.mark.parametrize("name", NAMES)
def test_under_a_limit(name: str, traces: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"}
    limit = EPISODES * STEPS * 4 * SHAPE[0] // 3
    arguments = name, str(traces), str(tmp_path / "out-v0"), str(Path(__file__).parent), str(limit)
    command = [sys.executable, "-c", UNDER_A_LIMIT, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    shutil.rmtree(tmp_path, ignore_errors=True)
    assert (done.stdout, done.returncode) == (f"{EPISODES} {EPISODES * STEPS}\ndone\n", 0), done.stderr[-3000:]
