"""Views written as new traces."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pyarrow.compute as pc
import pytest
from traces import assert_same_trajectory, of_space

from vecrollout import (
    Episode,
    TraceDataset,
    TraceWriter,
    Trajectory,
    TrajectoryWithRew,
    open_traces,
    repair_traces,
    stitch,
    verify_traces,
)
from vecrollout.errors import ArgumentTypeError, DamagedTraceError, OptionError, TraceWriteError
from vecrollout.testing import SPACES, assert_same

IN_A_PROCESS = """
import sys
from vecrollout import open_traces
print("ready", flush=True)
open_traces(sys.argv[1]).write(sys.argv[2], compression=None)
print("done", flush=True)
"""


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def made(number: int, steps: int, start: int = 0, ended_by: Any = "terminated", recording: str = "r") -> Any:
    at = np.arange(start, start + steps + 1, dtype=np.float32)
    return TrajectoryWithRew(
        np.stack([at, np.full(steps + 1, number)], 1),
        at[:-1].astype(int),
        np.array([{"t": int(t)} for t in at[:-1]]) if number % 2 else None,
        ended_by in ("terminated", "truncated"),
        rews=at[:-1] * 0.5,
        episode=Episode(
            id=number,
            env_index=number % 2,
            start_step=start,
            seed=2**70 + number if number == 3 else number,
            reset_info={"n": number},
            ended_by=ended_by,
            recording=recording,
        ),
    )


@pytest.fixture
def recorded(tmp_path: Path) -> TraceDataset:
    """Two workers' traces of the same environment, and one of another with other metadata."""
    space = gym.spaces.Box(0, 99, (2,)), gym.spaces.Discrete(99)
    for number in range(3):
        with TraceWriter(
            tmp_path / str(number), spaces=space, env_spec="E-v0", metadata={"lr": 0.5 + number // 2}
        ) as writer:
            for i in range(10):
                if i == 4:
                    writer.append(made(i, 3, ended_by=None, recording=f"r{number}"))
                    writer.append(made(i, 5, 3, recording=f"r{number}"), metadata={"half": 2})
                else:
                    writer.append(made(i, i + 1, recording=f"r{number}"), metadata={"i": i, "a": np.arange(3)})
                writer.flush()
    return open_traces([tmp_path / str(number) for number in range(3)])


def in_order(traces: Any) -> list[Any]:
    return sorted(traces, key=lambda each: (each.episode.recording, each.episode.id, each.episode.start_step))


VIEWS: dict[str, Any] = {
    "everything": lambda traces: traces,
    "deleted": lambda traces: traces.filter(pc.field("return_") > 6),
    "shuffled": lambda traces: traces[np.random.default_rng(0).permutation(len(traces))],
    "trimmed": lambda traces: traces.trim(1, -1),
    "relabeled": lambda traces: traces.relabel(rews=lambda each: each.rews + 1),
    "joined": lambda traces: traces.stitched(),
    "none": lambda traces: traces[:0],
}


@pytest.mark.parametrize("name", VIEWS)
def test_comes_back(recorded: TraceDataset, name: str, tmp_path: Path) -> None:
    view = VIEWS[name](recorded)
    new = view.write(tmp_path / "new", compression="lz4", max_shard_bytes=8192)
    assert new.path == tmp_path / "new"
    expected = in_order(view)
    assert in_order(new) == expected
    assert_same([vars(each.episode) for each in in_order(new)], [vars(each.episode) for each in expected])
    assert [each.infos is None for each in in_order(new)] == [each.infos is None for each in expected]
    told = {(e.episode.recording, e.episode.id, e.episode.start_step): view.metadata_of(i) for i, e in enumerate(view)}
    for i, each in enumerate(new):
        assert_same(new.metadata_of(i), told[each.episode.recording, each.episode.id, each.episode.start_step])
        assert new.about(i)["metadata"] == {"lr": 1.5 if each.episode.recording == "r2" else 0.5}
        assert (new.about(i)["compression"], new.env_spec) == ("lz4", "E-v0")
        assert new.observation_space == recorded.observation_space
    assert verify_traces(tmp_path / "new").problems == ()
    assert sorted(os.listdir(tmp_path)) == ["0", "1", "2", "new"]


def test_workers_with_the_same_metadata_are_merged(recorded: TraceDataset, tmp_path: Path) -> None:
    recorded.write(tmp_path / "new")
    assert len(list((tmp_path / "new").glob("*.journal"))) == 2
    recorded.write(tmp_path / "own", metadata={"mine": True})
    assert len(list((tmp_path / "own").glob("*.journal"))) == 1
    assert open_traces(tmp_path / "own").metadata == {"mine": True}


@pytest.mark.parametrize("name", sorted(SPACES))
def test_every_kind_of_data(name: str, tmp_path: Path) -> None:
    written = [of_space(name, steps, number) for number, steps in enumerate((1, 4, 2))]
    with TraceWriter(tmp_path / "old") as writer:
        writer.extend(written)
    new = open_traces(tmp_path / "old").write(tmp_path / "new")
    for actual, expected in zip(new, written, strict=True):
        assert_same_trajectory(actual, expected)


def test_steps_that_come_twice_are_refused(recorded: TraceDataset, tmp_path: Path) -> None:
    for view in (recorded[[0, 1, 0]], recorded.concat(recorded.relabel(rews=lambda each: each.rews * 0))):
        with pytest.raises(OptionError, match="twice"):
            view.write(tmp_path / "new")
    assert not (tmp_path / "new").exists()
    # Parts that do not overlap are fine.
    view = recorded.trim(stop=1).concat(recorded.trim(start=1))
    assert in_order(view.write(tmp_path / "new").stitched()) == in_order(recorded.stitched())


def test_places_where_it_cannot_be_written(recorded: TraceDataset, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert len(recorded.write(tmp_path / "empty")) == len(recorded)
    (tmp_path / "file").touch()
    for path in (tmp_path / "empty", tmp_path / "0", tmp_path / "file"):
        with pytest.raises(OptionError, match="path"):
            recorded.write(path)
    with pytest.raises(TraceWriteError):
        recorded.write(tmp_path / "file" / "below")
    with pytest.raises(OptionError, match="compression"):
        recorded.write(tmp_path / "new", compression="gz")  # type: ignore[arg-type]
    with pytest.raises(ArgumentTypeError):
        recorded.write(3)  # type: ignore[arg-type]
    assert sorted(os.listdir(tmp_path)) == ["0", "1", "2", "empty", "file"]


def test_what_cannot_be_read_leaves_nothing(recorded: TraceDataset, tmp_path: Path) -> None:
    (shard, *_) = (tmp_path / "1").glob("*.arrow")
    content = bytearray(shard.read_bytes())
    content[-len(content) // 2] ^= 255
    shard.write_bytes(content)
    with pytest.raises(DamagedTraceError):
        recorded.write(tmp_path / "new")
    assert sorted(os.listdir(tmp_path)) == ["0", "1", "2"]
    repair_traces(tmp_path / "1")


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="has no such signal")
@pytest.mark.parametrize("delay", [0.05, 0.2])
def test_absent_or_complete_after_a_kill(delay: float, tmp_path: Path) -> None:
    with TraceWriter(tmp_path / "old", compression=None) as writer:
        for number in range(1500):
            writer.append(made(number, 200))
    command = [sys.executable, "-c", IN_A_PROCESS, str(tmp_path / "old"), str(tmp_path / "new")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment()) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(delay)
        process.kill()
    if (tmp_path / "new").exists():
        assert len(open_traces(tmp_path / "new")) == 1500
    assert verify_traces(tmp_path / "old").problems == ()
    (tmp_path / "again").mkdir()
    assert len(open_traces(tmp_path / "old").write(tmp_path / "again")) == 1500


def test_fragments_written_apart_are_stitched(tmp_path: Path) -> None:
    """Of a recording that went on in another directory."""
    for number, part in enumerate((made(0, 3, ended_by=None), made(0, 4, 3))):
        with TraceWriter(tmp_path / str(number)) as writer:
            writer.append(part)
    traces = open_traces([tmp_path / "1", tmp_path / "0"])
    (whole,) = traces.stitched().write(tmp_path / "new")
    assert whole == stitch(traces)
    assert whole == made(0, 7)


def test_episodes_without_a_name_are_kept_apart(tmp_path: Path) -> None:
    with TraceWriter(tmp_path / "old") as writer:
        for _ in range(3):
            writer.append(Trajectory(np.zeros(3), np.zeros(2), None, True))
            writer.append(Trajectory(np.zeros(3), np.zeros(2), None, True, episode=Episode(id=1)))
    traces = open_traces(tmp_path / "old")
    assert len(traces.stitched()) == 6
    assert len(traces.whole_episodes()) == 6
    assert len(traces.write(tmp_path / "new")) == 6
