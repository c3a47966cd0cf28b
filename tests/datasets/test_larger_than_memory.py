"""Everything that a data set does works on a trace that does not fit into memory."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from vecrollout import Episode, TraceWriter, TrajectoryWithRew, open_traces

EPISODES, STEPS, SHAPE = 60, 400, (3, 96, 96)

# May use a fifth of what the trace takes in memory, beside what the interpreter has already.
UNDER_A_LIMIT = """
import resource, sys
from pathlib import Path
import numpy as np
import pyarrow.compute as pc
from vecrollout import TraceWriter, open_traces

traces = open_traces(sys.argv[1], memory_bytes=32 << 20)
traces.filter(pc.field("length") < 0)
(used,) = [int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if "VmData" in line]
resource.setrlimit(resource.RLIMIT_DATA, (used * 1024 + int(sys.argv[3]),) * 2)

assert "episodes      60" in traces.summary(), traces.summary()
view = traces.filter(lambda each: each.obs[0, 0, 0, 0] % 2 == 0).sort_by("return_", descending=True).trim(start=1)
assert len(view) == 30
parts = view.split({"a": 0.5, "b": 0.5}, np.random.default_rng(0))
assert sum(batch.total_steps for part in parts.values() for batch in part.batches()) == view.total_steps
relabeled = view.relabel(rews=lambda each: each.obs[1:, 0, 0, 0].astype(float))
assert relabeled.to_arrow()["return_"].null_count == 0
assert len(traces.whole_episodes()) == 60
assert sum(len(each) for each in traces.stitched()) == traces.total_steps
assert traces.sample_transitions(64, np.random.default_rng(0)).obs.shape[0] == 64
new = traces[::-1].write(sys.argv[2], compression="lz4")
assert len(new) == 60
try:
    everything = [each.obs.copy() for each in traces]
except MemoryError:
    print("done")
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="has no such limit")
def test_under_a_limit(tmp_path: Path) -> None:
    frames = np.zeros((STEPS + 1, *SHAPE), np.uint8)
    with TraceWriter(tmp_path / "old", compression="lz4") as writer:
        for number in range(EPISODES):
            episode = Episode(id=number, recording="r", env_index=0, ended_by="terminated")
            frames[:] = number
            writer.append(
                TrajectoryWithRew(
                    frames, np.zeros(STEPS, int), None, True, rews=np.full(STEPS, float(number)), episode=episode
                )
            )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"}
    limit = EPISODES * frames.nbytes // 5
    command = [sys.executable, "-c", UNDER_A_LIMIT, str(tmp_path / "old"), str(tmp_path / "new"), str(limit)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("done\n", 0), done.stderr
    assert len(open_traces(tmp_path / "new")) == EPISODES
