"""Minari data sets: Minari itself reads them, and its own are read."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces as kinds
from trajectories import assert_equal, endings, episode

from vecrollout import Episode, TraceWriter, TrajectoryWithRew, open_traces
from vecrollout.errors import DamagedTraceError, MissingDependencyError, OptionError, StructureError
from vecrollout.testing import assert_same

pytest.importorskip("h5py")

from vecrollout.interop.minari import from_minari, to_minari

SPEC = gym.spec("CartPole-v1")
SPACES = kinds.Box(-np.inf, np.inf, (4,), np.float32), kinds.Discrete(2)


def with_infos(infos: list[dict[str, Any]], reset_info: dict[str, Any] | None = None) -> TrajectoryWithRew:
    plain = episode(len(infos))
    return TrajectoryWithRew(**{**vars(plain), "infos": infos, "episode": Episode(reset_info=reset_info, seed=7)})


def test_spaces_and_environment_are_those_of_the_trace(tmp_path: Path) -> None:
    with TraceWriter(tmp_path / "traces", spaces=SPACES, env_spec=SPEC.to_json()) as writer:
        writer.extend(endings())
    report = to_minari(open_traces(tmp_path / "traces"), tmp_path / "cartpole-v0")
    assert report.is_lossless
    with from_minari(tmp_path / "cartpole-v0") as found:
        assert (found.observation_space, found.action_space) == SPACES
        assert json.loads(found.env_spec or "")["id"] == "CartPole-v1"


def test_infos(tmp_path: Path) -> None:
    """Entries that all steps have, with the reset's before them."""
    infos: list[dict[str, Any]] = [
        {"x": float(t), "pair": np.array([t, t]), "name": "ü", "inner": {"n": t}, "flag": True} for t in range(3)
    ]
    last = {**infos[-1], "episode": {"r": 1.0}}
    report = to_minari([with_infos([*infos[:-1], last], {"x": -1.0})], tmp_path / "a-v0", spaces=SPACES)
    assert report.infos == 1
    with from_minari(tmp_path / "a-v0") as found:
        (back,) = found
    assert back.infos is not None
    for t, info in enumerate(back.infos):
        assert info.keys() == infos[t].keys()
        assert (info["x"], info["name"], info["inner"], info["flag"]) == (float(t), "ü", {"n": t}, True)
        np.testing.assert_array_equal(info["pair"], [t, t])
    assert back.episode.reset_info is not None
    assert back.episode.reset_info["x"] == -1.0
    assert back.episode.seed == 7


def test_infos_of_other_forms_are_left_out(tmp_path: Path) -> None:
    infos = [{"mixed": 1, "none": None, "a/b": 1.0, "big": 2**70}, {"mixed": "x", "none": None, "a/b": 1.0, "big": 1}]
    report = to_minari([with_infos(infos)], tmp_path / "a-v0", spaces=SPACES)
    assert report.infos == 2
    with from_minari(tmp_path / "a-v0") as found:
        assert found[0].infos is None


def test_spaces_have_to_be_known(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"spaces: expected .* pass spaces="):
        to_minari([episode(3)], tmp_path / "a-v0")
    assert list(tmp_path.iterdir()) == []


def test_spaces_that_minari_lacks(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="Minari has no others"):
        to_minari([episode(3)], tmp_path / "a-v0", spaces=(kinds.Sequence(kinds.Discrete(2)), SPACES[1]))


@pytest.mark.parametrize("name", ["cartpole", "cartpole-v", "cart pole-v0", "-v0/x"])
def test_names_that_minari_refuses(name: str, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="dataset_id: expected a name with a version"):
        to_minari([episode(3)], tmp_path / "a-v0", spaces=SPACES, dataset_id=name)


def test_metadata_that_json_lacks(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="metadata: expected what JSON can hold"):
        to_minari([episode(3)], tmp_path / "a-v0", spaces=SPACES, metadata={"x": object()})


def test_keys_that_are_no_names(tmp_path: Path) -> None:
    obs = {"a/b": np.zeros((3, 1))}
    bad = TrajectoryWithRew(obs=obs, acts=np.zeros(2), rews=np.zeros(2), infos=None, terminal=True)  # type: ignore[arg-type]
    with pytest.raises(StructureError, match="text without slashes"):
        to_minari([bad], tmp_path / "a-v0", spaces=SPACES)
    assert list(tmp_path.iterdir()) == []


def test_no_such_data_set(tmp_path: Path) -> None:
    with pytest.raises(DamagedTraceError, match="expected a Minari data set, there is none"):
        from_minari(tmp_path)


def test_arrow_data_sets_are_refused(tmp_path: Path) -> None:
    (tmp_path / "metadata.json").write_text(json.dumps({"data_format": "arrow"}))
    with pytest.raises(OptionError, match="in HDF5, got one in 'arrow'"):
        from_minari(tmp_path)


@pytest.mark.parametrize(
    "metadata",
    [
        {"total_episodes": -1},
        {"total_episodes": 1, "observation_space": '{"type": "Odd"}', "action_space": "{}"},
        {"total_episodes": 1, "observation_space": "[", "action_space": "{}"},
    ],
)
def test_damaged_metadata(metadata: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "metadata.json").write_text(json.dumps(metadata))
    with pytest.raises(DamagedTraceError):
        from_minari(tmp_path)


def test_jpeg_needs_pillow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    space = kinds.Box(0, 255, (40, 40, 3), np.uint8)
    one = TrajectoryWithRew(np.zeros((3, 40, 40, 3), np.uint8), np.zeros(2, int), None, True, rews=np.zeros(2))
    to_minari([one], tmp_path / "data-v0", spaces=(space, kinds.Discrete(2)))
    path = tmp_path / "data-v0" / "data" / "metadata.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "jpeg_encoding": True}))
    monkeypatch.setitem(sys.modules, "PIL", None)
    with from_minari(tmp_path / "data-v0") as found, pytest.raises(MissingDependencyError, match="pip install pillow"):
        found[0]


def test_an_episode_that_is_missing(tmp_path: Path) -> None:
    to_minari([episode(3)], tmp_path / "a-v0", spaces=SPACES)
    about = tmp_path / "a-v0" / "data" / "metadata.json"
    about.write_text(json.dumps({**json.loads(about.read_text()), "total_episodes": 2}))
    with from_minari(tmp_path / "a-v0") as found, pytest.raises(DamagedTraceError, match="episode 1"):
        found[1]


class TestReadByMinari:
    """By the real library."""

    @pytest.fixture
    def minari(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
        pytest.importorskip("PIL", reason="Minari needs Pillow, which it does not declare")
        monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
        return pytest.importorskip("minari")

    def test_load_sample_and_recover(self, minari: Any, tmp_path: Path) -> None:
        episodes = endings()
        to_minari(
            episodes,
            tmp_path / "cartpole" / "random-v0",
            spaces=SPACES,
            env_spec=SPEC,
            metadata={"author": "me", "description": "Random actions.", "requirements": ["numpy>=1"]},
        )
        assert list(minari.list_local_datasets()) == ["cartpole/random-v0"]
        dataset = minari.load_dataset("cartpole/random-v0")
        assert (dataset.observation_space, dataset.action_space) == SPACES
        assert (dataset.total_episodes, dataset.total_steps) == (4, sum(map(len, episodes)))
        assert dataset.storage.metadata["author"] == {"me"}
        for found, expected in zip(dataset.iterate_episodes(), episodes, strict=True):
            assert_same(found.observations, expected.obs)
            assert_same(found.actions, expected.acts)
            assert_same(found.rewards, expected.rews)
            flags = np.arange(len(expected)) == len(expected) - 1
            assert_same(found.terminations, flags & expected.terminated)
            assert_same(found.truncations, flags & expected.truncated)
            assert "infos=" in repr(found)
        assert len(dataset.sample_episodes(3)) == 3
        env = dataset.recover_environment()
        assert env.spec.id == "CartPole-v1"
        env.close()
        assert dataset.filter_episodes(lambda each: bool(each.terminations[-1])).total_steps == 2 + 4

    def test_an_episode_of_200_000_steps(self, minari: Any, tmp_path: Path) -> None:
        """Minari's Arrow storage would cut it off."""
        long = episode(200_000)
        to_minari([long, episode(3)], tmp_path / "long-v0", spaces=SPACES)
        dataset = minari.MinariDataset(tmp_path / "long-v0" / "data")
        assert_same(dataset[0].observations, long.obs)
        assert len(dataset[0]) == 200_000
        assert len(dataset[1]) == 3
        with from_minari(tmp_path / "long-v0") as found:
            assert_equal(found[0], long)

    def test_images_are_what_they_were(self, minari: Any, tmp_path: Path) -> None:
        spaces = kinds.Dict({"camera": kinds.Box(0, 255, (32, 48, 3), np.uint8)}), kinds.Discrete(2)
        images = np.random.default_rng(0).integers(0, 256, (4, 32, 48, 3), np.uint8)
        one = TrajectoryWithRew(
            obs={"camera": images},  # type: ignore[arg-type]
            acts=np.zeros(3, int),
            rews=np.zeros(3),
            infos=None,
            terminal=True,
        )
        to_minari([one], tmp_path / "images-v0", spaces=spaces)
        assert_same(minari.load_dataset("images-v0")[0].observations["camera"], images)
        with from_minari(tmp_path / "images-v0") as found:
            assert_equal(found[0], one)

    def test_more_episodes_can_be_added(self, minari: Any, tmp_path: Path) -> None:
        to_minari([episode(3)], tmp_path / "a-v0", spaces=SPACES)
        dataset = minari.load_dataset("a-v0")
        more = episode(5)
        buffer = minari.data_collector.EpisodeBuffer(
            observations=more.obs,
            actions=more.acts,
            rewards=more.rews,
            terminations=np.arange(5) == 4,
            truncations=np.zeros(5, bool),
            infos={},
        )
        dataset.update_dataset_from_buffer([buffer])
        assert [len(each) for each in minari.load_dataset("a-v0")] == [3, 5]

    @pytest.mark.filterwarnings("ignore::UserWarning")
    @pytest.mark.parametrize("jpeg", [False, True])
    def test_its_own_data_sets_are_read(self, jpeg: bool, minari: Any, tmp_path: Path) -> None:
        space = kinds.Tuple((kinds.Box(0, 255, (32, 32, 3), np.uint8), kinds.Text(5)))
        images = np.zeros((3, 32, 32, 3), np.uint8) + np.arange(3, dtype=np.uint8)[:, None, None, None] * 9
        buffer = minari.data_collector.EpisodeBuffer(
            seed=5,
            observations=(list(images), ["a", "b", "ü"]),
            actions=[0, 1],
            rewards=[0.5, 1.5],
            terminations=[False, False],
            truncations=[False, True],
            infos={"x": [0.0, 1.0, 2.0]},
        )
        theirs = minari.create_dataset_from_buffers(
            "theirs-v0", [buffer], observation_space=space, action_space=kinds.Discrete(2), jpeg_encoding=jpeg
        )
        with from_minari(tmp_path / "theirs-v0") as found:
            (ours,) = found
        assert_same(ours.obs.get(0), theirs[0].observations[0])
        assert list(ours.obs.get(1)) == ["a", "b", "ü"]
        assert_same(ours.rews, np.array([0.5, 1.5]))  # type: ignore[attr-defined]
        assert (ours.terminated, ours.truncated, ours.episode.seed) == (False, True, 5)
        assert ours.episode.reset_info == {"x": 0.0}
        assert list(ours.infos) == [{"x": 1.0}, {"x": 2.0}]  # type: ignore[arg-type]
