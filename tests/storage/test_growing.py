"""A shard that is still being written: what a reader sees of it, and what it reads for that."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from journals import only, parts_of
from traces import assert_same_trajectory, of_space, write

from vecrollout import TraceWriter, open_traces, repair_traces, verify_traces

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


def test_refresh_shows_what_was_written(tmp_path: Path) -> None:
    with TraceWriter(tmp_path) as writer:
        traces = open_traces(tmp_path)
        for number in range(5):
            writer.append(of_space("dict", 3, number))
            writer.flush()
            assert len(traces) == number
            traces.refresh()
            assert_same_trajectory(traces[number], of_space("dict", 3, number))
            traces.refresh()
            assert len(traces) == number + 1
    traces.refresh()
    assert len(traces) == 5
    for number in range(5):
        assert_same_trajectory(traces[number], of_space("dict", 3, number))


def test_refresh_after_a_repair(tmp_path: Path) -> None:
    write(tmp_path, [of_space("box", 3, number) for number in range(4)], flush=True)
    traces = open_traces(tmp_path)
    assert len(list(traces)) == 4
    shard = only(tmp_path, ".arrow")
    content = shard.read_bytes()
    begin = parts_of(tmp_path)[3][1]
    shard.unlink()  # not altered in its place: views of it stay as they are
    shard.write_bytes(content[: begin + 50] + b"damage" + content[begin + 56 :])
    assert repair_traces(tmp_path).trajectories == 2
    traces.refresh()
    assert [each.episode.id for each in traces] == [0, 1]


@pytest.mark.parametrize("seed", [0, 2, 3, 5, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 4))])
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
        while len(set(seen)) < 8:
            reader = traces if generator.random() < 0.8 else open_traces(tmp_path)
            reader.refresh()
            assert len(reader) >= seen[-1]
            seen.append(len(reader))
            if generator.random() < 0.3:
                assert verify_traces(tmp_path).problems == ()
            for number in {*generator.choices(range(len(reader) or 1), k=3), len(reader) - 1} & set(range(len(reader))):
                assert_same_trajectory(reader[number], of_space("dict", 1 + number % 50, number))
        written = int(process.communicate()[0])
    assert process.returncode == 0
    traces.refresh()
    assert len(traces) == written
    for number in range(0, written, 1 + written // 100):
        assert_same_trajectory(traces[number], of_space("dict", 1 + number % 50, number))
