"""RLlib's offline data: written without Ray, read by RLlib, and back."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces as kinds
from hypothesis import given, settings
from hypothesis import strategies as st
from trajectories import alike, assert_equal, endings, episode, without_empty

from vecrollout import DictObs, Trajectory, TrajectoryWithRew
from vecrollout.errors import (
    ArgumentTypeError,
    DamagedTraceError,
    MissingDependencyError,
    OptionError,
    ShapeError,
    StructureError,
)
from vecrollout.testing import assert_same
from vecrollout.testing import strategies as ours

pytest.importorskip("pyarrow")

from vecrollout.interop.rllib import from_rllib, to_rllib

SPACES = ours.leaf_spaces().filter(without_empty)
needs_rllib = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed")


@given(data=st.data())
@settings(max_examples=30)
def test_there_and_back(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    _, episodes = data.draw(alike(SPACES, SPACES))
    path = tmp_path_factory.mktemp("rllib") / "data"
    report = to_rllib(episodes, path)
    assert (report.fragments, report.both_flags, report.last_observations, report.dtypes) == (0, 0, 0, {})
    for each, expected in zip(from_rllib(path), episodes, strict=True):
        assert_equal(each, expected)
        assert each.episode.start_step == expected.episode.start_step


@given(data=st.data())
@settings(max_examples=30)
def test_episodes_there_and_back(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    pytest.importorskip("msgpack")
    _, episodes = data.draw(alike(SPACES, SPACES))
    path = tmp_path_factory.mktemp("rllib") / "data"
    report = to_rllib(episodes, path, form="episodes")
    assert report.fragments == sum(not each.terminal or each.episode.start_step > 0 for each in episodes)
    for each, expected in zip(from_rllib(path), episodes, strict=True):
        assert_equal(each, expected, flags=False)
        assert each.terminated == expected.terminated
        # A fragment's end counts as a cut.
        assert each.truncated == (expected.truncated or not expected.terminated)
        assert each.episode.start_step == expected.episode.start_step


def test_damaged_episodes(tmp_path: Path) -> None:
    msgpack = pytest.importorskip("msgpack")
    import pyarrow as pa
    from pyarrow import parquet

    objects = {b"nd": True, b"type": "|O", b"kind": b"O", b"shape": [1], b"data": b"cos\nsystem\n"}
    for item in (b"", b"\xc1", msgpack.packb({}), msgpack.packb({"observations": objects}), msgpack.packb([[[]]])):
        parquet.write_table(pa.table({"item": [item]}), tmp_path / "data.parquet")
        with pytest.raises(DamagedTraceError, match="episode 0: expected an episode of RLlib"):
            from_rllib(tmp_path)


def test_episodes_need_a_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    to_rllib([episode(2)], tmp_path / "data", form="episodes")
    monkeypatch.setitem(sys.modules, "msgpack", None)
    with pytest.raises(MissingDependencyError, match="pip install msgpack"):
        from_rllib(tmp_path / "data")


def test_bad_input(tmp_path: Path) -> None:
    one = episode(2)
    with pytest.raises(OptionError, match="form"):
        to_rllib([one], tmp_path / "data", form="rows")  # type: ignore[arg-type]
    with pytest.raises(ArgumentTypeError, match="rewards"):
        to_rllib([Trajectory(one.obs, one.acts, None, terminal=True)], tmp_path / "data")
    with pytest.raises(StructureError, match="obs"):
        to_rllib([TrajectoryWithRew(**{**vars(one), "obs": DictObs({"a": one.obs})})], tmp_path / "data")
    with pytest.raises(ShapeError):
        to_rllib([], tmp_path / "data")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(DamagedTraceError, match="there is none"):
        from_rllib(tmp_path)


@needs_rllib
@pytest.mark.filterwarnings("ignore")
def test_rllib_reads_episodes(tmp_path: Path) -> None:
    msgpack = pytest.importorskip("msgpack")
    numpy_hook = pytest.importorskip("msgpack_numpy").decode
    from pyarrow import parquet
    from ray.rllib.env.single_agent_episode import SingleAgentEpisode

    report = to_rllib(endings(), tmp_path / "data", form="episodes")
    assert report.fragments == 1
    items = parquet.read_table(tmp_path / "data" / "data.parquet")["item"].to_pylist()
    for item, expected in zip(items, endings(), strict=True):
        found = SingleAgentEpisode.from_state(msgpack.unpackb(item, object_hook=numpy_hook))
        assert found.is_done
        assert found.is_terminated == expected.terminated
        for name, array in (("observations", expected.obs), ("actions", expected.acts), ("rewards", expected.rews)):
            assert_same(getattr(found, name).data, array)


@needs_rllib
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("is_numpy", [True, False])
def test_episodes_that_rllib_wrote(is_numpy: bool, tmp_path: Path) -> None:
    msgpack = pytest.importorskip("msgpack")
    numpy_hook = pytest.importorskip("msgpack_numpy").encode
    import pyarrow as pa
    from pyarrow import parquet
    from ray.rllib.env.single_agent_episode import SingleAgentEpisode

    items = []
    for expected in endings():
        theirs = SingleAgentEpisode(
            observations=list(expected.obs),
            actions=list(expected.acts),
            rewards=list(expected.rews),
            terminated=expected.terminated,
            truncated=expected.truncated,
            len_lookback_buffer=0,
        )
        # As `ray.rllib.offline.offline_env_runner` writes them.
        state = (theirs.to_numpy() if is_numpy else theirs).get_state()
        items.append(msgpack.packb(state, default=numpy_hook))
    parquet.write_table(pa.table({"item": items}), tmp_path / "data.parquet")
    for each, expected in zip(from_rllib(tmp_path), endings(), strict=True):
        assert_equal(each, expected)


@needs_rllib
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("form", ["columns", "episodes"])
def test_bc_trains_from_it(form: Any, tmp_path: Path) -> None:
    import ray
    from ray.rllib.algorithms.bc import BCConfig

    if form == "episodes":
        pytest.importorskip("msgpack_numpy")
    rng = np.random.default_rng(0)

    def one() -> TrajectoryWithRew:
        obs = rng.normal(size=(51, 4)).astype(np.float32)
        return TrajectoryWithRew(
            obs, (obs[:-1, 2] > 0).astype(np.int64), None, terminal=True, rews=np.ones(50, np.float32)
        )

    to_rllib([one() for _ in range(40)], tmp_path / "data", form=form)
    # BC's pipeline hangs with fewer logical CPUs.
    ray.init(address="local", num_cpus=8, include_dashboard=False)
    try:
        config = (
            BCConfig()
            .environment(observation_space=kinds.Box(-np.inf, np.inf, (4,), np.float32), action_space=kinds.Discrete(2))
            .env_runners(num_env_runners=0)
            .training(train_batch_size_per_learner=256, lr=3e-3)
            .offline_data(
                input_=[str(tmp_path / "data")],
                input_read_episodes=form == "episodes",
                input_read_batch_size=20 if form == "episodes" else None,
                dataset_num_iters_per_learner=1,
            )
        )
        algorithm = config.build()
        losses = [algorithm.train()["learners"]["default_policy"]["policy_loss"] for _ in range(20)]
        algorithm.stop()
    finally:
        ray.shutdown()
    assert losses[-1] < 0.8 * losses[0]
