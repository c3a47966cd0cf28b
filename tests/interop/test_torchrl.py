"""TorchRL's data: written without torch, read by TorchRL, and back."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trajectories import alike, assert_equal, endings, episode, without_empty

from vecrollout import Trajectory, TrajectoryWithRew
from vecrollout.errors import ArgumentTypeError, DamagedTraceError, DtypeError, MissingDependencyError, ShapeError
from vecrollout.interop.torchrl import from_torchrl, load_torchrl, register_torchrl, to_tensordict, to_torchrl
from vecrollout.testing import assert_same
from vecrollout.testing import strategies as ours


def assert_back(found: Any, expected: TrajectoryWithRew) -> None:
    assert_equal(found, expected, flags=False)
    # The end of a fragment is a truncation.
    flags = expected.terminated, expected.truncated or not expected.terminated
    assert (found.terminated, found.truncated) == flags


@given(data=st.data())
@settings(max_examples=30)
def test_there_and_back(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    spaces = ours.nested_spaces().filter(without_empty), ours.leaf_spaces().filter(without_empty)
    _, episodes = data.draw(alike(*spaces))
    path = tmp_path_factory.mktemp("torchrl") / "data"
    report = to_torchrl(episodes, path)
    assert report.fragments == sum(not each.terminal or each.episode.start_step > 0 for each in episodes)
    assert (report.both_flags, report.last_observations, report.dtypes) == (0, 0, {})
    for each, expected in zip(from_torchrl(path), episodes, strict=True):
        assert_back(each, expected)


def test_flags_have_a_dimension_of_their_own(tmp_path: Path) -> None:
    to_torchrl(endings(), tmp_path / "data")
    steps = sum(map(len, endings()))
    meta = json.loads((tmp_path / "data" / "next" / "meta.json").read_text())
    for name in ("done", "terminated", "truncated", "reward"):
        assert meta[name]["shape"] == [steps, 1]
    done = np.fromfile(tmp_path / "data" / "next" / "done.memmap", bool)
    assert np.flatnonzero(done).tolist() == (np.cumsum([len(each) for each in endings()]) - 1).tolist()


def test_bad_input(tmp_path: Path) -> None:
    one = episode(2)
    with pytest.raises(ArgumentTypeError, match="rewards"):
        to_torchrl([Trajectory(one.obs, one.acts, None, terminal=True)], tmp_path / "data")
    for obs, error in ((np.array(["a"] * 3, object), DtypeError), (np.zeros((3, 0)), ShapeError)):
        with pytest.raises(error):
            to_torchrl([TrajectoryWithRew(obs, one.acts, None, terminal=True, rews=one.rews)], tmp_path / "data")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ArgumentTypeError):
        from_torchrl(3)
    with pytest.raises(DamagedTraceError, match="there is none"):
        from_torchrl(tmp_path)
    with pytest.raises(DamagedTraceError, match="there is none"):
        load_torchrl(tmp_path)


def test_missing_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    to_torchrl(endings(), tmp_path / "data")
    calls: dict[str, Any] = {
        "torchrl": lambda: load_torchrl(tmp_path / "data"),
        "tensordict": lambda: to_tensordict(endings()),
    }
    for name, call in calls.items():
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(MissingDependencyError, match=f"pip install {name}"):
            call()


def test_damaged_directories(tmp_path: Path) -> None:
    to_torchrl(endings(), tmp_path / "data")
    file = tmp_path / "data" / "action.memmap"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(DamagedTraceError, match="action"):
        from_torchrl(tmp_path / "data")
    (tmp_path / "data" / "meta.json").write_text("{}")
    with pytest.raises(DamagedTraceError, match="layout"):
        from_torchrl(tmp_path / "data")


@pytest.mark.filterwarnings("ignore")
def test_torchrl_reads_it(tmp_path: Path) -> None:
    data = pytest.importorskip("torchrl.data")
    tensordict = pytest.importorskip("tensordict")
    from torchrl.data.datasets import load_dataset

    episodes = endings()
    to_torchrl(episodes, tmp_path / "data")
    loaded = tensordict.TensorDict.load_memmap(tmp_path / "data")
    assert (loaded == to_tensordict(episodes)).all()
    for each, expected in zip(from_torchrl(loaded), episodes, strict=True):
        assert_back(each, expected)
    register_torchrl()
    buffer = load_dataset(f"vecrollout:{tmp_path / 'data'}", batch_size=5)
    sample = buffer.sample()
    assert sample["next", "done"].shape == (5, 1)
    assert sample["observation"].shape == (5, 4)
    slices = load_torchrl(tmp_path / "data", 6, sampler=data.SliceSampler(slice_len=2, strict_length=True))
    for _ in range(20):
        drawn = slices.sample().reshape(3, 2)
        assert (drawn["episode"][:, 0] == drawn["episode"][:, 1]).all()
        assert_same(drawn["next", "observation"][:, 0].numpy(), drawn["observation"][:, 1].numpy())
    # In the layout of TorchRL's own collectors.
    from torchrl.collectors.utils import split_trajectories

    split = split_trajectories(to_tensordict(episodes), trajectory_key="episode")
    assert split.batch_size == (4, 5)
