"""What was flushed by a writer that was killed: durable, and every damaged byte is found."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import xxhash
from journals import lines_of, of_lines, only, parts_of
from traces import assert_same_trajectory, of_space

from vecrollout import TraceWriter, TrajectoryWithRew, open_traces, repair_traces, verify_traces
from vecrollout.errors import DamagedTraceError

CHILD = """
import json, sys, time
from traces import of_space
from vecrollout import TraceWriter, open_traces

writer = TraceWriter(sys.argv[1], compression=json.loads(sys.argv[2]), queue_bytes=1)
for number in range(7):  # the last one stays in memory
    writer.append(of_space("dict", 9, number, infos=[{"i": i} for i in range(9)]))
    if number < 5:
        writer.flush()
while len(open_traces(sys.argv[1])) < 6:
    time.sleep(0.01)
print("ready", flush=True)
time.sleep(600)
"""

FLUSHED = 5


def of_number(number: int) -> TrajectoryWithRew:
    return of_space("dict", 9, number, infos=[{"i": i} for i in range(9)])


@pytest.fixture(scope="module", params=["zstd", None])
def killed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a killed writer left: five batches that were flushed, and one that was written."""
    directory = tmp_path_factory.mktemp("killed")
    arguments = [str(directory), {"zstd": '"zstd"', None: "null"}[request.param]]
    paths = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, *arguments], stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": paths}
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.kill()
    assert process.returncode == -signal.SIGKILL
    return directory


def copied(killed: Path, target: Path) -> Path:
    """The shard of a copy."""
    shutil.copytree(killed, target)
    return only(target, ".arrow")


def test_a_file_is_durable_with_its_last_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The journal says that a shard is finished after the footer is on the disk."""
    durable: dict[int, int] = {}
    fsync = os.fsync

    def noted(descriptor: int) -> None:
        fsync(descriptor)
        durable[os.fstat(descriptor).st_ino] = os.fstat(descriptor).st_size

    monkeypatch.setattr(os, "fsync", noted)
    with TraceWriter(tmp_path) as writer:
        writer.append(of_number(0))
    files = [path.stat() for path in tmp_path.iterdir()]
    assert len(files) == 2
    assert [durable[file.st_ino] for file in files] == [file.st_size for file in files]


def assert_repaired(directory: Path, kept: int) -> None:
    assert repair_traces(directory).trajectories == kept
    read = list(open_traces(directory))
    assert len(read) == kept
    for number, each in enumerate(read):
        assert_same_trajectory(each, of_number(number))
    assert verify_traces(directory).ok
    assert repair_traces(directory).changes == ()


def test_what_is_sound(killed: Path, tmp_path: Path) -> None:
    """Each line is as `docs/format.md` says, and tells of the shard what is there."""
    shard = copied(killed, tmp_path / "copy")
    content, at = shard.read_bytes(), 0
    lines = lines_of(only(shard.parent, ".journal"))
    sums = [lines[1]["shard"][2], *(piece[3] for line in lines if "batch" in line for piece in line["batch"][1])]
    for (_, begin, end), expected in zip(parts_of(shard.parent), sums, strict=True):
        assert (begin, expected) == (at, xxhash.xxh3_64_hexdigest(content[at:end]))
        at = end
    assert len(sums) == 1 + FLUSHED + 1
    assert len([line for line in lines if "flushed" in line]) == FLUSHED
    assert [each.episode.id for each in open_traces(shard.parent)] == list(range(FLUSHED + 1))
    assert verify_traces(shard.parent).ok
    assert_repaired(shard.parent, FLUSHED + 1)


def test_a_flipped_byte_in_what_was_flushed(killed: Path, tmp_path: Path) -> None:
    generator = random.Random(0)
    for part, (place, begin, end) in enumerate(parts_of(killed)[: 1 + FLUSHED]):
        for at in [begin, end - 1, *(generator.randrange(begin, end) for _ in range(3))]:
            shard = copied(killed, tmp_path / f"{part}-{at}")
            content = bytearray(shard.read_bytes())
            content[at] ^= 1 << generator.randrange(8)
            shard.write_bytes(content)
            with pytest.raises(DamagedTraceError, match=shard.name):
                list(open_traces(shard.parent))
            assert [(problem.file, problem.place) for problem in verify_traces(shard.parent).problems] == [
                (shard.name, place)
            ]
            assert_repaired(shard.parent, max(0, part - 1))
            assert shard.with_name(f"{shard.name}.damaged").read_bytes() == content


def test_what_was_flushed_and_is_cut_off(killed: Path, tmp_path: Path) -> None:
    for part, (_, begin, end) in enumerate(parts_of(killed)[: 1 + FLUSHED]):
        for cut in {begin, begin + 3, end - 1}:
            shard = copied(killed, tmp_path / str(cut))
            os.truncate(shard, cut)
            with pytest.raises(DamagedTraceError):
                open_traces(shard.parent)
            assert not verify_traces(shard.parent).ok
            assert_repaired(shard.parent, max(0, part - 1))


def test_what_was_not_flushed_may_be_lost(killed: Path, tmp_path: Path) -> None:
    """A power cut may leave the journal's line, and not the bytes that it is about: the trace ends before them."""
    _, begin, end = parts_of(killed)[-1]
    for number, (cut, filler) in enumerate([(begin, b""), (begin + 10, b""), (begin, bytes(end - begin))]):
        shard = copied(killed, tmp_path / str(number))
        content = shard.read_bytes()
        shard.write_bytes(content[:cut] + filler)
        assert len(open_traces(shard.parent)) == FLUSHED
        assert not verify_traces(shard.parent).ok
        assert_repaired(shard.parent, FLUSHED)


def test_a_last_line_that_was_not_written_to_its_end(killed: Path, tmp_path: Path) -> None:
    content = only(killed, ".journal").read_bytes()
    begin = content[:-1].rindex(b"\n") + 1
    for cut in {begin, begin + 1, begin + 40, len(content) - 1}:
        shard = copied(killed, tmp_path / str(cut))
        only(shard.parent, ".journal").write_bytes(content[:cut])
        assert len(open_traces(shard.parent)) == FLUSHED
        assert verify_traces(shard.parent).ok
        assert_repaired(shard.parent, FLUSHED)


def test_a_shard_that_was_begun_and_has_no_batch(killed: Path, tmp_path: Path) -> None:
    shard = copied(killed, tmp_path / "copy")
    lines = lines_of(only(shard.parent, ".journal"))
    end = lines[1]["shard"][1]
    for number, size in enumerate([0, 5, end - 1, end]):
        directory = tmp_path / str(number)
        copied(killed, directory)
        only(directory, ".journal").write_bytes(of_lines(lines[: 1 + (size == end)]))
        os.truncate(only(directory, ".arrow"), size)
        assert len(open_traces(directory)) == 0
        assert verify_traces(directory).ok
        assert_repaired(directory, 0)
        assert list(directory.glob("*.arrow")) == []
