"""Ctrl-C at any moment: `close` returns, and the disk holds every step once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from vecrollout import open_traces, verify_traces

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals are sent to processes on POSIX")

# Offers trajectories to writers as a recorder does: what it does not know to be taken it offers again.
OFFERING = """
import json, os, random, signal, sys, threading, time
import numpy as np
from vecrollout import Episode, TraceWriter, TrajectoryBatch, TrajectoryWithRew

directory, wanted = sys.argv[1], int(sys.argv[2])
generator = random.Random(wanted)
is_armed = False
interrupts = 0


def interrupt(*_):
    global is_armed, interrupts
    if is_armed:
        is_armed = False
        interrupts += 1
        raise KeyboardInterrupt


def insist(function):
    \"\"\"Until it returns; it may be interrupted once each time.\"\"\"
    global is_armed
    while True:
        try:
            is_armed = interrupts < wanted
            result = function()
            is_armed = False
            return result
        except KeyboardInterrupt:
            pass


def send():
    while interrupts < wanted:
        time.sleep(generator.expovariate(500))
        os.kill(os.getpid(), signal.SIGINT)


def episode(recording, number):
    steps = 1 + number % 30
    obs = np.arange(steps + 1.0) + 1000 * number
    where = Episode(number, number % 4, recording=recording, ended_by="terminated")
    return TrajectoryWithRew(obs, np.arange(steps), None, True, rews=np.ones(steps), episode=where)


signal.signal(signal.SIGINT, interrupt)
threading.Thread(target=send, daemon=True).start()
written = {}
while interrupts < wanted:
    writer = insist(lambda: TraceWriter(directory, queue_bytes=generator.choice([1, 20_000, 1 << 28])))
    recording, number, until = writer.name, 0, min(wanted, interrupts + 25)
    while interrupts < until:
        offered = [episode(recording, number + i) for i in range(generator.choice([1, 3]))]
        batch = TrajectoryBatch.from_trajectories(offered)
        one_by_one = lambda: [writer.append(each) for each in offered]
        insist(generator.choice([one_by_one, lambda: writer.extend(batch), lambda: writer.extend(offered)]))
        number += len(offered)
        if generator.random() < 0.02:
            insist(writer.flush)
    insist(writer.close)
    written[recording] = number
print(json.dumps([interrupts, written]))
"""


@pytest.mark.parametrize("interrupts", [30, pytest.param(500, marks=pytest.mark.slow)])
def test_by_sigint_at_random_moments(interrupts: int, tmp_path: Path) -> None:
    child = subprocess.run(
        [sys.executable, "-c", OFFERING, str(tmp_path), str(interrupts)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        timeout=60 + interrupts,
        check=False,
    )
    assert child.returncode == 0, child.stderr
    got, written = json.loads(child.stdout)
    assert got == interrupts
    traces = open_traces(tmp_path)
    found: dict[str | None, list[int | None]] = {name: [] for name, number in written.items() if number}
    for each in traces:
        number = each.episode.id
        assert number is not None
        found[each.episode.recording].append(number)
        np.testing.assert_array_equal(each.obs, np.arange(2.0 + number % 30) + 1000 * number)
    assert found == {name: list(range(number)) for name, number in written.items() if number}
    assert verify_traces(tmp_path).ok
