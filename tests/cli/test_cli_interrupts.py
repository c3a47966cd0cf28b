"""Ctrl-C in a real process: what is kept, and the exit code."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vecrollout import TraceWriter, TrajectoryBatch, open_traces, verify_traces

LIMIT_S = 60


def start(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "vecrollout", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


def wait_for(condition: Callable[[], Any], process: subprocess.Popen[str]) -> None:
    begin = time.monotonic()
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() - begin < LIMIT_S
        time.sleep(0.02)


def interrupt(process: subprocess.Popen[str]) -> tuple[str, str]:
    """As a terminal does: the signal goes to all processes of the group."""
    os.killpg(process.pid, signal.SIGINT)
    return process.communicate(timeout=LIMIT_S)


def has_steps(directory: Path) -> bool:
    return directory.exists() and any(each.suffix == ".arrow" for each in directory.iterdir())


@pytest.mark.parametrize("vec", ["dummy", "async", pytest.param("subproc", marks=pytest.mark.slow)])
def test_everything_recorded_is_kept(tmp_path: Path, vec: str) -> None:
    out = tmp_path / "out"
    process = start("record", "CartPole-v1", "--vec", vec, "--n-envs", 2, "--steps", 10**9, "--out", out)
    wait_for(lambda: has_steps(out), process)
    stdout, stderr = interrupt(process)
    assert process.returncode == 130
    assert stderr.splitlines() == ["vecrollout: interrupted; everything recorded so far is kept"]
    assert verify_traces(out).ok
    traces = open_traces(out)
    assert f"steps         {traces.total_steps:,}" in stdout
    steps = [sum(len(each) for each in traces if each.episode.env_index == env) for env in range(2)]
    assert min(steps) > 0
    if vec != "async":  # there, a reset takes the place of a step
        assert steps[0] == steps[1], "of all environments, the last step included"


def test_an_interrupted_conversion_leaves_nothing(tmp_path: Path) -> None:
    trace, out = tmp_path / "trace", tmp_path / "out.csv"
    lengths = [1000] * 400
    with TraceWriter(trace) as writer:
        obs, acts = np.zeros((400_400, 8)), np.zeros(400_000, int)
        writer.extend(TrajectoryBatch.from_arrays(obs, acts, np.ones(400_000), lengths=lengths))
    before = {each: each.stat().st_size for each in trace.iterdir()}
    process = start("convert", trace, "--to", "csv", "--out", out)
    wait_for(lambda: any(each.name.startswith(".out.csv") for each in tmp_path.iterdir()), process)
    stdout, stderr = interrupt(process)
    assert (process.returncode, stdout) == (130, "")
    assert stderr.splitlines() == [f"vecrollout: interrupted; nothing was written to {out}, and {trace} is as it was"]
    assert [each.name for each in tmp_path.iterdir()] == ["trace"]
    assert {each: each.stat().st_size for each in trace.iterdir()} == before


@pytest.mark.parametrize("arguments", [["ls", "nowhere"], ["--no-such-option"], ["record", "CartPole-v1"]])
def test_a_mistake_ends_with_code_2_and_without_a_traceback(tmp_path: Path, arguments: list[str]) -> None:
    process = start(*arguments)
    _, stderr = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 2
    assert "Traceback" not in stderr
