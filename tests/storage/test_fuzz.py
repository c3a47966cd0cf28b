"""Whatever the bytes: no crash, no hang, no error of another kind, and no more memory than 2 GB."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from traces import of_space, write

from vecrollout import Trajectory
from vecrollout.testing import SPACES

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory can be limited on Linux")

HOW = ["anywhere", "heads", "forged", "lost", "journal", "json"]


def survive(tmp_path: Path, how: str, seed: int, times: int, large: bool = False) -> None:
    infos = [{"n": i, "odd": (i, "text")} for i in range(4)]
    written: list[Trajectory] = [of_space("nested", 4, number, infos=infos, seed=2**70 + number) for number in range(4)]
    if large:
        images = np.random.default_rng(0).integers(0, 256, (5, 32, 64), np.uint8)
        written = [replace(each, obs=images) for each in written]
    options = {"spaces": (SPACES["nested"], SPACES["text"]), "metadata": {"when": np.datetime64(1, "ns")}}
    traces = {"zstd": tmp_path / "compressed", None: tmp_path / "plain"}
    for compression, trace in traces.items():
        write(trace, written, flush=how != "json", compression=compression, **options)
    paths = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
    command = [sys.executable, str(Path(__file__).with_name("fuzzing.py")), str(seed), str(times), how]
    command += map(str, traces.values())
    environment = {**os.environ, "PYTHONPATH": paths}
    result = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    survived = [line.partition(" ")[0] for line in result.stdout.splitlines()]
    assert (result.returncode, survived) == (0, ["survived"] * len(traces)), result.stderr[-3000:]


@pytest.mark.parametrize("how", HOW)
def test_altered_bytes(how: str, tmp_path: Path) -> None:
    survive(tmp_path, how, 0, 25)


def test_altered_bytes_beside_images(tmp_path: Path) -> None:
    survive(tmp_path, "forged", 0, 25, large=True)


@pytest.mark.slow
@pytest.mark.parametrize("large", [False, True], ids=["small rows", "large rows"])
@pytest.mark.parametrize("how", HOW)
def test_many_altered_bytes(how: str, large: bool, tmp_path: Path) -> None:
    survive(tmp_path, how, 1, 200, large)
