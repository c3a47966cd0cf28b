"""A shard that is still being written: what a reader sees of it, and what it reads for that."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from traces import assert_same_trajectory, of_space, write

from vecrollout import TraceWriter, open_traces, repair_traces, verify_traces
from vecrollout.errors import DamagedTraceError
from vecrollout.storage.derive import Derivation, derive
from vecrollout.storage.index import ShardIndex
from vecrollout.storage.local import MappedFile
from vecrollout.storage.shard import Shard

WRITER = """
import sys
import threading
from traces import of_space
from vecrollout import TraceWriter

stop = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), stop.set())).start()
number = 0
with TraceWriter(sys.argv[1], max_shard_bytes=int(sys.argv[2]), compression=sys.argv[3] or None) as writer:
    while not stop.is_set():
        writer.append(of_space("dict", 1 + number % 50, number))
        number += 1
        if number % int(sys.argv[4]) == 0:
            writer.flush()
print(number)
"""


def assert_same_index(actual: ShardIndex, expected: ShardIndex) -> None:
    assert (actual.size, actual.checksums) == (expected.size, expected.checksums)
    for mine, theirs in ((actual.batches, expected.batches), (actual.trajectories, expected.trajectories)):
        assert {name: (each.dtype, each.tolist()) for name, each in mine.items()} == {
            name: (each.dtype, each.tolist()) for name, each in theirs.items()
        }


@pytest.fixture
def batches_read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of the batches that are decoded."""
    read: list[int] = []
    decoded = Shard.decoded

    def counting(self: Shard, number: int, message: Any, columns: Any) -> Any:
        read.append(number)
        return decoded(self, number, message, columns)

    monkeypatch.setattr(Shard, "decoded", counting)
    return read


@pytest.fixture(params=["zstd", None])
def shard(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Four batches, and a trajectory that takes five more where it is compressed."""
    monkeypatch.setattr("vecrollout.storage.shard_writer.SPLIT_BYTES", 1 << 14)
    write(
        tmp_path,
        [of_space("image", steps, steps) for steps in (3, 1, 2, 5, 200)],
        flush=True,
        compression=request.param,
    )
    (path,) = tmp_path.glob("*.arrow")
    return path


def test_going_on_finds_what_starting_anew_does(shard: Path, batches_read: list[int]) -> None:
    content = shard.read_bytes()
    index = derive(Shard(MappedFile(shard)))[0]
    begins = [*index.batches["offset"].tolist(), index.section(len(index.batches["rows"]) + 1)[0]]
    cuts = sorted({begin + off for begin in begins for off in (-3, 0, 1, 40)} & set(range(begins[0], len(content))))
    growing = Derivation()
    batches_read.clear()
    for cut in [*cuts, len(content)]:
        shard.write_bytes(content[:cut])
        before = len(batches_read)
        found = growing.advance(Shard(MappedFile(shard)))
        read = batches_read[before:]
        anew = derive(Shard(MappedFile(shard)))
        del batches_read[before:]
        batches_read += read
        assert_same_index(found[0], anew[0])
        assert found[1] == anew[1]
    assert len(begins) in (6, 10)
    assert batches_read == list(range(len(begins) - 1))


def test_refresh_reads_what_was_appended(tmp_path: Path, batches_read: list[int]) -> None:
    with TraceWriter(tmp_path) as writer:
        traces = open_traces(tmp_path)
        for number in range(5):
            writer.append(of_space("dict", 3, number))
            writer.flush()
            traces.refresh()
            assert batches_read == [number]
            assert_same_trajectory(traces[number], of_space("dict", 3, number))
            batches_read.clear()
            traces.refresh()
            assert batches_read == []
    traces.refresh()
    assert len(traces) == 5
    assert batches_read == []
    for number in range(5):
        assert_same_trajectory(traces[number], of_space("dict", 3, number))


def test_damage_in_what_was_appended_ends_what_is_seen(tmp_path: Path) -> None:
    writer = TraceWriter(tmp_path, compression="zstd")
    traces = open_traces(tmp_path)
    for number in range(3):
        writer.append(of_space("image", 30, number))
        writer.flush()
        if number == 0:
            traces.refresh()
    (path,) = tmp_path.glob("*.arrow")
    whole = path.read_bytes()
    (begin,) = derive(Shard(MappedFile(path)))[0].batches["offset"][1:2]
    (sums,) = tmp_path.glob("*.sums")
    noted = sums.read_bytes()
    # Zeros where the data should be, as a file system may leave them when the power fails before they are flushed.
    sums.write_bytes(b"")
    path.write_bytes(whole[: begin + 8] + bytes(len(whole) - begin - 8))
    traces.refresh()
    assert len(traces) == 1
    assert not verify_traces(tmp_path).ok
    path.write_bytes(whole)
    os.truncate(path, len(whole) - 1)
    traces.refresh()
    assert len(traces) == 2
    sums.write_bytes(noted)
    for cut in (1, len(whole) - begin):
        path.write_bytes(whole[:-cut])
        with pytest.raises(DamagedTraceError, match=r"batch \d: .* altered or cut off since they were flushed"):
            open_traces(tmp_path)
        assert not verify_traces(tmp_path).ok
    path.write_bytes(whole)
    traces.refresh()
    assert len(traces) == 3
    writer.close()
    traces.refresh()
    assert len(traces) == 3


def test_refresh_after_a_repair(tmp_path: Path) -> None:
    write(tmp_path, [of_space("box", 3, number) for number in range(4)], flush=True)
    traces = open_traces(tmp_path)
    assert len(list(traces)) == 4
    (path,) = tmp_path.glob("*.arrow")
    content = path.read_bytes()
    begin = int(derive(Shard(MappedFile(path)))[0].batches["offset"][2])
    path.unlink()  # not altered in its place: views of it stay as they are
    path.write_bytes(content[: begin + 50] + b"damage" + content[begin + 56 :])
    assert repair_traces(tmp_path).trajectories == 2
    traces.refresh()
    assert [each.episode.id for each in traces] == [0, 1]


def test_a_shard_that_became_shorter_is_read_anew(tmp_path: Path) -> None:
    write(tmp_path, [of_space("box", 3, number) for number in range(4)], flush=True)
    for suffix in ("json", "index"):
        next(tmp_path.glob(f"*.{suffix}")).unlink()
    (path,) = tmp_path.glob("*.arrow")
    offsets = derive(Shard(MappedFile(path)))[0].batches["offset"]
    os.truncate(path, offsets[3])
    traces = open_traces(tmp_path)
    assert len(traces) == 3
    os.truncate(path, offsets[1])
    traces.refresh()
    assert len(traces) == 1


@pytest.mark.parametrize("seed", range(6))
def test_a_reader_beside_a_writer_sees_a_prefix(seed: int, tmp_path: Path) -> None:
    """What is there is what was recorded, from its start, and never less than before."""
    generator = random.Random(seed)
    shard_bytes, every = generator.choice([4096, 30_000, 1 << 30]), generator.choice([1, 7, 40])
    arguments = [str(tmp_path), str(shard_bytes), generator.choice(["zstd", "lz4", ""]), str(every)]
    paths = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": paths},
    ) as process:
        traces = open_traces(tmp_path)
        seen = [0]
        while len(set(seen)) < 12:
            reader = traces if generator.random() < 0.8 else open_traces(tmp_path)
            reader.refresh()
            assert len(reader) >= seen[-1]
            seen.append(len(reader))
            for number in {*generator.choices(range(len(reader) or 1), k=3), len(reader) - 1} & set(range(len(reader))):
                assert_same_trajectory(reader[number], of_space("dict", 1 + number % 50, number))
        written = int(process.communicate()[0])
    assert process.returncode == 0
    traces.refresh()
    assert len(traces) == written
    for number in range(0, written, 1 + written // 100):
        assert_same_trajectory(traces[number], of_space("dict", 1 + number % 50, number))
