"""What we write in gym-recording's format: read by a plain reader, by ours, and by both after a crash."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from openai_recordings import of_space, play

from vecrollout import DictObs, Trajectory, TrajectoryWithRew
from vecrollout.compat.gym_recording.playback import TraceRecordingReader
from vecrollout.data.trees import unwrap
from vecrollout.errors import (
    ArgumentTypeError,
    DtypeError,
    OptionError,
    ProtocolError,
    StructureError,
    TraceWriteError,
    VecrolloutError,
)
from vecrollout.interop.gym_recording import GymRecordingReader, GymRecordingWriter
from vecrollout.testing import SPACES, assert_same
from vecrollout.testing.strategies import trajectories

FIELDS = {"observations": "obs", "actions": "acts", "rewards": "rews"}


def write(directory: Path, *written: Trajectory, **options: Any) -> None:
    with GymRecordingWriter(directory, **options) as writer:
        for each in written:
            writer.append(each)


def read(directory: Path) -> list[TrajectoryWithRew]:
    return list(GymRecordingReader(directory).trajectories())


def of(obs: Any, acts: Any = None) -> TrajectoryWithRew:
    """A trajectory of two steps."""
    return TrajectoryWithRew(obs, np.zeros(2) if acts is None else acts, None, False, rews=np.ones(2, np.float32))


def assert_same_data(actual: TrajectoryWithRew, expected: TrajectoryWithRew) -> None:
    for name in FIELDS.values():
        assert_same(getattr(actual, name), getattr(expected, name), name)


@pytest.mark.parametrize("name", SPACES)
def test_a_plain_reader_reads_every_space(name: str, tmp_path: Path) -> None:
    written = [of_space(name, 1), of_space(name, 7, 20), of_space(name, 300, 3)]
    write(tmp_path, *written, batch_bytes=2000)
    for episode, trajectory in zip(play(tmp_path), written, strict=True):
        for theirs, ours in FIELDS.items():
            expected = getattr(trajectory, ours)
            items = episode[theirs]
            # Arrays are one, as gym-recording's documentation has it; dicts and tuples come step by step.
            if isinstance(expected, np.ndarray):
                assert_same(items, expected, theirs)
            else:
                assert_same(items, [unwrap(item) for item in expected], theirs)


@given(trajectory=trajectories())
def test_our_reader_reads_the_same_bits(trajectory: TrajectoryWithRew) -> None:
    with tempfile.TemporaryDirectory() as directory:
        write(Path(directory), trajectory)
        (episode,) = GymRecordingReader(directory).episodes(*GymRecordingReader(directory).batches)
    assert_same(episode._asdict(), {theirs: getattr(trajectory, ours) for theirs, ours in FIELDS.items()})


DTYPES = ["bool", "float16", "float32", "longdouble", "complex64", ">f4", ">i8", "datetime64[ns]", "S3", "U5", "V3"]


@pytest.mark.parametrize("dtype", DTYPES)
def test_dtypes_stay(dtype: str, tmp_path: Path) -> None:
    items: Any = np.zeros((3, 2), dtype)
    items[1:] = np.array(["1", "0"]).astype(items.dtype) if dtype != "V3" else b"abc"
    write(tmp_path, of(items))
    assert_same(read(tmp_path)[0].obs, items)
    assert_same(play(tmp_path)[0]["observations"], items)


def test_empty_text(tmp_path: Path) -> None:
    write(tmp_path, of(np.array(["", "", ""], dtype="U0")))
    assert list(read(tmp_path)[0].obs) == list(play(tmp_path)[0]["observations"]) == ["", "", ""]


def test_steps_that_are_not_alike(tmp_path: Path) -> None:
    items = [None, {"image": np.ones((2, 2), np.uint8), "text": ["a", 1, 0.5, True]}, [np.float32(1.5)]]
    obs = np.empty(3, dtype=object)
    obs[:] = items
    write(tmp_path, of(obs))
    expected = [*items[:2], [np.array(1.5, np.float32)]]
    assert_same(list(read(tmp_path)[0].obs), expected)
    assert_same(play(tmp_path)[0]["observations"], expected)


def test_a_batch_is_written_when_it_is_full(tmp_path: Path) -> None:
    with GymRecordingWriter(tmp_path, batch_bytes=20_000) as writer:
        for number in range(10):
            writer.append(of_space("image", 30, number))  # 31 * 168 bytes of observations, and 30 * 168 of actions
            assert len(play(tmp_path)) == number // 2 * 2 + (number % 2) * 2
    (manifest,) = tmp_path.glob("*.manifest.json")
    listed = json.loads(manifest.read_text())["batches"]
    assert [(batch["first"], batch["len"]) for batch in listed] == [(first, 2) for first in range(0, 10, 2)]
    prefix = manifest.name.removesuffix(".manifest.json")
    assert [batch["fn"] for batch in listed] == [f"{prefix}.ep{first:09}.json" for first in range(0, 10, 2)]
    assert len(list(tmp_path.iterdir())) == 1 + 2 * 5


def test_small_episodes_share_a_batch(tmp_path: Path) -> None:
    write(tmp_path, *(of_space("box", 3, number) for number in range(1000)))
    assert [batch.len for batch in GymRecordingReader(tmp_path).batches] == [1000]


def test_numbers_in_the_binary_file_lie_at_multiples_of_8(tmp_path: Path) -> None:
    """Readers map it into memory."""
    write(tmp_path, *(of_space("image", steps) for steps in (1, 2, 3)))
    (batch,) = tmp_path.glob("*.ep*.json")
    found = [value["npyoff"] for episode in json.loads(batch.read_text())["episodes"] for value in episode.values()]
    assert len(found) == 9
    assert all(offset % 8 == 0 for offset in found)


@pytest.mark.parametrize(
    ("trajectory", "error", "message"),
    [
        (Trajectory(np.zeros(2), np.zeros(1), None, True), ArgumentTypeError, "rewards"),
        (of(np.zeros(3, [("x", "f4")])), DtypeError, "obs: .*name"),
        (of(np.array([1, 2, object()], dtype=object)), DtypeError, "obs: .*object"),
        (of(np.zeros(3), np.array([{1, 2}, 3], dtype=object)), DtypeError, "acts: .*set"),
        (of({"__type": np.zeros(3)}), StructureError, "obs: .*__type"),
        (of({1: np.zeros(3)}), StructureError, r"obs: .*\[1\]"),
        (of({"a": np.ones(3), "b": {"__type": np.zeros(3)}}), StructureError, "__type"),
    ],
)
def test_what_the_format_cannot_hold_is_refused_and_does_no_harm(
    trajectory: Trajectory, error: type[VecrolloutError], message: str, tmp_path: Path
) -> None:
    with GymRecordingWriter(tmp_path) as writer:
        writer.append(of_space("box", 2))
        with pytest.raises(error, match=message):
            writer.append(trajectory)
        writer.append(of_space("dict", 3))
    first, second = read(tmp_path)
    assert_same_data(first, of_space("box", 2))
    assert_same_data(second, of_space("dict", 3))


def test_what_was_appended_may_change_later(tmp_path: Path) -> None:
    trajectory = of({"x": np.zeros(3)})
    with GymRecordingWriter(tmp_path) as writer:
        writer.append(trajectory)
        trajectory.obs.get("x")[:] = 7
        trajectory.rews[:] = 7
    assert_same_data(read(tmp_path)[0], of({"x": np.zeros(3)}))


def test_writers_of_one_process_do_not_collide(tmp_path: Path) -> None:
    """Nor do those of two containers, whose processes have the same id."""
    writers = [GymRecordingWriter(tmp_path) for _ in range(3)]
    for number, writer in enumerate(writers):
        writer.append(of_space("discrete", 2, number))
    for writer in reversed(writers):
        writer.close()
    assert [int(each.obs[0]) for each in read(tmp_path)] == [0, 1, 2]
    assert len(play(tmp_path)) == 3


CHILD = """
import sys
from openai_recordings import of_space
from vecrollout.interop.gym_recording import GymRecordingWriter

writer = GymRecordingWriter(sys.argv[1], batch_bytes=int(sys.argv[2]))
for number in range(int(sys.argv[3])):
    writer.append(of_space("dict", 1 + number % 50, number))
    if number % 7 == 0:
        writer.flush()
        print(number + 1, flush=True)
raise SystemExit(3)
"""


def start(directory: Path, batch_bytes: int, episodes: int) -> subprocess.Popen[str]:
    paths = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, str(directory), str(batch_bytes), str(episodes)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": paths},
    )


def test_closes_at_exit(tmp_path: Path) -> None:
    process = start(tmp_path, 1 << 30, 3)
    process.communicate()
    assert process.returncode == 3
    assert len(read(tmp_path)) == 3


@pytest.mark.parametrize("lines", [1, 5, *(pytest.param(each, marks=pytest.mark.slow) for each in (2, 20))])
def test_killed(lines: int, tmp_path: Path) -> None:
    process = start(tmp_path, 10_000, 10**6)
    assert process.stdout is not None
    for _ in range(lines):
        process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    flushed = int(([1 + 7 * (lines - 1)] + [int(line) for line in process.stdout.read().split()])[-1])
    process.wait()
    process.stdout.close()
    found = read(tmp_path)
    assert flushed <= len(found) == len(play(tmp_path))
    for number, each in enumerate(found):
        assert_same_data(each, of_space("dict", 1 + number % 50, number))


@pytest.mark.parametrize("blocked", ["bin", "json", "manifest"])
def test_what_could_not_be_written_is_held(blocked: str, tmp_path: Path) -> None:
    writer = GymRecordingWriter(tmp_path)
    writer.append(of_space("box", 1))
    writer.flush()
    (manifest,) = tmp_path.glob("*.manifest.json")
    second = manifest.name.replace("manifest.json", "ep000000001")
    name = {"bin": f"{second}.bin", "json": f"{second}.json", "manifest": manifest.name}[blocked]
    saved = manifest.read_bytes()
    (tmp_path / name).unlink(missing_ok=True)
    (tmp_path / name).mkdir()  # nothing can take the place of a directory
    writer.append(of_space("box", 2))
    for call in (writer.flush, writer.close):
        with pytest.raises(TraceWriteError, match="1 episodes, which stay in memory"):
            call()
    (tmp_path / name).rmdir()
    manifest.write_bytes(saved)
    assert [len(each) for each in read(tmp_path)] == [1]
    writer.append(of_space("box", 3))
    writer.close()
    assert [len(each) for each in read(tmp_path)] == [1, 2, 3]


def test_a_closed_writer(tmp_path: Path) -> None:
    writer = GymRecordingWriter(tmp_path / "new" / "one")
    writer.close()
    writer.close()
    assert list((tmp_path / "new" / "one").iterdir()) == []
    for call in (writer.flush, lambda: writer.append(of_space("box", 1))):
        with pytest.raises(ProtocolError, match="closed"):
            call()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_does_not_write_its_parents_episodes(tmp_path: Path) -> None:
    writer = GymRecordingWriter(tmp_path)
    writer.append(of_space("box", 1))
    child = os.fork()
    if child == 0:
        code = 1
        try:
            writer.flush()
        except ProtocolError:
            writer.close()
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    assert list(tmp_path.iterdir()) == []
    writer.close()
    assert len(read(tmp_path)) == 1


def test_options_are_checked(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="batch_bytes"):
        GymRecordingWriter(tmp_path, batch_bytes=0)
    with pytest.raises(ArgumentTypeError, match="batch_bytes"):
        GymRecordingWriter(tmp_path, batch_bytes="5 MB")  # type: ignore[arg-type]


def test_only_a_local_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A URL would be a folder named "s3:"."""
    monkeypatch.chdir(tmp_path)
    for function in (GymRecordingWriter, GymRecordingReader, TraceRecordingReader):
        with pytest.raises(OptionError, match="storage_s3"):
            function("s3://bucket/recording")
        with pytest.raises(ArgumentTypeError, match="directory"):
            function(None)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(TraceWriteError, match="file"):
        GymRecordingWriter(tmp_path / "file")


def test_keys_of_dicts_may_be_any_other_text(tmp_path: Path) -> None:
    obs = DictObs({"type": np.zeros(3), "ünïcode \ud800": np.ones((3, 2)), "": np.zeros(3, bool)})
    write(tmp_path, of(obs))
    assert_same(read(tmp_path)[0].obs, obs)
