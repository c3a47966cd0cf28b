"""Dtypes that vary from step to step: a column is widened without loss, or cast to the space's dtype."""

from __future__ import annotations

from functools import reduce

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import SyncVectorEnv
from hypothesis import given
from hypothesis import strategies as st
from stable_baselines3.common.vec_env import DummyVecEnv

from vecrollout import BufferingEnvWrapper, BufferingWrapper, VectorBufferingWrapper, open_traces, record_traces
from vecrollout.buffer import Ending, RolloutBuffer
from vecrollout.errors import DtypeError, OptionError, StructureError
from vecrollout.testing import assert_same

BOX = gym.spaces.Box(-9, 9, (2,), np.float32)
DICT = gym.spaces.Dict(a=BOX, b=gym.spaces.Discrete(5))


class Varying(gym.Env):
    """Its reset and its step return the given observations; an episode has three steps."""

    action_space = gym.spaces.Discrete(2)

    def __init__(self, first, later, space=BOX):
        self.first, self.later, self.observation_space = first, later, space

    def reset(self, *, seed=None, options=None):
        self.t = 0
        return self.first, {}

    def step(self, action):
        self.t += 1
        return self.later, 1.0, self.t >= 3, False, {}


FLOAT32, FLOAT64 = np.ones(2, np.float32), np.ones(2)
CASES = {
    "float64, float32": (np.zeros(2), FLOAT32, np.float64),
    "float32, float64": (np.zeros(2, np.float32), FLOAT64, np.float64),
    "int list, float list": ([0, 0], [1.0, 1.0], np.float64),
    "int64, float32": (np.zeros(2, np.int64), FLOAT32, np.float64),
    "int16, float32": (np.zeros(2, np.int16), FLOAT32, np.float32),
    "tuple, array": ((0.0, 0.0), FLOAT32, np.float64),
    "array, tuple": (np.zeros(2, np.float32), (1.0, 1.0), np.float64),
    "bool, uint8": (np.zeros(2, bool), np.ones(2, np.uint8), np.uint8),
    "uint8, int8": (np.zeros(2, np.uint8), np.ones(2, np.int8), np.int16),
    "big, little endian": (np.zeros(2, ">f4"), FLOAT32, np.float32),
}
EXPECTED = np.array([[0, 0], [1, 1], [1, 1], [1, 1]])


@pytest.mark.parametrize("episodes", [1, 3])
@pytest.mark.parametrize("case", CASES)
def test_of_a_single_environment(case, episodes):
    first, later, dtype = CASES[case]
    recorder = BufferingEnvWrapper(Varying(first, later))
    for _ in range(episodes):
        recorder.reset()
        for _ in range(3):
            recorder.step(0)
    trajectories, _ = recorder.pop_trajectories()
    assert len(trajectories) == episodes
    for trajectory in trajectories:
        assert_same(trajectory.obs, EXPECTED.astype(dtype))


@pytest.mark.parametrize("case", CASES)
def test_on_disk(case, tmp_path):
    """All episodes have one dtype, so that they lie in one shard."""
    first, later, dtype = CASES[case]
    recorder = record_traces(Varying(first, later), tmp_path)
    for _ in range(3):
        recorder.reset()
        for _ in range(3):
            recorder.step(0)
    recorder.close()
    trajectories = list(open_traces(tmp_path))
    assert len(trajectories) == 3
    for trajectory in trajectories:
        assert_same(trajectory.obs, EXPECTED.astype(dtype))
    assert len(list(tmp_path.glob("**/*.arrow"))) == 1


@pytest.mark.parametrize("case", CASES)
def test_of_vector_environments(case):
    """Which copy observations into arrays of the space's dtype, but for SB3's last ones."""
    first, later, _ = CASES[case]
    sb3 = BufferingWrapper(DummyVecEnv([lambda: Varying(first, later)]))
    vector = VectorBufferingWrapper(SyncVectorEnv([lambda: Varying(first, later)]))
    for recorder in (sb3, vector):
        recorder.reset()
        for _ in range(3):
            recorder.step(np.array([0]))
        assert_same(recorder.pop_trajectories()[0][0].obs, EXPECTED.astype(np.float32))


@pytest.mark.parametrize("case", CASES)
def test_cast_to_the_space(case, tmp_path):
    first, later, _ = CASES[case]
    recorder = BufferingEnvWrapper(Varying(first, later), cast="space")
    recorder.reset()
    for _ in range(3):
        recorder.step(0)
    assert_same(recorder.pop_trajectories()[0][0].obs, EXPECTED.astype(np.float32))
    writer = record_traces(Varying(first, later), tmp_path, cast="space")
    writer.reset()
    writer.step(0)
    writer.close()
    assert_same(open_traces(tmp_path)[0].obs, EXPECTED[:2].astype(np.float32))


def test_actions_that_vary_on_disk(tmp_path):
    """A scripted expert between a learner's episodes: recording goes on, in a shard with the wider dtype."""
    recorder = record_traces(Varying(FLOAT32, FLOAT32), tmp_path)
    for dtype in (np.float32, np.float64, np.float32):
        recorder.reset()
        for act in (0.1, 0.2, 0.3):
            recorder.step(dtype(act))
    recorder.close()
    values = np.array([0.1, 0.2, 0.3])
    narrow = values.astype(np.float32)
    for trajectory, acts in zip(open_traces(tmp_path), (narrow, values, narrow.astype(np.float64)), strict=True):
        assert_same(trajectory.acts, acts)
    assert len(list(tmp_path.glob("**/*.arrow"))) == 2


def test_entries_of_a_dict():
    """Each has a dtype of its own, and the order of keys is free."""
    env = Varying({"a": np.zeros(2), "b": 0}, {"b": np.int32(1), "a": FLOAT32}, DICT)
    for options, dtypes in (({}, (np.float64, np.int64)), ({"cast": "space"}, (np.float32, np.int64))):
        recorder = BufferingEnvWrapper(env, **options)
        recorder.reset()
        for _ in range(3):
            recorder.step(0)
        (trajectory,), _ = recorder.pop_trajectories()
        assert_same(trajectory.obs, {"a": EXPECTED.astype(dtypes[0]), "b": np.array([0, 1, 1, 1], dtypes[1])})


def test_other_keys_are_refused():
    recorder = BufferingEnvWrapper(Varying({"a": FLOAT32, "b": 0}, {"a": FLOAT32, "b": 1, "debug": 3}, DICT))
    recorder.reset()
    with pytest.raises(StructureError, match="debug"):
        recorder.step(0)


def buffer_of(num_envs=1, shape=(2,), dtype=np.float32, **options):
    buffer = RolloutBuffer(num_envs, **options)
    buffer.reset(np.zeros((num_envs, *shape), dtype))
    return buffer


def step(buffer, acts=0, obs=None, ended=False):
    num_envs = buffer.num_envs
    buffer.act(np.broadcast_to(acts, (num_envs, *np.shape(acts))))
    obs = np.zeros((num_envs, 2), np.float32) if obs is None else obs
    buffer.step(obs, np.ones(num_envs), [{}] * num_envs, [Ending(0, True, False, obs[0])] if ended else ())


class TestActions:
    """A scripted expert mixed with a learner."""

    @pytest.mark.parametrize("first", [0, 1])
    def test_float32_and_float64(self, first):
        buffer = buffer_of()
        values = np.arange(6) / 3
        for i, value in enumerate(values):
            step(buffer, (np.float32, np.float64)[(i + first) % 2](value), ended=i == 3)
        expected = [float((np.float32, np.float64)[(i + first) % 2](value)) for i, value in enumerate(values)]
        state = buffer.state_dict()
        trajectories, _ = buffer.pop_trajectories()
        assert np.concatenate([each.acts for each in trajectories]).tolist() == expected
        assert {each.acts.dtype for each in trajectories} == {np.dtype(np.float64)}
        buffer.load_state_dict(state)
        assert buffer.pop_transitions().acts.tolist() == expected

    def test_int64_and_int32(self):
        buffer = buffer_of()
        for i in range(4):
            step(buffer, (np.int64, np.int32)[i % 2](i))
        assert_same(buffer.pop_transitions().acts, np.arange(4))

    def test_a_loss_is_refused(self):
        """Before the step; the error says both ways out."""
        buffer = buffer_of()
        step(buffer, 2**53 + 1)
        with pytest.raises(
            DtypeError, match=r'acts: expected dtype int64.*got float64.*pop it and reset.*cast="space"'
        ):
            step(buffer, 0.5)
        step(buffer, 3)
        assert buffer.pop_transitions().acts.tolist() == [2**53 + 1, 3]

    def test_integers_too_large_for_floats(self):
        buffer = buffer_of()
        step(buffer, 0.5)
        step(buffer, 7)
        with pytest.raises(DtypeError, match="acts: expected dtype float64"):
            step(buffer, 2**53 + 1)
        assert buffer.pop_transitions().acts.tolist() == [0.5, 7]

    @pytest.mark.parametrize(
        "other", [np.array("x"), np.array(None), np.array(0, "M8[s]")], ids=["text", "object", "time"]
    )
    def test_what_is_no_number(self, other):
        buffer = buffer_of()
        step(buffer, 1)
        with pytest.raises(DtypeError, match="acts: expected dtype int64"):
            step(buffer, other)

    def test_of_some_environments(self):
        """EnvPool's way: actions that wait for their steps are widened too."""
        buffer = buffer_of(2)
        first, second = np.array([0]), np.array([1])
        for acts in ((np.float32(0.1), 0.1), (0.2, np.float32(0.2))):
            for env, act in zip((first, second), acts, strict=True):
                buffer.act(np.array([act]), env)
            for env in (first, second):
                buffer.step(np.zeros((1, 2), np.float32), np.ones(1), [{}], envs=env)
        trajectories, _ = buffer.pop_trajectories()
        assert [each.acts.tolist() for each in trajectories] == [
            [float(np.float32(0.1)), 0.2],
            [0.1, float(np.float32(0.2))],
        ]


class TestObservations:
    @pytest.mark.parametrize("shape", [(2,), (200,), (300,), (40, 40)])
    @pytest.mark.parametrize("ends", [(), (2, 5)])
    def test_in_the_middle(self, shape, ends):
        """Small rows, rows that become large, and large ones; last observations of episodes too."""
        buffer = RolloutBuffer(2)
        rows = [np.full((2, *shape), i + 0.1).astype((np.float32, np.float64)[i in (4, 6)]) for i in range(8)]
        lasts = {i: np.full(shape, -i - 0.1, np.float32) for i in ends}
        buffer.reset(rows[0])
        for i, row in enumerate(rows[1:], start=1):
            buffer.act(np.zeros(2, np.int64))
            endings = [Ending(env, True, False, lasts[i], {}, {}) for env in range(2)] if i in ends else ()
            buffer.step(row, np.ones(2), [{}, {}], endings)
            if i == 3:
                state = buffer.state_dict()
                buffer.load_state_dict(state)
        pieces, begin = [], 0
        for end in ends:
            pieces.append([*rows[begin:end], np.stack([lasts[end]] * 2)])
            begin = end
        pieces.append(rows[begin:])
        expected = [np.stack([row[env] for row in piece]).astype(np.float64) for piece in pieces for env in range(2)]
        batch = buffer.pop_trajectories()[0]
        for trajectory, obs in zip(batch, expected, strict=True):
            assert_same(trajectory.obs, obs)

    def test_transitions(self):
        buffer = RolloutBuffer(1)
        buffer.reset(np.zeros((1, 300), np.float32))
        for i in range(1, 4):
            buffer.act([0])
            buffer.step(np.full((1, 300), i, (np.float32, np.float64)[i % 2]), np.ones(1), [{}])
        transitions = buffer.pop_transitions()
        assert_same(transitions.obs, np.repeat(np.arange(3.0)[:, None], 300, 1))
        assert_same(transitions.next_obs, np.repeat(np.arange(1.0, 4)[:, None], 300, 1))

    def test_a_masked_reset(self):
        buffer = buffer_of(2)
        step(buffer)
        buffer.reset(np.full((2, 2), 0.1), mask=np.array([False, True]))
        step(buffer)
        obs = [each.obs[:, 0].tolist() for each in buffer.pop_trajectories()[0]]
        assert obs == [[0, 0], [0, 0, 0], [0.1, 0]]

    def test_a_sink_gets_what_it_can_hold(self):
        """Each trajectory in the widest dtype so far, and not back again, though nothing is held between them."""
        from vecrollout.buffer import RecordOptions

        sink = []
        buffer = RolloutBuffer(1, RecordOptions(sink=sink))
        for dtype in (np.float32, np.float64, np.float32):
            buffer.reset(np.zeros((1, 2), dtype))
            step(buffer, dtype(0.5), np.ones((1, 2), dtype), ended=True)
            buffer.close()
        assert [each.obs.dtype.name for each in sink] == ["float32", "float64", "float64"]
        assert [each.acts.dtype.name for each in sink] == ["float32", "float64", "float64"]

    @given(st.lists(st.sampled_from([np.int8, np.uint8, np.float16, np.float32, np.float64]), min_size=2, max_size=9))
    def test_any_order_of_numbers(self, dtypes):
        buffer = RolloutBuffer(1)
        rows = [np.array([[i / 4 if np.dtype(dtype).kind == "f" else i]], dtype) for i, dtype in enumerate(dtypes)]
        buffer.reset(rows[0])
        for row in rows[1:]:
            buffer.act(row)
            buffer.step(row, np.ones(1), [{}])
        # Each row may widen the column: int8, uint8 and float16 in this order make int16 and then float32.
        expected = np.concatenate(rows).astype(reduce(np.promote_types, dtypes))
        transitions = buffer.pop_transitions()
        assert_same(transitions.obs, expected[:-1])
        assert_same(transitions.next_obs, expected[1:])


class TestCast:
    def recorder(self, obs, act_space=BOX):
        class Env(gym.Env):
            observation_space, action_space = BOX, act_space
            steps = 0

            def reset(self, *, seed=None, options=None):
                return obs[0], {}

            def step(self, action):
                self.steps += 1
                return obs[1], 0.0, False, False, {}

        self.env = Env()
        recorder = BufferingEnvWrapper(self.env, cast="space")
        recorder.reset()
        return recorder

    def test_floats_may_lose_precision(self):
        recorder = self.recorder((np.full(2, 0.1), np.full(2, 0.2)))
        recorder.step(np.full(2, 0.3))
        transitions = recorder.pop_transitions()
        assert_same(transitions.obs, np.full((1, 2), 0.1, np.float32))
        assert_same(transitions.next_obs, np.full((1, 2), 0.2, np.float32))
        assert_same(transitions.acts, np.full((1, 2), 0.3, np.float32))

    @pytest.mark.parametrize("value", [0.5, np.nan, "a"])
    def test_an_integer_is_exact(self, value):
        recorder = self.recorder((FLOAT32, FLOAT32), gym.spaces.Discrete(3))
        recorder.step(np.float64(1.0))
        with pytest.raises(DtypeError, match="acts: expected values that int64, the dtype of the space, can hold"):
            recorder.step(value)
        assert self.env.steps == 1
        assert_same(recorder.pop_transitions().acts, np.array([1]))

    def test_vector_environments(self):
        for make in (
            lambda env: BufferingWrapper(DummyVecEnv([lambda: env]), cast="space"),
            lambda env: VectorBufferingWrapper(SyncVectorEnv([lambda: env]), cast="space"),
        ):
            recorder = make(Varying(FLOAT64, FLOAT64))
            recorder.reset()
            recorder.step(np.array([1], np.int8))
            assert_same(recorder.pop_transitions().acts, np.array([1]))

    def test_another_option(self):
        with pytest.raises(OptionError, match='cast: expected "space" or None, got'):
            BufferingEnvWrapper(Varying(FLOAT32, FLOAT32), cast="float32")
