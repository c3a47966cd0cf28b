"""`vecrollout.compat.gym_recording`: programs written for gym-recording record and play back."""

from __future__ import annotations

import importlib
import inspect
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from openai_recordings import Steps, of_space, play, record, steps_of

from vecrollout import Episode, TraceWriter, Trajectory, open_traces
from vecrollout.compat.gym_recording.playback import TraceRecordingReader, scan_recorded_traces
from vecrollout.compat.gym_recording.recording import FileFormat, TraceRecording
from vecrollout.compat.gym_recording.wrappers import TraceRecordingWrapper
from vecrollout.errors import DamagedTraceError, DtypeError, OptionError, ProtocolError, ShapeError, TraceWriteError
from vecrollout.interop.gym_recording import GymRecordingReader, GymRecordingWriter
from vecrollout.testing import SPACES, CountingEnv, EpisodeScript, assert_same, element_of

FORMATS: list[FileFormat] = ["vecrollout", "gym_recording"]


def played(directory: Path, **options: Any) -> list[Any]:
    episodes: list[Any] = []
    scan_recorded_traces(directory, lambda *arrays: episodes.append(arrays), **options)
    return episodes


@pytest.mark.parametrize(
    ("module", "name", "parameters"),
    [
        ("wrappers", "TraceRecordingWrapper", ["env", "directory"]),
        ("recording", "TraceRecording", ["directory"]),
        ("recording", "TraceRecording.add_reset", ["self", "observation"]),
        ("recording", "TraceRecording.add_step", ["self", "action", "observation", "reward"]),
        ("recording", "TraceRecording.end_episode", ["self"]),
        ("recording", "TraceRecording.save_complete", ["self"]),
        ("recording", "TraceRecording.close", ["self"]),
        ("playback", "scan_recorded_traces", ["directory", "episode_cb", "max_episodes"]),
        ("playback", "TraceRecordingReader", ["directory"]),
        ("playback", "TraceRecordingReader.get_recorded_batches", ["self"]),
        ("playback", "TraceRecordingReader.get_recorded_episodes", ["self", "batch"]),
        ("playback", "TraceRecordingReader.close", ["self"]),
        ("storage_s3", "upload_recording", ["directory", "env_name", "bucket"]),
        ("storage_s3", "download_recording", ["s3url"]),
    ],
)
def test_every_public_name_takes_the_same_arguments(module: str, name: str, parameters: list[str]) -> None:
    found = importlib.import_module(f"vecrollout.compat.gym_recording.{module}")
    assert name.partition(".")[0] in found.__all__
    for part in name.split("."):
        found = getattr(found, part)
    positional = [
        each.name for each in inspect.signature(found).parameters.values() if each.kind is each.POSITIONAL_OR_KEYWORD
    ]
    assert positional == parameters


class TestWrapper:
    @pytest.mark.parametrize("file_format", FORMATS)
    @pytest.mark.parametrize("space", SPACES)
    def test_plays_what_happened(self, space: str, file_format: FileFormat, tmp_path: Path) -> None:
        lengths = [3, 1, 5]
        env = TraceRecordingWrapper(
            CountingEnv(space, [EpisodeScript(steps) for steps in lengths], reuse_obs=True),
            tmp_path / "new",
            file_format=file_format,
        )
        assert env.directory == tmp_path / "new"
        for steps in lengths:
            env.reset()
            for action in range(steps):
                env.step(np.int64(action))
        env.reset()  # an episode without a step
        env.close()
        found = played(env.directory)
        assert len(found) == len(lengths)
        for steps, (observations, actions, rewards) in zip(lengths, found, strict=True):
            expected = [element_of(SPACES[space], t) for t in range(steps + 1)]
            assert_same(_with_arrays(list(observations)), _with_arrays(expected))
            assert_same(actions, np.arange(steps))
            assert_same(rewards, np.arange(steps) + 1.5)

    def test_the_traces_know_how_episodes_ended_and_the_other_format_does_not(self, tmp_path: Path) -> None:
        for file_format in FORMATS:
            env = TraceRecordingWrapper(
                CountingEnv("box", [EpisodeScript(2, "truncated")]), tmp_path / file_format, file_format=file_format
            )
            env.reset(seed=4)
            for _ in range(2):
                env.step(env.action_space.sample())
            env.close()
        (trace,) = open_traces(tmp_path / "vecrollout")
        assert (trace.truncated, trace.episode.seed, trace.episode.ended_by) == (True, 4, "truncated")
        (recorded,) = GymRecordingReader(tmp_path / "gym_recording").trajectories()
        assert (recorded.truncated, recorded.episode) == (False, Episode(id=0))

    def test_openai_plays_it(self, tmp_path: Path) -> None:
        env = TraceRecordingWrapper(gym.make("CartPole-v1"), tmp_path, file_format="gym_recording")
        expected = []
        for seed in range(3):
            observations, rewards, done = [env.reset(seed=seed)[0]], [], False
            while not done:
                obs, reward, terminated, truncated, _ = env.step(1)
                done = terminated or truncated
                observations.append(obs)
                rewards.append(reward)
            expected.append((observations, rewards))
        env.close()
        for episode, (observations, rewards) in zip(play(tmp_path), expected, strict=True):
            assert_same(episode["observations"], np.array(observations))
            assert_same(episode["actions"], np.ones(len(rewards), int))
            assert_same(episode["rewards"], np.array(rewards))

    def test_a_fresh_directory(self) -> None:
        first, second = (TraceRecordingWrapper(CountingEnv(), file_format="gym_recording") for _ in range(2))
        assert first.directory.is_dir()
        assert first.directory != second.directory
        for each in (first, second):
            each.close()
            each.directory.rmdir()

    def test_filters(self, tmp_path: Path) -> None:
        env = TraceRecordingWrapper(
            CountingEnv("box", [EpisodeScript(6)]),
            tmp_path,
            file_format="gym_recording",
            episode_filter=lambda episode: episode != 1,
            frame_filter=lambda step: step not in (2, 3),
            batch_bytes=1,
        )
        for _ in range(3):
            env.reset()
            for _ in range(6):
                env.step(env.action_space.sample())
        env.close()
        assert [len(rewards) for _, _, rewards in played(tmp_path)] == [2, 2, 2, 2]
        assert len(GymRecordingReader(tmp_path).batches) == 4

    @pytest.mark.parametrize("file_format", FORMATS)
    def test_filters_by_position(self, file_format: FileFormat, tmp_path: Path) -> None:
        """As the wrapper outside of `compat` takes them."""
        env = TraceRecordingWrapper(
            CountingEnv("box", [EpisodeScript(6)]),
            tmp_path,
            lambda episode: episode == 1,
            lambda step: step < 4,
            [1.5],
            file_format=file_format,
        )
        for _ in range(2):
            env.reset()
            for _ in range(6):
                env.step(env.action_space.sample())
        env.close()
        assert [len(rewards) for _, _, rewards in played(tmp_path)] == [4]

    def test_options_are_checked(self, tmp_path: Path) -> None:
        with pytest.raises(OptionError, match="file_format"):
            TraceRecordingWrapper(CountingEnv(), tmp_path, file_format="pickle")  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="compression"):
            TraceRecordingWrapper(CountingEnv(), tmp_path, file_format="gym_recording", compression=None)


def _with_arrays(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: _with_arrays(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return type(tree)(map(_with_arrays, tree))
    return np.asarray(tree)


CHILD = """
import os, signal, sys
import gymnasium as gym
from vecrollout.compat.gym_recording.wrappers import TraceRecordingWrapper
from vecrollout.compat.gym_recording.recording import TraceRecording

ending, *formats = sys.argv[1:]
opened = []
for file_format in formats:
    env = TraceRecordingWrapper(gym.make("CartPole-v1"), file_format, file_format=file_format)
    recording = TraceRecording(file_format, file_format=file_format)
    env.reset(seed=0)
    recording.add_reset([0.0])
    for step in range(3):
        env.step(step % 2)
        recording.add_step(0, [1.0], 0.5)
    opened += [env, recording]
if ending == "SIGTERM":
    print("ready", flush=True)
    signal.pause()
"""


@pytest.mark.parametrize("ending", ["exit", "SIGTERM"])
def test_running_episodes_are_written_at_the_end_of_the_process(ending: str, tmp_path: Path) -> None:
    if ending == "SIGTERM" and os.name != "posix":
        pytest.skip("signals end processes on POSIX only")
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD, ending, *FORMATS],
        stdout=subprocess.PIPE,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    if ending == "SIGTERM":
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGTERM)
    process.communicate()
    assert process.returncode == (143 if ending == "SIGTERM" else 0)
    for file_format in FORMATS:
        assert sorted(len(rewards) for _, _, rewards in played(tmp_path / file_format)) == [3, 3]


@pytest.mark.parametrize("file_format", FORMATS)
def test_a_flush_writes_the_finished_episodes(file_format: Any, tmp_path: Path) -> None:
    env = TraceRecordingWrapper(CountingEnv(episodes=[EpisodeScript(3)]), tmp_path, file_format=file_format)
    for _ in range(2):
        env.reset()
        for _ in range(3):
            env.step(0)
    env.flush()
    assert [len(rewards) for _, _, rewards in played(tmp_path)] == [3, 3]
    env.close()
    with pytest.raises(ProtocolError, match="open"):
        env.flush()


class TestRecording:
    def test_an_episode_that_could_not_be_written_is_written_once(self, tmp_path: Path) -> None:
        recording = TraceRecording(tmp_path, file_format="gym_recording")
        image = np.zeros(6_000_000, np.uint8)  # more than a batch holds
        recording.add_reset(image)
        recording.add_step(0, image, 0.5)
        tmp_path.rmdir()
        with pytest.raises(TraceWriteError):
            recording.end_episode()
        tmp_path.mkdir()
        recording.close()
        assert [len(rewards) for _, _, rewards in played(tmp_path)] == [1]

    @pytest.mark.parametrize("file_format", FORMATS)
    def test_records(self, file_format: FileFormat, tmp_path: Path) -> None:
        recording = TraceRecording(tmp_path / "new", file_format=file_format)
        image = np.zeros((2, 2), np.uint8)
        recording.add_reset(image)
        for step in range(3):
            image[:] = step + 1  # the environment fills one array again and again
            recording.add_step(step, image, np.float32(step / 2))
        recording.add_reset(image)
        recording.add_reset(image)
        image[:] = 9
        recording.add_step(7, image, np.array([1], np.float32))
        recording.close()
        recording.close()
        assert recording.closed
        first, second = played(tmp_path / "new")
        assert_same(first[0], np.stack([np.full((2, 2), t, np.uint8) for t in range(4)]))
        assert_same(first[1:], (np.arange(3), np.array([0, 0.5, 1], np.float32)))
        assert_same(second[0], np.stack([np.full((2, 2), t, np.uint8) for t in (3, 9)]))
        assert_same(second[1:], (np.array([7]), np.array([1], np.float32)))

    def test_how_an_episode_ended(self, tmp_path: Path) -> None:
        recording = TraceRecording(tmp_path)
        endings = [(False, False), (True, False), (False, True), (True, True)]
        for terminated, truncated in endings:
            recording.add_reset(0.0)
            recording.add_step(0, 1.0, 0.0)
            recording.add_step(0, 1.0, 0.0, terminated=terminated, truncated=truncated)
        recording.close()
        found = open_traces(tmp_path)
        assert [(each.terminated, each.truncated) for each in found] == endings
        assert [each.episode.ended_by for each in found] == [None, "terminated", "truncated", "terminated"]
        assert [each.episode.id for each in found] == [0, 1, 2, 3]

    @pytest.mark.parametrize("file_format", FORMATS)
    def test_save_complete_makes_ended_episodes_durable(self, file_format: FileFormat, tmp_path: Path) -> None:
        recording = TraceRecording(tmp_path, file_format=file_format)
        for _ in range(2):
            recording.add_reset({"x": 0.0})
            recording.add_step((1, 2.0), {"x": 1.0}, 0)
        recording.save_complete()
        (episode,) = played(tmp_path)
        assert_same(_with_arrays(episode[0]), [{"x": np.array(0.0)}, {"x": np.array(1.0)}])
        assert_same(_with_arrays(episode[1]), [(np.array(1), np.array(2.0))])
        recording.end_episode()
        recording.save_complete()
        assert len(played(tmp_path)) == 2
        recording.close()

    @pytest.mark.parametrize("file_format", FORMATS)
    def test_steps_that_are_not_alike(self, file_format: FileFormat, tmp_path: Path) -> None:
        observations: list[Any] = [[None], [{"text": ["a"], "vision": np.ones((2, 2), np.uint8)}], None]
        recording = TraceRecording(tmp_path, file_format=file_format)
        recording.add_reset(observations[0])
        for observation in observations[1:]:
            recording.add_step([["key", True]], observation, 1)
        recording.close()
        assert_same(played(tmp_path)[0][0], observations)

    def test_what_does_not_fit_is_refused(self, tmp_path: Path) -> None:
        recording = TraceRecording(tmp_path)
        with pytest.raises(ProtocolError, match="add_reset"):
            recording.add_step(0, 0.0, 0.0)
        recording.add_reset(0.0)
        with pytest.raises(ShapeError, match="2"):
            recording.add_step(0, 0.0, [1.0, 2.0])
        with pytest.raises(DtypeError):
            recording.add_step(0, 0.0, "much")
        with pytest.raises(TypeError, match="pickle"):
            recording.add_step(5, threading.Lock(), 0.0)
        recording.add_step(0, 1.0, 1.0)
        recording.close()
        assert_same(played(tmp_path), [(np.array([0.0, 1.0]), np.array([0]), np.array([1.0]))])
        for call in (recording.save_complete, lambda: recording.add_reset(0), lambda: recording.add_step(0, 0, 0)):
            with pytest.raises(ProtocolError, match="closed"):
                call()
        with pytest.raises(OptionError, match="file_format"):
            TraceRecording(tmp_path, file_format="pickle")  # type: ignore[arg-type]

    def test_a_fresh_directory(self) -> None:
        recording = TraceRecording(file_format="gym_recording")
        recording.close()
        recording.directory.rmdir()


class TestPlayback:
    def test_both_formats_in_one_directory(self, tmp_path: Path) -> None:
        record(tmp_path, [steps_of("box", steps) for steps in (1, 2, 3)])
        for steps in (6, 7):
            with TraceWriter(tmp_path) as traces:
                traces.append(of_space("box", steps))
        with GymRecordingWriter(tmp_path) as writer:
            for steps in (4, 5):
                writer.append(of_space("box", steps))
        found = played(tmp_path)
        assert [len(rewards) for _, _, rewards in found] == [1, 2, 3, 4, 5, 6, 7]
        for steps, arrays in enumerate(found, 1):
            expected = of_space("box", steps)
            assert_same(arrays, (expected.obs, expected.acts, expected.rews))

    @pytest.mark.parametrize("most", range(8))
    def test_max_episodes(self, most: int, tmp_path: Path) -> None:
        record(tmp_path, [steps_of("box", 1)] * 3)
        with TraceWriter(tmp_path) as traces:
            for _ in range(3):
                traces.append(of_space("box", 1))
        assert len(played(tmp_path, max_episodes=most)) == min(most, 6)
        with pytest.raises(OptionError, match="max_episodes"):
            played(tmp_path, max_episodes=-1)

    def test_an_error_of_the_callback_ends_it(self, tmp_path: Path) -> None:
        record(tmp_path, [steps_of("box", 1)] * 3)
        calls = []

        def callback(*arrays: Any) -> None:
            calls.append(arrays)
            raise StopIteration

        with pytest.raises(StopIteration):
            scan_recorded_traces(tmp_path, callback)
        assert len(calls) == 1

    def test_without_a_callback_everything_is_read(self, tmp_path: Path) -> None:
        record(tmp_path, [steps_of("box", 1)] * 3)
        scan_recorded_traces(tmp_path)
        next(tmp_path.glob("*.bin")).write_bytes(b"")
        with pytest.raises(DamagedTraceError):
            scan_recorded_traces(tmp_path)

    def test_an_episode_without_steps(self, tmp_path: Path) -> None:
        record(tmp_path, [Steps([np.zeros(3)], [], [])])
        ((observations, actions, rewards),) = played(tmp_path)
        assert (len(observations), len(actions), len(rewards)) == (1, 0, 0)

    def test_steps_left_out_of_traces(self, tmp_path: Path) -> None:
        """As many observations as actions, those that the actions were taken on."""
        env = TraceRecordingWrapper(CountingEnv("dict", [EpisodeScript(6)]), tmp_path, frame_filter=lambda t: t % 3 < 2)
        for _ in range(2):
            env.reset()
            for action in range(6):
                env.step(np.int64(action))
        env.close()
        for observations, actions, rewards in played(tmp_path):
            assert [int(observation["level"]) for observation in observations] == [0, 1, 3, 4]
            assert_same((actions, rewards), (np.array([0, 1, 3, 4]), np.array([1.5, 2.5, 4.5, 5.5])))
        assert len(played(tmp_path)) == 2

    def test_traces_without_rewards(self, tmp_path: Path) -> None:
        with TraceWriter(tmp_path) as writer:
            writer.append(Trajectory(np.zeros(3), np.zeros(2), None, False))
        assert played(tmp_path)[0][2] is None

    def test_nothing_recorded(self, tmp_path: Path) -> None:
        assert played(tmp_path) == []
        with pytest.raises(DamagedTraceError, match="directory"):
            played(tmp_path / "missing")

    def test_reader(self, tmp_path: Path) -> None:
        record(tmp_path, [steps_of("dict", steps) for steps in (1, 2, 3)])
        with TraceWriter(tmp_path) as traces:
            traces.append(of_space("dict", 4))
        reader = TraceRecordingReader(tmp_path)
        batches = reader.get_recorded_batches()
        assert batches == [
            {"first": 0, "len": 2, "fn": "openaigym.trace.0.4711.ep000000000.json"},
            {"first": 2, "len": 1, "fn": "openaigym.trace.0.4711.ep000000002.json"},
            {"first": 0, "len": 1, "fn": None},
        ]
        (episode,) = reader.get_recorded_episodes(batches[1])
        assert set(episode) == {"observations", "actions", "rewards"}
        reader.close()
        ((last),) = reader.get_recorded_episodes(batches[2])
        assert_same(_with_arrays(last["observations"][:4]), _with_arrays(episode["observations"]))

    def test_openais_recordings_need_no_pyarrow(self, tmp_path: Path) -> None:
        record(tmp_path, [steps_of("box", 1)] * 3)
        code = f"""
import sys
sys.modules["pyarrow"] = None
from vecrollout.compat.gym_recording.playback import scan_recorded_traces
from vecrollout.interop.gym_recording import GymRecordingReader, GymRecordingWriter
with GymRecordingWriter({str(tmp_path)!r}) as writer:
    for trajectory in GymRecordingReader({str(tmp_path)!r}).trajectories():
        writer.append(trajectory)
scan_recorded_traces({str(tmp_path)!r}, lambda *arrays: print("an episode"))
"""
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        ran = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        assert ran.stdout.count("an episode") == 6
