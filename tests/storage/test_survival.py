"""Processes that are killed and disks that are full: what was flushed is there, and nothing reads back wrong."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from traces import assert_same_trajectory, of_space

from vecrollout import open_traces, repair_traces, verify_traces

# Each round records in a child of its own, which lives for a random time from its first flush on. They are forked
# before anything has started a thread, which is quicker than to start an interpreter for each.
KILLED = """
import json, os, random, signal, sys, time
from pathlib import Path
from traces import of_space
from vecrollout import TraceWriter
from vecrollout.storage.arrow import warm_up

def record(directory, options, report):
    with TraceWriter(directory, **options) as writer:
        number = 0
        while True:
            for _ in range(options_of["flush_every"]):
                writer.append(of_space("dict", 1 + number % 50, number))
                number += 1
            writer.flush()
            os.write(report, number.to_bytes(8, "little"))

warm_up()
generator = random.Random(0)
for round in range(int(sys.argv[2])):
    directory = Path(sys.argv[1]) / str(round)
    options_of = {"flush_every": generator.choice([1, 7, 40])}
    options = {
        "max_shard_bytes": generator.choice([4096, 20_000, 1 << 30]),
        "compression": generator.choice(["zstd", "lz4", None]),
    }
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(ours)
        record(directory, options, theirs)
    os.close(theirs)
    flushed = os.read(ours, 8)
    time.sleep(generator.expovariate(20))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    while more := os.read(ours, 1 << 16):
        flushed = more[-8:]
    os.close(ours)
    print(json.dumps(int.from_bytes(flushed, "little")))
"""

FULL = """
import json, sys
from pathlib import Path
from traces import assert_same_trajectory, of_space
from vecrollout import TraceWriter, open_traces, repair_traces, verify_traces
from vecrollout.errors import TraceWriteError

def read_all(directory):
    read = list(open_traces(directory))
    for number, each in enumerate(read):
        assert_same_trajectory(each, of_space("image", 1 + number % 50, number))
    return len(read)

directory, shard_bytes, compression = Path(sys.argv[1]), int(sys.argv[2]), json.loads(sys.argv[3])
flushed, message = 0, ""
writer = TraceWriter(directory, max_shard_bytes=shard_bytes, compression=compression)
try:
    for number in range(100_000):
        writer.append(of_space("image", 1 + number % 50, number))
        if number % 7 == 6:
            writer.flush()
            flushed = number + 1
except TraceWriteError as error:
    message = str(error)
try:
    writer.close()
except TraceWriteError:
    pass
found = read_all(directory)
# What repair needs is room for a shard's new copy.
(directory / "ballast").unlink()
repair_traces(directory)
print(json.dumps([flushed, found, read_all(directory), verify_traces(directory).ok, message]))
"""


def run(command: list[str]) -> list[Any]:
    paths = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked processes")
@pytest.mark.parametrize("rounds", [4, pytest.param(40, marks=pytest.mark.slow)])
def test_killed_at_any_moment(rounds: int, tmp_path: Path) -> None:
    flushed = run([sys.executable, "-c", KILLED, str(tmp_path), str(rounds)])
    assert len(flushed) == rounds
    for number, expected in enumerate(flushed):
        directory = tmp_path / str(number)
        for _ in range(2):
            read = list(open_traces(directory))
            assert len(read) >= expected > 0
            for i, each in enumerate(read):
                assert_same_trajectory(each, of_space("dict", 1 + i % 50, i))
            repair_traces(directory)
            assert verify_traces(directory).ok


def in_a_small_file_system(directory: Path, megabytes: int) -> list[str]:
    """A command that mounts one at the directory, for itself alone, and runs what follows it."""
    if not sys.platform.startswith("linux") or shutil.which("unshare") is None:
        pytest.skip("mounts a file system, which takes Linux")
    unshare = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"])]
    mount = f'mount -t tmpfs -o size={megabytes}m none "{directory}"'
    if subprocess.run([*unshare, "sh", "-c", mount], capture_output=True, check=False).returncode:
        pytest.skip("may not mount a file system here")
    ballast = f'dd if=/dev/zero of="{directory}/ballast" bs=1K count={megabytes * 768} 2>/dev/null'
    return [*unshare, "sh", "-c", f'{mount} && {ballast} && exec "$@"', "sh"]


@pytest.mark.parametrize("compression", ["zstd", None])
@pytest.mark.parametrize("shard_bytes", [20_000, pytest.param(1 << 30, marks=pytest.mark.slow)])
def test_a_full_disk(shard_bytes: int, compression: str | None, tmp_path: Path) -> None:
    command = [sys.executable, "-c", FULL, str(tmp_path), str(shard_bytes), json.dumps(compression)]
    ((flushed, found, repaired, is_sound, message),) = run([*in_a_small_file_system(tmp_path, 2), *command])
    assert 0 < flushed <= repaired <= found
    assert is_sound
    assert "No space left on device" in message
    assert "lost are" in message
