"""A lack of memory is no damage, and a length that is too large is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from journals import lines_of, only, with_shard

from vecrollout import TraceWriter, TrajectoryWithRew, open_traces, verify_traces
from vecrollout.errors import DamagedTraceError
from vecrollout.storage.arrow import Parsing

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory can be limited on Linux")

STEPS, ITEM = 39, (1 << 20,)

# What each way to read raises with so much memory besides what the interpreter has already.
READING = """
import resource, sys
from pathlib import Path
from vecrollout import open_traces, repair_traces, verify_traces
from vecrollout.errors import DamagedTraceError

traces = open_traces(sys.argv[1])
assert len(traces) == 1
(used,) = [int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if "VmData" in line]
resource.setrlimit(resource.RLIMIT_DATA, (used * 1024 + int(sys.argv[2]),) * 2)
for read in (
    lambda: traces[0].obs[0],
    lambda: traces.columns(0, ["obs"]),
    lambda: traces.steps()[[1]],
    lambda: [batch.obs for batch in traces.batches()],
    lambda: verify_traces(sys.argv[1]).problems[0],
    lambda: repair_traces(sys.argv[1]).changes[0],
):
    try:
        print(type(read()).__name__)
    except (MemoryError, DamagedTraceError) as error:
        print("MemoryError" if isinstance(error, MemoryError) else "DamagedTraceError")
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A trajectory of 40 MiB, a few kilobytes on disk."""
    with TraceWriter(tmp_path / "trace", compression="zstd") as writer:
        obs, rews = np.zeros((STEPS + 1, *ITEM), np.uint8), np.zeros(STEPS)
        writer.append(TrajectoryWithRew(obs, np.zeros(STEPS), None, True, rews=rews))
    return tmp_path / "trace"


@pytest.fixture
def large_batch(tmp_path: Path) -> Path:
    """A record batch of 192 MiB, which has too few rows to be split."""
    with TraceWriter(tmp_path / "large", compression="zstd") as writer:
        obs = np.zeros((3, 64 << 20), np.uint8)
        writer.append(TrajectoryWithRew(obs, np.zeros(2), None, True, rews=np.zeros(2)))
    return tmp_path / "large"


def reading(directory: Path, memory_bytes: int) -> list[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", READING, str(directory), str(memory_bytes)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_memory_that_is_too_small(directory: Path) -> None:
    before = {file.name: file.read_bytes() for file in directory.iterdir()}
    assert reading(directory, 16 << 20) == ["MemoryError"] * 6
    assert {file.name: file.read_bytes() for file in directory.iterdir()} == before
    assert len(open_traces(directory)[0]) == STEPS


def test_memory_that_is_too_small_for_a_large_batch(large_batch: Path) -> None:
    """Although there is memory for most others."""
    assert reading(large_batch, 160 << 20) == ["MemoryError"] * 6
    assert verify_traces(large_batch).ok


def test_a_length_that_is_too_large(directory: Path) -> None:
    """It stands before the compressed bytes of the observations."""
    shard, journal = only(directory, ".arrow"), only(directory, ".journal")
    sound, forged = (size.to_bytes(8, "little") for size in ((STEPS + 1) * ITEM[0], 1 << 40))
    before, found, behind = shard.read_bytes().rpartition(sound)
    assert found
    content = before + forged + behind
    shard.write_bytes(content)
    journal.write_bytes(with_shard(lines_of(journal), content))
    assert reading(directory, 512 << 20) == ["DamagedTraceError"] * 4 + ["Problem"] * 2


def errors_of_pyarrow() -> list[type[Exception]]:
    return [each for each in vars(pa.lib).values() if isinstance(each, type) and issubclass(each, pa.ArrowException)]


@pytest.mark.parametrize("kind", errors_of_pyarrow(), ids=lambda kind: kind.__name__)
def test_all_errors_of_pyarrow_but_a_lack_of_memory_are_damage(kind: type[Exception]) -> None:
    """Also those of no known kind, and the capacity of a type that is exceeded."""
    with pytest.raises(MemoryError if kind is pa.ArrowMemoryError else DamagedTraceError), Parsing("bytes"):
        raise kind("from the bytes")
