"""`vecrollout plot` and `video`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import gymnasium as gym
import numpy as np
import pytest

from vecrollout import TraceDataset, TraceWriter, TrajectoryWithRew, open_traces

if TYPE_CHECKING:
    from conftest import Run


def decoded(path: Path) -> tuple[list[Any], float]:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        rate = float(stream.average_rate or 0)
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)], rate


def test_plot(run: Run, cartpole: Path, tmp_path: Path) -> None:
    assert run("plot", cartpole, "--out", tmp_path / "all.png").code == 0
    assert (tmp_path / "all.png").read_bytes()[:4] == b"\x89PNG"
    assert run("plot", cartpole, "returns", "actions", "--out", tmp_path / "two.svg").code == 0
    assert b"<svg" in (tmp_path / "two.svg").read_bytes()


@pytest.mark.parametrize("suffix", ["mp4", "gif"])
def test_a_video_of_recorded_frames(run: Run, tmp_path: Path, suffix: str) -> None:
    ran = run("record", "CartPole-v1", "--frames", "--episodes", 1, "--seed", 1, "--out", tmp_path / "trace")
    assert ran.code == 0
    (trajectory,) = open_traces(tmp_path / "trace")
    video = tmp_path / f"episode.{suffix}"
    assert run("video", tmp_path / "trace", "--out", video).code == 0
    frames, rate = decoded(video)
    assert rate == pytest.approx(gym.make("CartPole-v1").metadata["render_fps"])
    expected = [trajectory.infos[0]["first_frame"], *(info["frame"] for info in trajectory.infos)]
    for frame, recorded in zip(frames, expected, strict=True):
        assert np.abs(frame.astype(int) - recorded).mean() < 3


def test_a_video_of_a_replay(run: Run, cartpole: Path, traces: TraceDataset, tmp_path: Path) -> None:
    assert run("video", cartpole, "--episode", 5, "--fps", 10, "--out", tmp_path / "replay.mp4").code == 0
    frames, rate = decoded(tmp_path / "replay.mp4")
    assert (len(frames), rate) == (len(traces[5]) + 1, 10)


@pytest.mark.parametrize("shape", [(9, 7, 3), (9, 7, 4), (4, 9, 7), (9, 7)])
def test_a_video_of_images(run: Run, tmp_path: Path, shape: tuple[int, ...]) -> None:
    obs = np.full((4, *shape), 200, np.uint8)
    with TraceWriter(tmp_path / "trace") as writer:
        writer.append(TrajectoryWithRew(obs, np.zeros(3), None, True, rews=np.ones(3)))
    assert run("video", tmp_path / "trace", "--out", tmp_path / "images.mp4").code == 0
    frames, _ = decoded(tmp_path / "images.mp4")
    assert len(frames) == 4
    assert frames[0].shape == (10, 8, 3), "sides of H.264 are even"
    assert np.abs(frames[0].astype(int) - 200).max() < 10


def test_a_failed_video_leaves_nothing(run: Run, cartpole: Path, tmp_path: Path) -> None:
    assert "the recording has none" in run("video", cartpole, "--source", "frames", "--out", tmp_path / "x.mp4").error
    assert "images" in run("video", cartpole, "--source", "obs", "--out", tmp_path / "x.mp4").error
    assert list(tmp_path.iterdir()) == []
