"""`vecrollout convert`: each format, and back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from stable_baselines3 import DQN

from vecrollout import TraceDataset, open_traces
from vecrollout.cli.formats import FORMATS

if TYPE_CHECKING:
    from conftest import Run

OPTIONS = {"lerobot": ["--fps", 50, "--task", "balance"], "minari": ["--dataset-id", "cartpole/mine-v0"]}


@pytest.mark.parametrize("name", FORMATS)
def test_there_and_back(run: Run, cartpole: Path, traces: TraceDataset, tmp_path: Path, name: str) -> None:
    if name == "imitation":
        pytest.importorskip("datasets")
    suffix = {"parquet": ".parquet", "npz": ".npz", "csv": ".csv", "d3rlpy": ".h5"}.get(name, "")
    there = tmp_path / "random-v0" / f"there{suffix}"
    ran = run("convert", cartpole, "--to", name, "--out", there, *OPTIONS.get(name, ()))
    assert ran.code == 0, ran.err
    assert f"12 episodes, {traces.total_steps} steps" in ran.out
    ran = run("convert", there, "--from", name, "--to", "trace", "--out", tmp_path / "back")
    assert ran.code == 0, ran.err
    back = open_traces(tmp_path / "back")
    assert back.total_steps == traces.total_steps
    firsts = {tuple(np.float32(each.obs[0])) for each in traces}
    assert {tuple(np.float32(each.obs[0]).ravel()) for each in back} == firsts


def test_what_is_lost_is_counted(run: Run, cartpole: Path, tmp_path: Path) -> None:
    found = run("convert", cartpole, "--to", "d3rlpy", "--out", tmp_path / "one.h5", "--json").json
    assert found["is_lossless"] is False
    assert found["last_observations"] == 12
    assert "lost: 12 last observations" in run("convert", cartpole, "--to", "d3rlpy", "--out", tmp_path / "b.h5").out


def test_some_episodes(run: Run, cartpole: Path, tmp_path: Path) -> None:
    options = ("--episodes", "0-7", "--where", "env < 2")
    found = run("convert", cartpole, "--to", "npz", "--out", tmp_path / "some.npz", *options, "--json").json
    assert found["episodes"] == 4


def test_sb3_loads_the_replay_buffer(run: Run, cartpole: Path, traces: TraceDataset, tmp_path: Path) -> None:
    assert run("convert", cartpole, "--to", "sb3", "--out", tmp_path / "buffer.pkl").code == 0
    model = DQN("MlpPolicy", "CartPole-v1", buffer_size=10, device="cpu")
    model.load_replay_buffer(str(tmp_path / "buffer.pkl"))
    assert model.replay_buffer is not None
    assert model.replay_buffer.size() == traces.total_steps
