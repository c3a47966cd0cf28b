"""Checksums of what was flushed of a shard that its writer could not finish, as it was killed."""

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
from traces import assert_same_trajectory, of_space

from vecrollout import open_traces, repair_traces, verify_traces
from vecrollout.errors import DamagedTraceError

CHILD = """
import json, sys, time
from traces import of_space
from vecrollout import TraceWriter, open_traces

writer = TraceWriter(sys.argv[1], compression=json.loads(sys.argv[2]), queue_bytes=1)
for number in range(6):
    writer.append(of_space("dict", 9, number, infos=[{"i": i} for i in range(9)]))
    if number < 5:
        writer.flush()
while len(open_traces(sys.argv[1])) < 6:
    time.sleep(0.01)
print("ready", flush=True)
time.sleep(600)
"""

FLUSHED = 5


def of_number(number: int) -> object:
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
    assert process.returncode in (-signal.SIGKILL, 1)
    return directory


def copy(killed: Path, target: Path) -> tuple[Path, Path]:
    """A copy of the shard, and of the checksums."""
    shutil.copytree(killed, target)
    return next(target.glob("*.arrow")), next(target.glob("*.sums"))


def parts(sums: Path) -> list[tuple[int, int]]:
    """Where each part that was flushed begins and ends."""
    lines = [line.split() for line in sums.read_text().splitlines()]
    return [(int(begin), int(end)) for begin, end, *_ in lines]


def test_what_is_sound(killed: Path, tmp_path: Path) -> None:
    """Each line is as `docs/format.md` says, and tells of the shard what is there."""
    shard, sums = copy(killed, tmp_path / "copy")
    content, at = shard.read_bytes(), 0
    for line in sums.read_text().splitlines():
        begin, end, of_part, of_line = line.split(" ")
        assert (int(begin), of_part) == (at, xxhash.xxh3_64_hexdigest(content[at : int(end)]))
        assert of_line == xxhash.xxh3_64_hexdigest(line.rpartition(" ")[0].encode())
        at = int(end)
    assert len(parts(sums)) == 1 + FLUSHED
    assert at < len(content)
    assert [each.episode.id for each in open_traces(shard.parent)] == list(range(FLUSHED + 1))
    assert verify_traces(shard.parent).ok
    assert repair_traces(shard.parent).trajectories == FLUSHED + 1
    assert not sums.exists()


def test_a_flipped_byte_in_what_was_flushed(killed: Path, tmp_path: Path) -> None:
    generator = random.Random(0)
    for part, (begin, end) in enumerate(parts(next(killed.glob("*.sums")))):
        for at in [begin, end - 1, *(generator.randrange(begin, end) for _ in range(4))]:
            shard, sums = copy(killed, tmp_path / f"{part}-{at}")
            content = bytearray(shard.read_bytes())
            content[at] ^= 1 << generator.randrange(8)
            shard.write_bytes(content)
            with pytest.raises(DamagedTraceError, match=shard.name):
                open_traces(shard.parent)
            assert {problem.file for problem in verify_traces(shard.parent).problems} == {shard.name}
            kept = max(0, part - 1)
            assert repair_traces(shard.parent).trajectories == kept
            assert not sums.exists()
            for number, each in enumerate(open_traces(shard.parent)):
                assert_same_trajectory(each, of_number(number))  # type: ignore[arg-type]
            assert verify_traces(shard.parent).ok
            assert repair_traces(shard.parent).changes == ()
            assert shard.with_name(f"{shard.name}.damaged").read_bytes() == content


def test_what_was_flushed_and_is_cut_off(killed: Path, tmp_path: Path) -> None:
    for part, (begin, end) in enumerate(parts(next(killed.glob("*.sums")))):
        for cut in {begin, begin + 3, end - 1}:
            shard, _ = copy(killed, tmp_path / str(cut))
            os.truncate(shard, cut)
            with pytest.raises(DamagedTraceError):
                open_traces(shard.parent)
            assert not verify_traces(shard.parent).ok
            assert repair_traces(shard.parent).trajectories == max(0, part - 1)
            assert verify_traces(shard.parent).ok


@pytest.mark.parametrize("what", ["cut", "altered", "empty", "missing", "nonsense"])
def test_damaged_checksums_do_no_harm(what: str, killed: Path, tmp_path: Path) -> None:
    whole = next(killed.glob("*.sums")).read_bytes()
    altered = [whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :] for at in range(0, len(whole), 3)]
    others = {
        "cut": [whole[:at] for at in range(1, len(whole), 5)],
        "altered": altered,
        "empty": [b""],
        "missing": [None],
        "nonsense": [b"\0" * 4096, b"\xff" * 99 + whole, b"9" * 5000 + b" 1 0 0"],
    }[what]
    shard, sums = copy(killed, tmp_path / "copy")
    for content in others:
        if content is None:
            sums.unlink()
        else:
            sums.write_bytes(content)
        assert len(open_traces(shard.parent)) == FLUSHED + 1
    assert verify_traces(shard.parent).ok
    assert repair_traces(shard.parent).trajectories == FLUSHED + 1
