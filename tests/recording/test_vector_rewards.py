"""Rewards that are vectors: several objectives, or one an agent."""

from __future__ import annotations

import dataclasses
import importlib.util

import gymnasium as gym
import numpy as np
import pyarrow.ipc
import pytest
import torch
from custom_vector_env import CustomVectorEnv, with_final_obs
from custom_venv import CustomVecEnv

from vecrollout import (
    BufferingEnvWrapper,
    BufferingWrapper,
    TraceWriter,
    TrajectoryBatch,
    TrajectoryWithRew,
    VectorBufferingWrapper,
    discounted_sum,
    flatten_trajectories_with_rew,
    open_traces,
    record_traces,
    rollout_stats,
)
from vecrollout.errors import ShapeError
from vecrollout.interop.gym_recording import GymRecordingWriter
from vecrollout.testing import CountingEnv, EpisodeScript, Scenario, assert_same

SCENARIO = Scenario()
CALLS = 13
WEIGHTS = np.array([1.0, -2.0, 0.5])


def of_vectors(rews):
    return np.asarray(rews)[:, None] * WEIGHTS.astype(np.asarray(rews).dtype)


def vec_env():
    return CustomVecEnv(SCENARIO.env_fns(), lambda step: (step[0], of_vectors(step[1]), *step[2:]))


def vector_env(convert=np.asarray):
    def alter(step):
        step[1] = convert(of_vectors(step[1]))
        return with_final_obs()(step)

    return CustomVectorEnv(SCENARIO.env_fns(), alter=alter)


def run(recorder):
    recorder.reset()
    for call in range(CALLS):
        recorder.step(SCENARIO.actions(call))


def assert_recorded(trajectories, dtype, **options):
    expected = SCENARIO.recorded(0, CALLS, **options)
    for trajectory, each in zip(trajectories, expected, strict=True):
        assert_same(trajectory.obs, each.obs)
        assert_same(trajectory.rews, of_vectors(each.rews.astype(dtype)))


def test_of_a_vec_env():
    recorder = BufferingWrapper(vec_env())
    run(recorder)
    assert_recorded(recorder.pop_trajectories()[0], np.float32)


@pytest.mark.parametrize(
    "convert", [np.asarray, torch.from_numpy, lambda rews: [*rews]], ids=["numpy", "torch", "list"]
)
def test_of_a_vector_env(convert):
    recorder = VectorBufferingWrapper(vector_env(convert), autoreset_mode="same_step")
    run(recorder)
    state = recorder.state_dict()
    assert_recorded(recorder.pop_trajectories()[0], np.float64)
    recorder.load_state_dict(state)
    transitions = recorder.pop_transitions()
    assert_same(transitions.rews, np.concatenate([of_vectors(each.rews) for each in SCENARIO.recorded(0, CALLS)]))


def single(rew):
    class Vectors(CountingEnv):
        def step(self, action):
            obs, _, *rest = super().step(action)
            return obs, rew, *rest

    recorder = BufferingEnvWrapper(Vectors(episodes=[EpisodeScript(3)]))
    recorder.reset()
    for _ in range(3):
        recorder.step(0)
    return recorder.pop_trajectories()[0][0].rews


@pytest.mark.parametrize(
    "rew", [np.array([1.0, 2.0]), [1.0, 2.0], (1, 2), torch.tensor([1.0, 2.0], dtype=torch.float64)]
)
def test_of_a_single_environment(rew):
    assert_same(single(rew), np.array([[1.0, 2.0]] * 3))


@pytest.mark.parametrize("rew", [np.array([2.0]), [2.0], np.float64(2), 2, torch.tensor(2.0, dtype=torch.float64)])
def test_one_number_is_no_vector(rew):
    assert_same(single(rew), np.full(3, 2.0))


def test_to_disk(tmp_path):
    for number, (env, dtype, options) in enumerate(
        [(vec_env(), np.float32, {}), (vector_env(), np.float64, {"autoreset_mode": "same_step"})]
    ):
        directory = tmp_path / str(number)
        recorder = record_traces(env, directory, **options)
        run(recorder)
        recorder.close()
        traces = open_traces(directory)
        order = lambda each: (each.episode.env_index, each.episode.id)  # noqa: E731
        expected = sorted(SCENARIO.recorded(0, CALLS, closed=True), key=lambda each: (each.env_index, each.episode))
        for trajectory, each in zip(sorted(traces, key=order), expected, strict=True):
            assert_same(trajectory.rews, of_vectors(each.rews.astype(dtype)))
            assert_same(trajectory.obs, each.obs)
        assert sum(len(batch.rews) for batch in traces.batches()) == sum(map(len, traces))


def trajectory(rews):
    steps = len(rews)
    return TrajectoryWithRew(np.zeros((steps + 1, 2)), np.zeros(steps), None, True, rews=np.asarray(rews))


VECTORS = trajectory([[1.0, 2.0], [3.0, 4.0]])


def test_data_types():
    batch = TrajectoryBatch.from_trajectories([VECTORS, VECTORS])
    assert_same(batch.rews, np.concatenate([VECTORS.rews] * 2))
    assert_same(batch[1].rews, VECTORS.rews)
    assert_same(flatten_trajectories_with_rew([VECTORS, VECTORS]).rews, batch.rews)
    assert_same(discounted_sum(VECTORS.rews, 0.5), np.array([2.5, 4.0]))
    assert trajectory([[1.0, 2.0], [3.0, 4.0]]) == VECTORS
    assert trajectory([1.0, 2.0]) != VECTORS
    with pytest.raises(ShapeError, match="rews"):
        trajectory(np.zeros((2, 2, 2)))


def test_what_needs_numbers_says_so(tmp_path):
    cure = r"expected one reward a step for {}, got shape \(2, 2\).*rews=trajectory\.rews @ weights"
    with pytest.raises(ShapeError, match=cure.format("rollout_stats")):
        rollout_stats([VECTORS])
    with pytest.raises(ShapeError, match=cure.format("gym-recording")), GymRecordingWriter(tmp_path) as recording:
        recording.append(VECTORS)
    if importlib.util.find_spec("imitation"):
        from vecrollout.interop.imitation import to_imitation

        with pytest.raises(ShapeError, match=cure.format("imitation")):
            to_imitation(VECTORS)
    weighted = dataclasses.replace(VECTORS, rews=VECTORS.rews @ np.array([1.0, 0.5]))
    assert rollout_stats([weighted])["return_mean"] == 7.0


def test_balanced_rewards_need_numbers(tmp_path):
    class Vectors(gym.Wrapper):
        def step(self, action):
            obs, rew, *rest = self.env.step(action)
            return obs, [rew, rew], *rest

    recorder = record_traces(Vectors(CountingEnv(episodes=[EpisodeScript(2)])), tmp_path, reward_classes=[0.0, 1.0])
    recorder.reset()
    recorder.step(0)
    with pytest.raises(ShapeError, match="reward_classes"):
        recorder.step(0)
    assert recorder.held == 2
    with pytest.raises(ShapeError, match="reward_classes"):
        recorder.close()


def test_another_width_on_disk(tmp_path):
    """It begins another shard."""
    with TraceWriter(tmp_path) as writer:
        writer.append(VECTORS)
        writer.append(trajectory([1.0, 2.0]))
        writer.append(trajectory(np.ones((3, 3))))
    assert [each.rews.shape for each in open_traces(tmp_path)] == [(2, 2), (2,), (3, 3)]


def test_tables_have_lists(tmp_path):
    """Without this package the rewards are a list in each row, null in the last."""
    with TraceWriter(tmp_path) as writer:
        writer.append(VECTORS)
    (shard,) = tmp_path.glob("**/*.arrow")
    table = pyarrow.ipc.open_file(shard).read_all()
    assert table["reward"].to_pylist() == [[1.0, 2.0], [3.0, 4.0], None]
