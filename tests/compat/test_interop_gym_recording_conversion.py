"""One call from recordings in gym-recording's format to traces, and one back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from openai_recordings import Steps, Version, of_space, play, record, steps_of

from vecrollout import Episode, TraceWriter, Trajectory, TrajectoryWithRew, open_traces, verify_traces
from vecrollout.errors import ArgumentTypeError, DamagedTraceError
from vecrollout.interop.gym_recording import GymRecordingReader, from_gym_recording, to_gym_recording
from vecrollout.testing import SPACES, assert_same


@pytest.mark.parametrize("version", ["npy", "raw"])
@pytest.mark.parametrize("name", SPACES)
def test_from_a_recording(name: str, version: Version, tmp_path: Path) -> None:
    (tmp_path / "recording").mkdir()
    lengths = [3, 40, 1]
    record(tmp_path / "recording", [steps_of(name, steps, 7) for steps in lengths], version)
    assert from_gym_recording(tmp_path / "recording", tmp_path / "traces") == 3
    assert list(open_traces(tmp_path / "traces")) == [of_space(name, steps, 7) for steps in lengths]
    assert verify_traces(tmp_path / "traces").ok


@pytest.mark.parametrize("name", SPACES)
def test_there_and_back(name: str, tmp_path: Path) -> None:
    written = [of_space(name, steps, 9) for steps in (2, 70, 1)]
    with TraceWriter(tmp_path / "traces") as writer:
        for each in written:
            writer.append(each)
    assert to_gym_recording(tmp_path / "traces", tmp_path / "recording") == 3
    assert [len(each["observations"]) for each in play(tmp_path / "recording")] == [3, 71, 2]
    for found, expected in zip(GymRecordingReader(tmp_path / "recording").trajectories(), written, strict=True):
        assert_same((found.obs, found.acts, found.rews), (expected.obs, expected.acts, expected.rews))
    from_gym_recording(tmp_path / "recording", tmp_path / "again")
    assert list(open_traces(tmp_path / "again")) == written


def test_episodes_that_change_in_dtype_or_shape(tmp_path: Path) -> None:
    """Several recorders share a directory, and an environment may begin without frames."""
    (tmp_path / "recording").mkdir()
    frame = {"vision": np.ones((2, 2, 3), np.uint8)}
    kinds = [[None, frame], [frame, frame], [frame, frame], [np.zeros(3), np.ones(3)], [np.zeros(4), np.ones(4)]]
    record(tmp_path / "recording", [Steps(items, [0], [1.0]) for items in kinds])
    assert from_gym_recording(tmp_path / "recording", tmp_path / "traces") == 5
    obs = [each.obs for each in open_traces(tmp_path / "traces")]
    assert_same(list(obs[0]), kinds[0])
    assert_same(obs[2], {"vision": np.ones((2, 2, 2, 3), np.uint8)})
    assert_same(obs[3:], [np.array(items) for items in kinds[3:]])


def test_what_was_read_before_the_damage_is_kept(tmp_path: Path) -> None:
    (tmp_path / "recording").mkdir()
    record(tmp_path / "recording", [steps_of("box", 2, number) for number in range(5)])
    (tmp_path / "recording" / "openaigym.trace.0.4711.ep000000002.json").write_text("{")
    with pytest.raises(DamagedTraceError, match="ep000000002"):
        from_gym_recording(tmp_path / "recording", tmp_path / "traces")
    assert list(open_traces(tmp_path / "traces")) == [of_space("box", 2, number) for number in range(2)]


def test_an_empty_recording(tmp_path: Path) -> None:
    (tmp_path / "recording").mkdir()
    assert from_gym_recording(tmp_path / "recording", tmp_path / "traces") == 0
    assert to_gym_recording(tmp_path / "traces", tmp_path / "back") == 0
    assert play(tmp_path / "back") == []


def test_fragments_of_an_episode_are_joined(tmp_path: Path) -> None:
    whole = of_space("dict", 6)

    def part(start: int, stop: int, number: int) -> TrajectoryWithRew:
        obs: Any = whole.obs
        return TrajectoryWithRew(
            obs[start : stop + 1],
            whole.acts[start:stop],
            None,
            False,
            rews=whole.rews[start:stop],
            episode=Episode(number, start_step=start),
        )

    with TraceWriter(tmp_path / "traces") as writer:
        for each in (part(0, 2, 0), part(0, 3, 1), part(2, 3, 0), part(4, 6, 1), part(3, 6, 0)):
            writer.append(each)
    assert to_gym_recording(tmp_path / "traces", tmp_path / "recording") == 3
    expected = [whole, part(0, 3, 1), part(4, 6, 1)]
    for found, each in zip(GymRecordingReader(tmp_path / "recording").trajectories(), expected, strict=True):
        assert_same((found.obs, found.acts, found.rews), (each.obs, each.acts, each.rews))


def test_traces_without_rewards(tmp_path: Path) -> None:
    with TraceWriter(tmp_path / "traces") as writer:
        writer.append(Trajectory(np.zeros(3), np.zeros(2), None, False))
    with pytest.raises(ArgumentTypeError, match="rewards"):
        to_gym_recording(tmp_path / "traces", tmp_path / "recording")
