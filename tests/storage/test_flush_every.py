"""The writer flushes by itself: trajectories that were handed over a second ago survive `kill -9`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from journals import lines_of, only
from traces import assert_same_trajectory, of_space

from vecrollout import TraceWriter, open_traces, verify_traces
from vecrollout.errors import ArgumentTypeError, OptionError

APPENDING = """
import sys, time
from traces import of_space
from vecrollout import TraceWriter

writer = TraceWriter(sys.argv[1])
for number in range(5):
    writer.append(of_space("dict", 9, number))
print("appended", flush=True)
time.sleep(600)
"""

DROPPING = """
import sys, time
import gymnasium as gym
from stable_baselines3.common.vec_env import DummyVecEnv
from vecrollout import record_traces

def record():
    venv = record_traces(DummyVecEnv([lambda: gym.wrappers.TimeLimit(gym.make("CartPole-v1"), 5)]), sys.argv[1])
    venv.reset()
    for step in range(17):
        venv.step([step % 2])

record()  # nobody closes it
print("appended", flush=True)
time.sleep(600)
"""


@pytest.mark.skipif(os.name != "posix", reason="signals are sent to processes on POSIX")
@pytest.mark.parametrize(("program", "count"), [(APPENDING, 5), (DROPPING, 3)], ids=["writer", "dropped recorder"])
def test_a_killed_process_leaves_what_ended_a_second_before(program: str, count: int, tmp_path: Path) -> None:
    paths = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": paths}
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"appended\n"
        # A second, and as much again as a busy machine may take.
        until = time.monotonic() + 60
        while not lines_with_flush(tmp_path) and time.monotonic() < until:
            time.sleep(0.1)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert len(open_traces(tmp_path)) == count
    assert verify_traces(tmp_path).ok


def lines_with_flush(directory: Path) -> list[Any]:
    journals = list(directory.glob("*.journal"))
    return [line for line in lines_of(journals[0]) if "flushed" in line] if journals else []


def test_another_reader_sees_it_while_nothing_more_comes(tmp_path: Path) -> None:
    with TraceWriter(tmp_path, flush_every_s=0.05) as writer:
        for number in range(3):
            writer.append(of_space("box", 3, number))
            until = time.monotonic() + 60
            while len(open_traces(tmp_path)) <= number and time.monotonic() < until:
                time.sleep(0.01)
            assert_same_trajectory(open_traces(tmp_path)[number], of_space("box", 3, number))


def test_an_idle_writer_writes_nothing(tmp_path: Path) -> None:
    with TraceWriter(tmp_path, flush_every_s=0.02) as writer:
        writer.append(of_space("box", 3, 0))
        until = time.monotonic() + 60
        while not lines_with_flush(tmp_path) and time.monotonic() < until:
            time.sleep(0.01)
        size = only(tmp_path, ".journal").stat().st_size
        time.sleep(0.3)
        assert only(tmp_path, ".journal").stat().st_size == size


def test_never(tmp_path: Path) -> None:
    with TraceWriter(tmp_path, flush_every_s=None) as writer:
        writer.append(of_space("box", 3, 0))
        time.sleep(1.5)
        assert len(open_traces(tmp_path)) == 0
        writer.flush()
        assert len(open_traces(tmp_path)) == 1


@pytest.mark.parametrize(
    ("seconds", "error"),
    [(0, OptionError), (-1.0, OptionError), (float("nan"), OptionError), ("soon", ArgumentTypeError)],
)
def test_what_is_no_time(seconds: Any, error: type[Exception], tmp_path: Path) -> None:
    with pytest.raises(error, match="flush_every_s"):
        TraceWriter(tmp_path, flush_every_s=seconds)
