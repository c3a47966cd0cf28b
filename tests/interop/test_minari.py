"""Minari data sets: written without Minari, read by it, and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from vecrollout import TraceWriter, Trajectory, TrajectoryBatch, TrajectoryWithRew, open_traces
from vecrollout.testing import assert_same

pytest.importorskip("h5py")

from vecrollout.interop.minari import from_minari, to_minari

CARTPOLE = gym.make("CartPole-v1")
SPACES = CARTPOLE.observation_space, CARTPOLE.action_space


def episode(steps: int, seed: int = 0, **flags: bool) -> TrajectoryWithRew:
    generator = np.random.default_rng(seed)
    flags = flags or {"terminated": True, "truncated": False}
    return TrajectoryWithRew(
        obs=generator.normal(size=(steps + 1, 4)).astype(np.float32),
        acts=generator.integers(0, 2, steps),
        rews=np.ones(steps, np.float32),
        infos=None,
        terminal=any(flags.values()),
        **flags,
    )


def assert_equal(found: Trajectory, expected: Trajectory) -> None:
    """Bits, dtypes and flags; infos and identities aside."""
    for name in ("obs", "acts", "rews", "terminal", "terminated", "truncated"):
        assert_same(getattr(found, name), getattr(expected, name), name)


@pytest.mark.parametrize("given_as", ["list", "iterator", "batch", "dataset"])
def test_takes_everything_that_holds_trajectories(given_as: str, tmp_path: Path) -> None:
    episodes = [episode(3), episode(1, terminated=False, truncated=True), episode(5, terminated=True, truncated=True)]
    forms: dict[str, Any] = {
        "list": episodes,
        "iterator": iter(episodes),
        "batch": TrajectoryBatch.from_trajectories(episodes),
    }
    if given_as == "dataset":
        with TraceWriter(tmp_path / "traces", spaces=SPACES, env_spec=gym.spec("CartPole-v1").to_json()) as writer:
            writer.extend(episodes)
        forms["dataset"] = open_traces(tmp_path / "traces")
    spaces = None if given_as == "dataset" else SPACES
    report = to_minari(forms[given_as], tmp_path / "cartpole-v0", spaces=spaces)
    assert repr(report) == "<ConversionReport Minari: 3 episodes, 9 steps>"
    assert report.is_lossless
    with from_minari(tmp_path / "cartpole-v0") as found:
        assert len(found) == 3
        for each, expected in zip(found, episodes, strict=True):
            assert_equal(each, expected)
        assert (found.observation_space, found.action_space) == SPACES
        assert (found.env_spec is not None) == (given_as == "dataset")
