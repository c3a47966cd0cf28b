"""A directory of traces as a sequence."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vecrollout import Episode, TraceWriter, Trajectory, TrajectoryWithRew, open_traces, scan_recorded_traces
from vecrollout.errors import OptionError
from vecrollout.storage.format import index_name, shard_name
from vecrollout.storage.local import LocalDirectory
from vecrollout.storage.manifest import Manifest
from vecrollout.testing import assert_same

# With as few files open as some systems allow, and views of all that is read.
READS_ALL = """
import resource, sys
from vecrollout import open_traces

resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
traces = open_traces(sys.argv[1])
held = [trajectory.rews for trajectory in traces]
held += [traces[number].rews for number in range(0, len(traces), 50)]
assert all((each == 1).all() for each in held)
print(len(traces), len(held))
"""


def counting(steps: int, number: int) -> TrajectoryWithRew:
    obs = {"t": np.arange(steps + 1), "x": np.zeros((steps + 1, 2), np.float32)}
    return TrajectoryWithRew(obs, np.arange(steps), None, True, rews=np.ones(steps), episode=Episode(id=number))


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    with TraceWriter(tmp_path) as writer:
        for number in range(5):
            writer.append(counting(number + 1, number))
    return tmp_path


def test_is_a_sequence(directory: Path) -> None:
    traces = open_traces(directory)
    assert [len(each) for each in traces] == [1, 2, 3, 4, 5]
    assert len(traces[-1]) == 5
    assert [len(each) for each in traces[1:-1]] == [2, 3, 4]
    assert [len(each) for each in traces[::-2]] == [5, 3, 1]
    assert traces[np.int64(2)] in traces
    assert [len(each) for each in reversed(traces)] == [5, 4, 3, 2, 1]
    assert repr(traces).startswith("<TraceDataset of 5 trajectories in ")
    for number in (5, -6):
        with pytest.raises(IndexError):
            traces[number]


def test_nothing_is_read_before_it_is_asked_for(directory: Path) -> None:
    (shard,) = directory.glob("*.arrow")
    size = shard.stat().st_size
    shard.write_bytes(b"x" * size)
    assert len(open_traces(directory)) == 5


def as_many_shards(directory: Path, count: int) -> None:
    """Has the trace consist of the same shard many times."""
    location = LocalDirectory(directory)
    (name,) = (name for name in location.sizes() if name.endswith(".json"))
    manifest = Manifest.read(location, name)
    (entry,) = manifest.shards
    entries = [replace(entry, file=shard_name(manifest.writer, number)) for number in range(count)]
    for each in entries[1:]:
        os.link(directory / entry.file, directory / each.file)
        os.link(directory / index_name(entry.file), directory / index_name(each.file))
    replace(manifest, shards=tuple(entries)).write(location)


@pytest.mark.parametrize("listed", [True, False])
@pytest.mark.skipif(sys.platform == "win32", reason="has no limit to set")
def test_more_shards_than_files_may_be_open(listed: bool, tmp_path: Path) -> None:
    with TraceWriter(tmp_path, compression=None) as writer:
        writer.append(counting(3, 0))
    as_many_shards(tmp_path, 2000)
    if not listed:  # as of writers that were killed
        for path in [*tmp_path.glob("*.json"), *tmp_path.glob("*.index")]:
            path.unlink()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-W", "error", "-c", READS_ALL, str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert (result.stderr, result.stdout) == ("", "2000 2040\n")


def test_some_columns(directory: Path) -> None:
    traces = open_traces(directory)
    fields = traces.columns(-1, ["rews", "acts"], 1, -1)
    assert_same(fields, {"rews": np.ones(3), "acts": np.arange(1, 4)})
    assert traces.columns(0, ["infos"]) == {"infos": None}
    for names, start, stop in ((["reward"], 0, None), (["obs"], 3, 3), (["obs"], 9, None)):
        with pytest.raises(OptionError):
            traces.columns(-1, names, start, stop)


def test_scan(directory: Path) -> None:
    seen: list[tuple[Any, Any, Any]] = []
    scan_recorded_traces(directory, lambda *arrays: seen.append(arrays))
    assert [(len(obs["t"]), len(acts), len(rews)) for obs, acts, rews in seen] == [(n + 1, n, n) for n in range(1, 6)]
    assert_same(seen[2][0], {"t": np.arange(4), "x": np.zeros((4, 2), np.float32)})
    seen.clear()
    scan_recorded_traces(directory, lambda *arrays: seen.append(arrays), max_episodes=2)
    assert len(seen) == 2
    with pytest.raises(OptionError):
        scan_recorded_traces(directory, print, max_episodes=-1)


def test_scan_without_rewards(tmp_path: Path) -> None:
    with TraceWriter(tmp_path) as writer:
        writer.append(Trajectory(np.zeros(3), np.zeros(2), None, False))
    seen: list[Any] = []
    scan_recorded_traces(tmp_path, lambda *arrays: seen.append(arrays))
    assert seen[0][2] is None
