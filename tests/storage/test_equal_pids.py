"""Writers that have everything in common but chance: one process, one directory, one moment, as in two containers."""

from __future__ import annotations

import threading
from pathlib import Path

from traces import assert_same_trajectory, of_space

from vecrollout import TraceWriter, open_traces, verify_traces


def test_writers_of_one_process_never_collide(tmp_path: Path) -> None:
    begin = threading.Barrier(8)

    def record() -> None:
        begin.wait()
        with TraceWriter(tmp_path, max_shard_bytes=4096) as writer:
            for number in range(20):
                writer.append(of_space("box", 30, number))
                writer.flush()

    threads = [threading.Thread(target=record) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    traces = open_traces(tmp_path)
    assert len(traces) == 8 * 20
    for place, each in enumerate(traces):
        assert_same_trajectory(each, of_space("box", 30, place % 20))
    assert verify_traces(tmp_path).ok
