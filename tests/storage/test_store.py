"""Traces in object stores: as safe as local ones, read by ranges, and nothing lost where the store fails."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from journals import of_lines
from traces import assert_same_trajectory, of_space, write

from s3_server import S3Server
from vecrollout import (
    Episode,
    TraceWriter,
    Trajectory,
    TrajectoryWithRew,
    open_traces,
    record_traces,
    repair_traces,
    verify_traces,
)
from vecrollout.errors import (
    DamagedTraceError,
    MissingDependencyError,
    StoreError,
    TraceNotFoundError,
    TraceVersionError,
    TraceWriteError,
)
from vecrollout.testing import SPACES, assert_same

CHILD = """
import sys
from traces import of_space
from vecrollout import TraceWriter

writer = TraceWriter(sys.argv[1])
for number in range(int(sys.argv[2])):
    writer.append(of_space("dict", 1 + number % 50, number))
    if number % int(sys.argv[3]) == int(sys.argv[3]) - 1:
        writer.flush()
        print(number + 1, flush=True)
"""


def start(url: str, episodes: int, flush_every: int = 10, code: str = CHILD) -> subprocess.Popen[str]:
    """A process that writes, and leaves its writer open at its end."""
    paths = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
    environment = {**os.environ, "PYTHONPATH": paths, "TMPDIR": tempfile.gettempdir()}
    command = [sys.executable, "-c", code, url, str(episodes), str(flush_every)]
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    return subprocess.Popen(command, text=True, env=environment, **pipes)


def episodes(space: str, count: int) -> list[TrajectoryWithRew]:
    lengths = [1 + number % 50 for number in range(count)]
    return [of_space(space, steps, number, infos=[{"n": number}] * steps) for number, steps in enumerate(lengths)]


def assert_holds(url: str, written: list[TrajectoryWithRew]) -> None:
    read = open_traces(url)
    assert len(read) == len(written)
    for actual, expected in zip(read, written, strict=True):
        assert_same_trajectory(actual, expected)


def names(store: S3Server, suffix: str) -> list[str]:
    """Of the objects below the URL, in order."""
    found = re.findall(r"<Key>some/prefix/([^<]*)</Key>", store.request("GET").decode())
    return sorted(name for name in found if name.endswith(suffix))


def only(store: S3Server, suffix: str) -> str:
    (name,) = names(store, suffix)
    return name


def large(steps: int = 300) -> Trajectory:
    """Of several parts of an upload, as nothing of it can be compressed."""
    obs = np.random.default_rng(0).integers(0, 256, (steps + 1, 84, 84, 8), np.uint8)
    return Trajectory(obs, np.arange(steps), None, False)


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where shards wait to be put into the store."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


# Arrays are encoded as on disk, and `test_round_trip.py` writes those of all spaces both ways.
@pytest.mark.parametrize("compression", ["zstd", pytest.param(None, marks=pytest.mark.slow)])
@pytest.mark.parametrize("space", SPACES)
def test_round_trip(space: str, compression: str | None, store: S3Server, temporary: Path) -> None:
    written = episodes(space, 12)
    write(store.url, written[:7], flush=True, compression=compression)  # type: ignore[arg-type]
    write(store.url, written[7:], compression=compression)  # type: ignore[arg-type]
    assert_holds(store.url, written)
    assert verify_traces(store.url).ok
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("overwrite", [False, True])
def test_recording_to_an_empty_place(overwrite: bool, store: S3Server, temporary: Path) -> None:
    env = record_traces(gym.make("CartPole-v1"), store.url, overwrite=overwrite)
    env.reset(seed=0)
    for _ in range(5):
        env.step(0)
    env.close()
    assert open_traces(store.url).total_steps == 5


@pytest.mark.parametrize("compression", ["zstd", "lz4", None])
def test_parts_of_a_trajectory(compression: str | None, store: S3Server) -> None:
    trajectory = of_space("dict", 40, infos=[{"n": number} for number in range(40)])
    write(store.url, [of_space("dict", 3, 0), trajectory], compression=compression)  # type: ignore[arg-type]
    traces = open_traces(store.url)
    assert_same(traces.columns(1, ["rews", "acts"], 7, 9), {"rews": trajectory.rews[7:9], "acts": trajectory.acts[7:9]})
    part = traces.episode(1, 30)
    assert_same(part.obs, trajectory.obs[30:])
    assert (part.episode.start_step, part.terminated, part.infos[0]) == (30, True, {"n": 30})  # type: ignore[index]


def test_many_writers(store: S3Server) -> None:
    processes = [start(store.url, 30) for _ in range(2)]
    writers = [TraceWriter(store.url) for _ in range(3)]
    for number in range(30):
        for writer in writers:
            writer.append(of_space("dict", 1 + number % 50, number))
    for writer in writers:
        writer.close()
    for process in processes:
        process.communicate()
        assert process.returncode == 0
    assert_holds(store.url, [of_space("dict", 1 + number % 50, number) for number in range(30)] * 5)


def test_what_was_flushed_is_in_the_store_while_the_writer_is_open(store: S3Server) -> None:
    with pytest.raises(TraceNotFoundError, match="expected a directory of traces"):
        open_traces(store.url)
    with TraceWriter(store.url) as writer:
        writer.append(of_space("box", 3, 0))
        writer.flush()
        traces = open_traces(store.url)
        for number in range(1, 5):
            assert len(traces) == number
            assert_same_trajectory(traces[-1], of_space("box", 3, number - 1))
            writer.append(of_space("box", 3, number))
            writer.flush()
            traces.refresh()
            assert verify_traces(store.url).ok
        writer.flush()
        assert len(names(store, ".arrow")) == 5
        writer.append(of_space("box", 3, 5))
    traces.refresh()
    assert [each.episode.id for each in traces] == list(range(6))


def test_shards_are_put_when_they_are_full(store: S3Server) -> None:
    with TraceWriter(store.url, max_shard_bytes=4096, queue_bytes=1) as writer:
        for number in range(30):
            writer.append(of_space("image", 20, number))
        assert len(names(store, ".arrow")) > 5
    assert_holds(store.url, [of_space("image", 20, number) for number in range(30)])


def test_killed_with_nine(store: S3Server, temporary: Path) -> None:
    process = start(store.url, 10**6)
    assert process.stdout is not None
    for _ in range(3):
        process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    flushed = int(([30] + [int(line) for line in process.communicate()[0].split()])[-1])
    for _ in range(2):
        read = list(open_traces(store.url))
        assert len(read) >= flushed
        for number, each in enumerate(read):
            assert_same_trajectory(each, of_space("dict", 1 + number % 50, number))
        assert verify_traces(store.url).ok
        repair_traces(store.url)
    assert repair_traces(store.url).changes == ()


def test_what_a_killed_writer_had_not_put_yet_is_put_by_repair(store: S3Server, temporary: Path) -> None:
    """As far as it was written; and nothing of a writer that lives."""
    process = start(store.url, 1000, flush_every=10**9, code=f"{CHILD}\nsys.stdin.read()")
    journals: list[Path] = []
    # A record batch counts when the journal has its line.
    while not any(b'"batch"' in journal.read_bytes() for journal in journals):
        time.sleep(0.01)
        journals = list(temporary.glob("vecrollout-spool-*/*.journal"))
    (folder,) = {str(journal.parent) for journal in journals}
    written = list(Path(folder).glob("*.arrow"))
    assert verify_traces(store.url).leftovers == ()
    repair_traces(store.url)
    assert written[0].exists()
    assert names(store, ".arrow") == []
    process.kill()
    process.communicate()
    assert verify_traces(f"{store.url.rpartition('/')[0]}").leftovers == ()
    report = verify_traces(store.url)
    assert (report.ok, report.leftovers) == (True, (folder,))
    assert folder in {change.file for change in repair_traces(store.url).changes}
    assert list(temporary.iterdir()) == []
    read = list(open_traces(store.url))
    assert read
    for number, each in enumerate(read):
        assert_same_trajectory(each, of_space("dict", 1 + number % 50, number))
    report = verify_traces(store.url)
    assert (report.ok, report.leftovers) == (True, ())
    assert repair_traces(store.url).changes == ()


def test_closes_at_exit(store: S3Server) -> None:
    """After everything that pyarrow does at exit, nothing could be put any more."""
    process = start(store.url, 5)
    assert process.communicate() == ("", "")
    assert process.returncode == 0
    assert_holds(store.url, [of_space("dict", 1 + number, number) for number in range(5)])
    assert repair_traces(store.url).changes == ()


def lines(store: S3Server) -> list[Any]:
    """Of the only journal."""
    content = store.request("GET", only(store, ".journal"))
    return [json.loads(line.rpartition(b" ")[0]) for line in content.splitlines()]


def rows_of_batches(store: S3Server) -> list[int]:
    return [rows for line in lines(store) if "batch" in line for _, _, rows, _ in line["batch"][1]]


def long_episode(number: int) -> Trajectory:
    rows = np.arange(number, number + 405 * 6, dtype=np.float32).reshape(405, 6)
    return Trajectory(rows, rows[1:, 0], None, True, episode=Episode(id=number))


def many_batches(store: S3Server) -> tuple[int, int]:
    """A shard of several batches; its size in bytes, and the number of batches."""
    write(store.url, [long_episode(number) for number in range(600)], compression=None, queue_bytes=1 << 20)
    size, count = len(store.request("GET", only(store, ".arrow"))), len(rows_of_batches(store))
    assert count > 5
    store.answered.clear()
    return size, count


def test_a_reader_ends_quietly(store: S3Server) -> None:
    """With files of the store open, which nobody closes."""
    write(store.url, [of_space("box", 3)])
    code = "import sys; from vecrollout import open_traces; traces = open_traces(sys.argv[1]); print(len(traces[0]))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-W", "error", "-c", code, store.url]
    result = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert (result.returncode, result.stdout, result.stderr) == (0, "3\n", "")


def test_one_episode_is_read_without_the_others(store: S3Server) -> None:
    size, _ = many_batches(store)
    traces = open_traces(store.url)
    assert store.sent(".arrow") == []
    assert len(store.answered) == 3  # what there is, and the journal's size and content
    assert_same_trajectory(traces[150], long_episode(150))
    head, batch = store.sent(".arrow")
    assert head <= 64 << 10
    assert 0 < batch < size / 2
    assert_same_trajectory(traces[150], long_episode(150))
    assert len(store.sent(".arrow")) == 2


def test_batches_in_a_row_are_read_at_once(store: S3Server) -> None:
    size, count = many_batches(store)
    assert sum(len(each) for each in open_traces(store.url)) == 600 * 404
    head, *batches = store.sent(".arrow")
    assert head <= 64 << 10
    assert len(batches) <= 1 + count // 2
    assert size - (64 << 10) < sum(batches) < size


def test_a_flipped_byte(store: S3Server) -> None:
    written = episodes("dict", 10)
    write(store.url, written[:4])
    first = only(store, ".arrow")
    write(store.url, written[4:])
    content = bytearray(store.request("GET", first))
    content[len(content) // 2] ^= 1
    store.request("PUT", first, bytes(content))
    (problem, *_) = verify_traces(store.url).problems
    assert (problem.file, problem.place) == (first, "batch 0")
    traces = open_traces(store.url)
    with pytest.raises(DamagedTraceError, match=first):
        traces[0]
    assert_same_trajectory(traces[4], written[4])
    assert repair_traces(store.url).trajectories == 6
    assert verify_traces(store.url).ok
    assert_holds(store.url, written[4:])
    assert store.request("GET", f"{first}.damaged") == content
    assert repair_traces(store.url).changes == ()


def test_a_damaged_end_is_repaired(store: S3Server) -> None:
    with TraceWriter(store.url, queue_bytes=1) as writer:
        for number in range(6):
            writer.append(of_space("image", 3, number))
    shard = only(store, ".arrow")
    content = store.request("GET", shard)
    batches = [piece for line in lines(store) if "batch" in line for piece in line["batch"][1]]
    assert len(batches) > 2
    store.request("PUT", shard, content[: batches[-1][0] + 5])
    with pytest.raises(DamagedTraceError, match=f"{shard}: expected {len(content)} bytes"):
        open_traces(store.url)
    kept = repair_traces(store.url).trajectories
    assert 0 < kept < 6
    assert_holds(store.url, [of_space("image", 3, number) for number in range(kept)])
    assert verify_traces(store.url).ok
    assert repair_traces(store.url).changes == ()


@pytest.mark.parametrize("suffix", [".arrow", ".journal"])
def test_a_missing_object(suffix: str, store: S3Server) -> None:
    written = episodes("box", 3)
    write(store.url, written)
    shard = only(store, ".arrow")
    store.request("DELETE", only(store, suffix))
    if suffix == ".arrow":
        with pytest.raises(DamagedTraceError, match=shard):
            open_traces(store.url)
    else:
        with pytest.warns(UserWarning, match=f"{shard} is not read"):
            assert len(open_traces(store.url)) == 0
    # Of a missing journal the shard tells.
    assert [problem.file for problem in verify_traces(store.url).problems] == [shard]
    repair_traces(store.url)
    assert verify_traces(store.url).ok
    assert len(open_traces(store.url)) == (0 if suffix == ".arrow" else 3)


def test_an_object_that_vanishes_while_it_is_read(store: S3Server) -> None:
    write(store.url, episodes("box", 3))
    traces = open_traces(store.url)
    store.request("DELETE", only(store, ".arrow"))
    with pytest.raises(DamagedTraceError, match="expected an object"):
        traces[0]


def test_a_newer_format_is_refused_with_its_version(store: S3Server) -> None:
    write(store.url, episodes("box", 1))
    header, *rest = lines(store)
    store.request("PUT", only(store, ".journal"), of_lines([{**header, "format_version": 7}, *rest]))
    for function in (open_traces, verify_traces, repair_traces):
        with pytest.raises(TraceVersionError, match="got 7"):
            function(store.url)


def refusing(suffix: str, status: int, query: str = "", times: int = 10**6) -> Callable[[str, str, str], int | None]:
    """Refuses to take objects whose names end so."""
    left = [times]

    def fault(method: str, name: str, asked: str) -> int | None:
        if method != "PUT" or not name.endswith(suffix) or query not in asked or not left[0]:
            return None
        left[0] -= 1
        return status

    return fault


def spool_of(error: TraceWriteError) -> str:
    return str(error).rpartition("what did not get there is in ")[2]


@pytest.mark.parametrize("suffix", [".arrow", ".journal"])
def test_what_the_store_refuses_stays_in_a_local_folder(suffix: str, store: S3Server, temporary: Path) -> None:
    written = episodes("dict", 40)
    writer = TraceWriter(store.url)
    for each in written[:10]:
        writer.append(each)
    writer.flush()
    store.fault = refusing(suffix, 403)
    for each in written[10:]:
        writer.append(each)
    with pytest.raises(TraceWriteError, match=f"{suffix}: the object store failed.*lost are no traj") as raised:
        writer.flush()
    with pytest.raises(TraceWriteError):
        writer.append(written[0])
    with pytest.raises(TraceWriteError):
        writer.close()
    store.fault = lambda method, name, query: None
    assert_holds(store.url, written[:10])
    if suffix == ".arrow":
        assert_holds(spool_of(raised.value), written[10:])
        assert verify_traces(spool_of(raised.value)).ok
    # As the guide says: copy the shards, and repair.
    for path in Path(spool_of(raised.value)).glob("*.arrow"):
        store.request("PUT", path.name, path.read_bytes())
    repair_traces(store.url)
    assert_holds(store.url, written)
    assert verify_traces(store.url).ok


def test_what_waits_in_the_queue_stays_too(store: S3Server, temporary: Path) -> None:
    gate = threading.Event()
    store.fault = lambda method, name, query: 403 if gate.wait() else None
    written = episodes("image", 60)
    writer = TraceWriter(store.url, max_shard_bytes=4096)
    writer.append(written[0])

    def flush() -> None:
        with suppress(TraceWriteError):
            writer.flush()

    flushing = threading.Thread(target=flush)
    flushing.start()
    for each in written[1:]:
        writer.append(each)
    gate.set()
    flushing.join()
    with pytest.raises(TraceWriteError, match="lost are no trajectories") as raised:
        writer.flush()
    assert_holds(spool_of(raised.value), written)
    with pytest.raises(TraceWriteError):
        writer.close()


def test_a_failure_in_the_middle_of_an_upload(store: S3Server, temporary: Path) -> None:
    store.fault = refusing(".arrow", 403, "partNumber=2")
    writer = TraceWriter(store.url, compression=None)
    writer.append(large())
    with pytest.raises(TraceWriteError) as raised:
        writer.flush()
    assert names(store, ".arrow") == []
    (kept,) = open_traces(spool_of(raised.value))
    assert_same(kept.obs, large().obs)
    with pytest.raises(TraceWriteError):
        writer.close()


def test_what_fails_for_a_moment_is_tried_again(store: S3Server, temporary: Path) -> None:
    store.fault = refusing(".arrow", 503, times=1)
    write(store.url, episodes("box", 3))
    assert_holds(store.url, episodes("box", 3))
    assert list(temporary.iterdir()) == []


def test_a_store_that_refuses_to_answer_is_no_damage(store: S3Server) -> None:
    write(store.url, episodes("box", 3))
    traces = open_traces(store.url)
    for suffix in (".journal", ".arrow"):
        store.fault = lambda method, name, query, suffix=suffix: 403 if name.endswith(suffix) else None  # type: ignore[misc]
        for function in (verify_traces, repair_traces):
            with pytest.raises(StoreError, match="the object store failed"):
                function(store.url)
    with pytest.raises(StoreError):
        traces[0]
    store.fault = lambda method, name, query: None
    assert_holds(store.url, episodes("box", 3))


def test_no_bucket(store: S3Server, temporary: Path) -> None:
    url = "s3://no-such-bucket/prefix"
    for function in (open_traces, verify_traces, repair_traces):
        with pytest.raises(StoreError, match="no-such-bucket"):
            function(url)
    writer = TraceWriter(url)
    writer.append(of_space("box", 3))
    with pytest.raises(TraceWriteError, match="no-such-bucket") as raised:
        writer.close()
    assert_holds(spool_of(raised.value), [of_space("box", 3)])


def test_where_it_is_written_in_the_url(store: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    host = store.endpoint.removeprefix("http://")
    url = f"s3://someone:secret@{store.bucket}/some/prefix?scheme=http&endpoint_override={host}"
    write(url, episodes("box", 3))  # type: ignore[arg-type]
    assert_holds(url, episodes("box", 3))
    assert repr(open_traces(url)) == f"<TraceDataset of 3 trajectories in 's3://{store.bucket}/some/prefix'>"
    assert open_traces(url).path == url


@pytest.mark.parametrize("compression", ["zstd", None])
def test_by_fsspec(compression: str | None, temporary: Path) -> None:
    from fsspec.implementations.memory import MemoryFileSystem

    url = f"memory://{temporary.name}/traces/"
    written = episodes("dict", 20)
    write(url, written[:9], flush=True, compression=compression)  # type: ignore[arg-type]
    traces = open_traces(url)
    write(url, written[9:], compression=compression)  # type: ignore[arg-type]
    traces.refresh()
    assert len(traces) == 20
    assert_holds(url, written)
    assert list(temporary.iterdir()) == []
    shard = next(name for name in sorted(MemoryFileSystem.store) if temporary.name in name and name.endswith(".arrow"))
    file = MemoryFileSystem.store[shard]
    file.seek(len(file.getvalue()) // 2)
    file.write(b"damage")
    assert verify_traces(url).problems[0].place == "batch 0"
    repair_traces(url)
    assert verify_traces(url).ok
    assert_holds(url, written[1:])


def test_fsspec_is_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in [name for name in sys.modules if name.partition(".")[0] == "fsspec"]:
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingDependencyError, match=r"vecrollout\[fsspec\]"):
        open_traces("memory://somewhere")


def test_what_fsspec_needs_besides() -> None:
    with pytest.raises(MissingDependencyError, match="dropbox"):
        open_traces("dropbox://somewhere")
