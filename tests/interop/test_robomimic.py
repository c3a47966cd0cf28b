"""Files for robomimic, read by the real library's data loader."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from trajectories import endings, episode

from vecrollout import DictObs, TrajectoryWithRew

pytest.importorskip("h5py")
pytest.importorskip("robomimic", reason="robomimic is not installed")

import h5py
from robomimic.utils import dataset, obs_utils

from vecrollout.interop.robomimic import to_robomimic


def loaded(path: Path, keys: list[str]) -> Any:
    obs_utils.initialize_obs_modality_mapping_from_dict({"low_dim": keys})
    return dataset.SequenceDataset(
        str(path),
        obs_keys=keys,
        dataset_keys=("actions", "rewards", "dones"),
        hdf5_cache_mode="all",
        hdf5_use_swmr=False,
        load_next_obs=True,
    )


def test_sequences(tmp_path: Path) -> None:
    episodes = endings()
    to_robomimic(episodes, tmp_path / "data.hdf5")
    found = loaded(tmp_path / "data.hdf5", ["flat"])
    steps = [(each, t) for each in episodes for t in range(len(each))]
    assert len(found) == len(steps)
    for item, (each, t) in zip([found[i] for i in range(len(found))], steps, strict=True):
        np.testing.assert_array_equal(item["obs"]["flat"][0], each.obs[t])
        np.testing.assert_array_equal(item["next_obs"]["flat"][0], each.obs[t + 1])
        assert item["rewards"][0] == each.rews[t]
        assert item["dones"][0] == (each.terminal and t == len(each) - 1)


def test_metadata(tmp_path: Path) -> None:
    plain = episode(3)
    obs = DictObs({"a": plain.obs, "b": plain.obs[:, :2]})
    one = TrajectoryWithRew(**{**vars(plain), "obs": obs, "acts": np.zeros((3, 2))})
    to_robomimic([one], tmp_path / "data.hdf5", env_args={"env_name": "Lift", "type": 1, "env_kwargs": {"x": 1}})
    with h5py.File(tmp_path / "data.hdf5") as file:
        # As `robomimic.utils.file_utils.get_env_metadata_from_dataset` reads it, which needs torchvision.
        assert json.loads(file["data"].attrs["env_args"])["env_kwargs"] == {"x": 1}
    assert len(loaded(tmp_path / "data.hdf5", ["a", "b"])) == 3
