"""Whatever takes longer than a second shows progress on a terminal, and what is quicker shows nothing."""

from __future__ import annotations

import itertools
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from vecrollout import open_traces, repair_traces, verify_traces
from vecrollout.errors import OptionError

COMMANDS: dict[str, tuple[str, ...]] = {
    "verify": (),
    "repair": (),
    "merge": ("--out", "out"),
    "filter": ("length > 1", "--out", "out"),
    "split": ("all=1", "--out", "out"),
    "delete": ("--where", "length < 15", "--yes"),
    "convert": ("--to", "npz", "--out", "out.npz"),
    "replay": (),
    "video": ("--source", "frames", "--out", "out.mp4"),
}


@pytest.fixture
def trace(cartpole: Path, tmp_path: Path, run: Any, request: pytest.FixtureRequest) -> Path:
    """A trace that commands may change."""
    if "video" in request.node.name:
        assert run("record", "CartPole-v1", "--frames", "--steps", 5, "--out", tmp_path / "trace").code == 0
        return tmp_path / "trace"
    return Path(shutil.copytree(cartpole, tmp_path / "trace"))


@pytest.mark.parametrize("command", COMMANDS)
def test_slow_work_has_a_bar(
    on_terminal: Callable[..., str], trace: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.chdir(trace.parent)
    # As on a slow machine: ten seconds between any two looks at the clock.
    slow = SimpleNamespace(monotonic=itertools.count(0.0, 10.0).__next__)
    monkeypatch.setattr("vecrollout.progress.time", slow)
    text = on_terminal(command, trace, *COMMANDS[command])
    done, total = re.findall(r"(\d+)/(\d+)", text)[-1]
    assert done == total


@pytest.mark.parametrize("command", COMMANDS)
def test_quick_work_has_none(
    on_terminal: Callable[..., str], trace: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.chdir(trace.parent)
    monkeypatch.setattr("vecrollout.progress.time", SimpleNamespace(monotonic=lambda: 0.0))
    assert not re.findall(r"(\d+)/(\d+)", on_terminal(command, trace, *COMMANDS[command]))


class Slow(gym.Env[Any, Any]):
    """Takes a second and a half to start."""

    observation_space = gym.spaces.Box(-1, 1, (2,), np.float32)
    action_space = gym.spaces.Discrete(3)

    def __init__(self) -> None:
        time.sleep(1.5)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        return np.zeros(2, np.float32), {}

    def step(self, action: Any) -> Any:
        return np.zeros(2, np.float32), 0.0, True, False, {}


def test_a_spinner_where_nothing_can_be_counted(on_terminal: Callable[..., str], tmp_path: Path) -> None:
    gym.register("Slow-v0", Slow)
    try:
        text = on_terminal("record", "Slow-v0", "--steps", 1, "--out", tmp_path)
    finally:
        del gym.registry["Slow-v0"]
    assert "Starting 1 environments" in text


def test_an_unknown_bar_is_refused_before_any_work(cartpole: Path, tmp_path: Path) -> None:
    def write(path: Path, progress: Any) -> None:
        open_traces(path).write(tmp_path / "new", progress=progress)

    works: list[Any] = [verify_traces, repair_traces, write]
    for work in works:
        with pytest.raises(OptionError, match='progress: expected True, False, "tqdm" or "rich", got \'bar\''):
            work(cartpole, progress="bar")
    assert not (tmp_path / "new").exists()
