"""Data sets for d3rlpy, read by the real library.

Its wheel replaces the newest Gymnasium by 1.0.0, so the gate has an environment of its own for these tests.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from trajectories import endings, episode

from vecrollout import TrajectoryWithRew

pytest.importorskip("h5py")
pytest.importorskip("d3rlpy", reason="d3rlpy needs an environment of its own")

import d3rlpy

from vecrollout.interop.d3rlpy import from_d3rlpy, to_d3rlpy


def loaded(path: Path) -> Any:
    with path.open("rb") as file:
        return d3rlpy.dataset.ReplayBuffer.load(file, d3rlpy.dataset.InfiniteBuffer())


def transitions(buffer: Any) -> list[Any]:
    pick = d3rlpy.dataset.BasicTransitionPicker()
    return [pick(each, i) for each in buffer.episodes for i in range(each.transition_count)]


@pytest.mark.parametrize("final", ["append", "drop"])
def test_every_transition(final: Literal["append", "drop"], tmp_path: Path) -> None:
    """With "append" all of them, with "drop" all but the last of episodes that did not terminate."""
    episodes = endings()
    to_d3rlpy(episodes, tmp_path / "data.h5", final=final)
    buffer = loaded(tmp_path / "data.h5")
    expected = []
    for each in episodes:
        held = len(each) - (final == "drop" and not each.terminated)
        for t in range(held):
            is_end = each.terminated and t == len(each) - 1
            following = np.zeros(4, np.float32) if is_end else each.obs[t + 1]
            expected.append((each.obs[t], each.acts[t], each.rews[t], following, float(is_end)))
    assert buffer.transition_count == len(expected)
    for found, (obs, act, rew, following, terminal) in zip(transitions(buffer), expected, strict=True):
        np.testing.assert_array_equal(found.observation, obs)
        np.testing.assert_array_equal(found.next_observation, following)
        assert (found.action[0], found.reward[0], found.terminal) == (act, rew, terminal)
    assert buffer.dataset_info.action_space == d3rlpy.ActionSpace.DISCRETE


def test_tuples(tmp_path: Path) -> None:
    obs: Any = (np.arange(8.0, dtype=np.float32).reshape(4, 2), np.arange(12, dtype=np.uint8).reshape(4, 3))
    one = TrajectoryWithRew(obs=obs, acts=np.ones((3, 2)), rews=np.ones(3), infos=None, terminal=True, truncated=True)
    to_d3rlpy([one], tmp_path / "data.h5")
    (found,) = loaded(tmp_path / "data.h5").episodes
    for part, expected in zip(found.observations, obs, strict=True):
        np.testing.assert_array_equal(part, expected)


def test_what_d3rlpy_wrote(tmp_path: Path) -> None:
    plain = episode(5)
    theirs = d3rlpy.dataset.Episode(plain.obs[:-1], plain.acts[:, None], plain.rews[:, None], True)
    with (tmp_path / "data.h5").open("w+b") as file:
        d3rlpy.dataset.dump([theirs], file)
    (ours,) = from_d3rlpy(tmp_path / "data.h5")
    np.testing.assert_array_equal(ours.obs[:-1], plain.obs[:-1])
    np.testing.assert_array_equal(ours.obs[-1], np.zeros(4))
    np.testing.assert_array_equal(ours.acts, plain.acts)
    (dropped,) = from_d3rlpy(tmp_path / "data.h5", drop_last=True)
    assert (len(dropped), dropped.terminal) == (4, False)


def test_dqn_trains_on_it(tmp_path: Path) -> None:
    to_d3rlpy([episode(40, seed) for seed in range(3)], tmp_path / "data.h5")
    dqn = d3rlpy.algos.DQNConfig(batch_size=8).create(device="cpu:0")
    dqn.fit(
        loaded(tmp_path / "data.h5"),
        n_steps=4,
        n_steps_per_epoch=4,
        show_progress=False,
        logger_adapter=d3rlpy.logging.NoopAdapterFactory(),
    )
