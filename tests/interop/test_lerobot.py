"""LeRobot data sets: written without LeRobot, read by it, and back."""

from __future__ import annotations

import importlib
import importlib.util
import io
import json
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces as kinds
from hypothesis import given, settings
from hypothesis import strategies as st
from trajectories import alike, assert_equal, endings, episode, without_empty

from vecrollout import DictObs, TrajectoryWithRew
from vecrollout.errors import (
    ArgumentTypeError,
    DamagedTraceError,
    DtypeError,
    MissingDependencyError,
    OptionError,
    ShapeError,
    StructureError,
)
from vecrollout.testing import assert_same
from vecrollout.testing import strategies as ours

pytest.importorskip("pyarrow")

from vecrollout.data.png import decoded, encoded
from vecrollout.interop.lerobot import from_lerobot, to_lerobot

IMAGES = kinds.Dict(
    {
        "camera": kinds.Box(0, 255, (6, 5, 3), np.uint8),
        "first": kinds.Box(0, 255, (1, 7, 8), np.uint8),
        "arm": kinds.Tuple((kinds.Discrete(3), kinds.Box(-1, 1, (1,), np.float64))),
    }
)
SPACES = st.one_of(ours.nested_spaces().filter(without_empty), st.just(IMAGES))


@given(data=st.data())
@settings(max_examples=30)
def test_there_and_back(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    _, episodes = data.draw(alike(SPACES, ours.leaf_spaces().filter(without_empty)))
    path = tmp_path_factory.mktemp("lerobot") / "data"
    report = to_lerobot(episodes, path, fps=32)
    assert report.fragments == sum(each.episode.start_step > 0 for each in episodes)
    assert report.last_observations == 0
    assert not report.dtypes
    with from_lerobot(path) as found:
        assert len(found) == len(episodes)
        for each, expected in zip(found, episodes, strict=True):
            assert_equal(each, expected)


@given(st.data())
@settings(max_examples=30)
def test_images_keep_their_bits(data: st.DataObject) -> None:
    shape = data.draw(st.integers(1, 9)), data.draw(st.integers(1, 9)), data.draw(st.integers(1, 4))
    image = data.draw(ours.batches(kinds.Box(0, 255, shape, np.uint8), 1))[0]
    assert_same(decoded(encoded(image), "image"), image)


def test_pillow_reads_our_images() -> None:
    image = pytest.importorskip("PIL.Image")
    rng = np.random.default_rng(0)
    for channels in (1, 2, 3, 4):
        pixels = rng.integers(0, 256, (20, 31, channels), np.uint8)
        found = np.asarray(image.open(io.BytesIO(encoded(pixels))))
        assert_same(found.reshape(pixels.shape), pixels)
        other = io.BytesIO()
        image.fromarray(pixels.squeeze()).save(other, "png")
        assert_same(decoded(other.getvalue(), "image"), pixels)


def test_last_observations_can_be_left_out(tmp_path: Path) -> None:
    report = to_lerobot([episode(4)], tmp_path / "data", fps=30, final="drop")
    assert repr(report) == "<ConversionReport LeRobot: 1 episodes, 4 steps; lost: 1 last observations>"
    with from_lerobot(tmp_path / "data") as found, pytest.raises(ShapeError, match="pass drop_last=True"):
        found[0]
    with from_lerobot(tmp_path / "data", drop_last=True) as found:
        assert_same(found[0].obs, episode(4).obs[:-1])
        assert_same(found[0].acts, episode(4).acts[:-1])
        assert found[0].episode.ended_by is None


def test_frames_have_times_that_lerobot_accepts(tmp_path: Path) -> None:
    long = episode(200_000)
    with pytest.raises(OptionError, match=r"fps: expected more than 50 for an episode of 200000 steps"):
        to_lerobot([long], tmp_path / "data", fps=50)
    assert not (tmp_path / "data").exists()
    to_lerobot([long], tmp_path / "data", fps=1000)
    with from_lerobot(tmp_path / "data") as found:
        assert_equal(found[0], long)


def test_several_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vecrollout.interop.lerobot.writing._DATA_BYTES", 1)
    to_lerobot(endings(), tmp_path / "data", fps=30)
    assert len(list((tmp_path / "data" / "data").glob("*/*.parquet"))) == 4
    with from_lerobot(tmp_path / "data") as found:
        for each, expected in zip(found, endings(), strict=True):
            assert_equal(each, expected)


def test_each_episode_has_a_row_group(tmp_path: Path) -> None:
    from pyarrow import parquet

    to_lerobot(endings(), tmp_path / "data", fps=30)
    file = parquet.ParquetFile(tmp_path / "data" / "data" / "chunk-000" / "file-000.parquet")
    groups = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
    assert groups == [len(each) for each in endings()]


def test_what_pandas_and_statistics_say(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    episodes = endings()
    to_lerobot(episodes, tmp_path / "data", fps=30, task="balance", robot_type="cart")
    tasks = pandas.read_parquet(tmp_path / "data" / "meta" / "tasks.parquet")
    assert tasks.index.tolist() == ["balance"]
    assert tasks["task_index"].tolist() == [0]
    info = json.loads((tmp_path / "data" / "meta" / "info.json").read_text())
    assert (info["total_frames"], info["total_episodes"], info["robot_type"]) == (14, 4, "cart")
    stats = json.loads((tmp_path / "data" / "meta" / "stats.json").read_text())
    steps = np.concatenate([each.obs[:-1] for each in episodes]).astype(np.float64)
    for name in ("min", "max", "mean", "std"):
        np.testing.assert_allclose(stats["observation.state"][name], getattr(steps, name)(axis=0), rtol=1e-6)
    assert stats["observation.state"]["count"] == [14]


CAMERAS = kinds.Dict(
    {
        "camera": kinds.Box(0, 255, (6, 5, 3), np.uint8),
        "first": kinds.Box(0, 255, (3, 7, 8), np.uint8),
        "gray": kinds.Box(0, 255, (4, 4, 1), np.uint8),
        "state": kinds.Box(-1, 1, (2,), np.float32),
    }
)


@given(data=st.data())
@settings(max_examples=15)
def test_lossless_videos_keep_their_bits(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    pytest.importorskip("av")
    _, episodes = data.draw(alike(st.just(CAMERAS), st.just(kinds.Discrete(2))))
    path = tmp_path_factory.mktemp("lerobot") / "data"
    assert to_lerobot(episodes, path, fps=30, video="lossless").others == {}
    assert len(list((path / "videos").rglob("*.mp4"))) == 2
    with from_lerobot(path) as found:
        for each, expected in reversed(list(zip(found, episodes, strict=True))):
            assert_equal(each, expected)


def with_camera(steps: int, shape: tuple[int, int], seed: int = 0) -> TrajectoryWithRew:
    """A bright square that moves over a dark ground."""
    frames = np.full((steps + 1, *shape, 3), 30, np.uint8)
    for number, frame in enumerate(frames):
        frame[8:24, (seed + 2 * number) % 16 + 4 :][:, :16] = 200, 180, 160
    plain = episode(steps, seed)
    return TrajectoryWithRew(**{**vars(plain), "obs": DictObs({"camera": frames, "state": plain.obs})})


@pytest.mark.parametrize("shape", [(40, 48), (41, 47)])
def test_lossy_videos_look_alike_and_are_reported(shape: tuple[int, int], tmp_path: Path) -> None:
    pytest.importorskip("av")
    episodes = [with_camera(20, shape), with_camera(9, shape, 5)]
    report = to_lerobot(episodes, tmp_path / "data", fps=10, video="lossy")
    assert report.others == {"frames compressed with loss": 29}
    with from_lerobot(tmp_path / "data") as found:
        for each, expected in zip(found, episodes, strict=True):
            pixels, kept = (one.obs.get("camera").astype(int) for one in (each, expected))
            assert np.abs(pixels - kept).mean() < 4
            assert_same(each.obs.get("state"), expected.obs.get("state"))
            # The last observation is an image beside the video.
            assert_same(each.obs.get("camera")[-1], expected.obs.get("camera")[-1])


def test_videos_in_several_files(tmp_path: Path) -> None:
    pytest.importorskip("av")
    # A frame a second: times beyond 512 s get another file.
    episodes = [with_camera(200, (32, 32), seed) for seed in range(4)]
    to_lerobot(episodes, tmp_path / "data", fps=1, video="lossless")
    assert len(list((tmp_path / "data" / "videos").rglob("*.mp4"))) == 2
    with from_lerobot(tmp_path / "data") as found:
        for number in (3, 0, 2, 1):
            assert_equal(found[number], episodes[number])


def test_damaged_videos(tmp_path: Path) -> None:
    pytest.importorskip("av")
    to_lerobot([with_camera(20, (32, 32)), with_camera(20, (32, 32))], tmp_path / "data", fps=10, video="lossless")
    (video,) = (tmp_path / "data" / "videos").rglob("*.mp4")
    content = video.read_bytes()
    for damaged in (b"", content[: len(content) // 2], b"junk" * 100, None):
        video.unlink()
        if damaged is not None:
            video.write_bytes(damaged)
        with from_lerobot(tmp_path / "data") as found, pytest.raises(DamagedTraceError):
            found[1]


def test_bad_videos(tmp_path: Path) -> None:
    pytest.importorskip("av")
    with pytest.raises(OptionError, match='video: expected None, "lossless" or "lossy"'):
        to_lerobot([episode(3)], tmp_path / "data", fps=30, video="mp4")  # type: ignore[arg-type]
    assert to_lerobot([episode(3)], tmp_path / "data", fps=30, video="lossy").is_lossless  # has no images
    info = json.loads((tmp_path / "data" / "meta" / "info.json").read_text())
    assert info["video_path"] is None


def test_missing_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = TrajectoryWithRew(np.zeros((3, 20, 30, 3), np.uint8), np.zeros(2), None, True, rews=np.zeros(2))
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(MissingDependencyError, match=r"av.*vecrollout\[video\]"):
        to_lerobot([images], tmp_path / "data", fps=30, video="lossless")
    assert list(tmp_path.iterdir()) == []
    # Images that others have encoded.
    image = pytest.importorskip("PIL.Image")
    other = io.BytesIO()
    image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(other, "png")
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(MissingDependencyError, match="pip install pillow"):
        decoded(other.getvalue(), "image")


@pytest.mark.parametrize("fps", [0, -1, 2.5, True, "30"])
def test_bad_fps(fps: Any, tmp_path: Path) -> None:
    with pytest.raises((OptionError, ArgumentTypeError), match="fps"):
        to_lerobot([episode(3)], tmp_path / "data", fps=fps)


def test_bad_arrays(tmp_path: Path) -> None:
    def of(obs: Any) -> TrajectoryWithRew:
        return TrajectoryWithRew(obs, np.zeros(2), None, terminal=True, rews=np.zeros(2))

    for bad, error, message in (
        (np.array(["a", "b", "c"], object), DtypeError, "real numbers"),
        (np.zeros((3, 0)), ShapeError, "elements"),
        (np.zeros((3, 1, 1, 1, 1, 1, 1)), ShapeError, "dimensions"),
        (DictObs({"a.b": np.zeros(3), "a": {"b": np.zeros(3)}}), StructureError, "same name|two that become"),
    ):
        with pytest.raises(error, match=message):
            to_lerobot([of(bad)], tmp_path / "data", fps=30)
    with pytest.raises(ArgumentTypeError, match="task"):
        to_lerobot([episode(2)], tmp_path / "data", fps=30, task=3)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_damaged_data_sets(tmp_path: Path) -> None:
    to_lerobot(endings(), tmp_path / "data", fps=30)
    data = tmp_path / "data" / "data" / "chunk-000" / "file-000.parquet"
    meta = tmp_path / "data" / "meta"
    data.write_bytes(data.read_bytes()[:-50])
    with from_lerobot(tmp_path / "data") as found, pytest.raises(DamagedTraceError, match="episode 1"):
        found[1]
    info = json.loads((meta / "info.json").read_text())
    (meta / "info.json").write_text(json.dumps({**info, "codebase_version": "v2.1"}))
    with pytest.raises(OptionError, match=r"v2\.1"):
        from_lerobot(tmp_path / "data")
    for text in ("{", "[]", json.dumps({**info, "features": 3}), json.dumps({**info, "features": {"action": {}}})):
        (meta / "info.json").write_text(text)
        with pytest.raises(DamagedTraceError):
            from_lerobot(tmp_path / "data")
    with pytest.raises(DamagedTraceError, match="there is none"):
        from_lerobot(tmp_path)


@pytest.fixture
def lerobot() -> Any:
    """The module of LeRobot's data sets."""
    if importlib.util.find_spec("lerobot") is None:
        pytest.skip("LeRobot is not installed")
    # A torchvision that was not built for the installed torch lacks operators that are not used here.
    sys.modules.setdefault("torchvision._meta_registrations", types.ModuleType("torchvision._meta_registrations"))
    return importlib.import_module("lerobot.datasets.lerobot_dataset")


@pytest.mark.filterwarnings("ignore")
def test_lerobot_reads_it(lerobot: Any, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)

    def one(steps: int, terminated: bool) -> TrajectoryWithRew:
        obs = {
            "camera": rng.integers(0, 256, (steps + 1, 40, 50, 3), np.uint8),
            "first": rng.integers(0, 256, (steps + 1, 3, 36, 36), np.uint8),
            "grid": rng.normal(size=(steps + 1, 2, 3)),
            "level": np.arange(steps + 1),
        }
        flags = {"terminated": terminated, "truncated": not terminated}
        return TrajectoryWithRew(
            DictObs(obs), rng.normal(size=(steps, 2)), None, terminal=True, rews=rng.normal(size=steps), **flags
        )

    episodes = [one(5, True), one(1, False), one(7, True)]
    to_lerobot(episodes, tmp_path / "data", fps=30, task="push")
    dataset = lerobot.LeRobotDataset("me/data", root=tmp_path / "data")
    assert (dataset.num_episodes, len(dataset)) == (3, 13)
    frame = 0
    for number, each in enumerate(episodes):
        for step in range(len(each)):
            item = dataset[frame]
            frame += 1
            assert (item["episode_index"], item["frame_index"], item["task"]) == (number, step, "push")
            assert item["next.terminated"].item() == (each.terminated and step == len(each) - 1)
            np.testing.assert_allclose(item["action"].numpy(), each.acts[step], rtol=1e-6)
            np.testing.assert_allclose(item["observation.grid"].numpy(), each.obs.get("grid")[step], rtol=1e-6)
            for key in ("camera", "first"):
                pixels = (item[f"observation.images.{key}"].numpy() * 255).round().astype(np.uint8)
                expected = each.obs.get(key)[step]
                assert_same(pixels, expected if key == "first" else np.ascontiguousarray(np.moveaxis(expected, 2, 0)))
    windows = lerobot.LeRobotDataset("me/data", root=tmp_path / "data", delta_timestamps={"action": [0, 1 / 30]})
    assert windows[5]["action_is_pad"].tolist() == [False, True]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("video", ["lossless", "lossy"])
def test_lerobot_reads_videos(video: Any, lerobot: Any, tmp_path: Path) -> None:
    pytest.importorskip("av")
    episodes = [with_camera(20, (40, 48), seed) for seed in range(3)]
    to_lerobot(episodes, tmp_path / "data", fps=30, video=video)
    try:
        dataset = lerobot.LeRobotDataset("me/data", root=tmp_path / "data", video_backend="pyav")
        dataset[0]
    except AttributeError as error:
        pytest.skip(f"this LeRobot does not read videos with this torchvision: {error}")
    frame = 0
    for each in episodes:
        for step in range(len(each)):
            pixels = dataset[frame]["observation.images.camera"].numpy() * 255
            frame += 1
            difference = np.abs(np.moveaxis(pixels, 0, 2) - each.obs.get("camera")[step])
            assert difference.max() < 0.01 if video == "lossless" else difference.mean() < 4
    assert frame == len(dataset)


@pytest.mark.filterwarnings("ignore")
def test_videos_that_lerobot_recorded_are_read(lerobot: Any, tmp_path: Path) -> None:
    pytest.importorskip("av")
    features = {
        "observation.images.camera": {"dtype": "video", "shape": (64, 96, 3), "names": ["height", "width", "channels"]},
        "action": {"dtype": "float32", "shape": (2,), "names": None},
    }
    theirs = lerobot.LeRobotDataset.create("me/own", 10, features, root=tmp_path / "own", use_videos=True)
    for number in range(3):
        for step in range(8):
            pixels = np.full((64, 96, 3), 20 * step + 10 * number, np.uint8)
            frame = {"observation.images.camera": pixels, "action": np.full(2, step, np.float32), "task": "wait"}
            theirs.add_frame(frame)
        theirs.save_episode()
    theirs.finalize()
    with from_lerobot(tmp_path / "own", drop_last=True) as found:
        for number, each in enumerate(found):
            brightness = each.obs.get("images.camera").mean(axis=(1, 2, 3))
            np.testing.assert_allclose(brightness, 20 * np.arange(8) + 10 * number, atol=4)


@pytest.mark.filterwarnings("ignore")
def test_what_lerobot_recorded_is_read(lerobot: Any, tmp_path: Path) -> None:
    features = {
        "observation.state": {"dtype": "float32", "shape": (3,), "names": None},
        "observation.image": {"dtype": "image", "shape": (20, 30, 3), "names": ["height", "width", "channels"]},
        "action": {"dtype": "float32", "shape": (2,), "names": None},
    }
    theirs = lerobot.LeRobotDataset.create("me/own", 10, features, root=tmp_path / "own", use_videos=False)
    for number in range(3):
        for step in range(4):
            frame = {
                "observation.state": np.full(3, 10 * number + step, np.float32),
                "observation.image": np.full((20, 30, 3), step, np.uint8),
                "action": np.full(2, step, np.float32),
                "task": "wait",
            }
            theirs.add_frame(frame)
        theirs.save_episode()
    theirs.finalize()
    with from_lerobot(tmp_path / "own", drop_last=True) as found:
        assert len(found) == 3
        assert found[2].obs.get("state")[:, 0].tolist() == [20, 21, 22, 23]
        assert found[2].obs.get("image")[:, 0, 0, 0].tolist() == [0, 1, 2, 3]
        assert found[2].acts[:, 1].tolist() == [0, 1, 2]
