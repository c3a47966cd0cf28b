"""`vecrollout.compat.imitation.buffer`: ring buffers of arrays and of transitions."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from stable_baselines3.common.vec_env import DummyVecEnv

from vecrollout.compat.imitation.buffer import Buffer, ReplayBuffer, num_samples
from vecrollout.compat.imitation.types import Transitions
from vecrollout.errors import EmptyBufferError, OptionError, ShapeError, StructureError, VecrolloutError


def transitions(start: int, count: int) -> Transitions:
    obs = np.arange(start, start + count, dtype=np.float32).reshape(-1, 1)
    infos = [{"t": t} for t in range(start, start + count)]
    return Transitions(obs=obs, acts=obs[:, 0], infos=infos, next_obs=obs + 1, dones=obs[:, 0] % 2 == 0)  # type: ignore[arg-type]


@given(st.integers(1, 5), st.lists(st.integers(1, 7), min_size=1, max_size=6))
def test_a_buffer_keeps_the_last_samples(capacity: int, counts: list[int]) -> None:
    buffer = Buffer(capacity, {"a": (2,), "b": ()}, {"a": np.float32, "b": np.int64})
    stored: list[int] = []
    for count in counts:
        values = np.arange(len(stored), len(stored) + count)
        stored += values.tolist()
        rows = np.repeat(values[:, None], 2, axis=1)
        buffer.store({"a": rows, "b": values}, truncate_ok=True)
        rows[:] = -1
        kept = stored[-capacity:]
        # Truncated values leave no trace, so the count of a model is that of what is kept.
        assert buffer.size() == len(kept)
        drawn = buffer.sample(100)
        assert set(drawn["b"].tolist()) <= set(kept)
        assert drawn["a"].dtype == np.float32
        assert np.array_equal(drawn["a"], np.repeat(drawn["b"][:, None], 2, axis=1))
    everything = buffer.sample(2000)["b"]
    assert set(everything.tolist()) == set(stored[-capacity:])


def test_a_buffer_of_data() -> None:
    data = {"a": np.arange(6).reshape(3, 2)}
    assert Buffer.from_data(data).capacity == 3
    assert Buffer.from_data(data, capacity=5).size() == 3
    buffer = Buffer.from_data(data, capacity=2, truncate_ok=True)
    assert buffer.sample_shapes == {"a": (2,)}
    assert set(buffer.sample(50)["a"][:, 0].tolist()) == {2, 4}
    with pytest.raises(ShapeError, match="at most 2 samples"):
        Buffer.from_data(data, capacity=2)


@pytest.mark.usefixtures("imitation_installed")
def test_draws_are_imitations() -> None:
    from imitation.data.buffer import Buffer as TheirBuffer

    data = {"a": np.arange(10)}
    drawn = []
    for cls in (Buffer, TheirBuffer):
        np.random.seed(0)  # noqa: NPY002
        drawn.append(cls.from_data(data).sample(20)["a"].tolist())
    assert drawn[0] == drawn[1]


def test_refused_data() -> None:
    buffer = Buffer(2, {"a": (2,), "b": ()}, {"a": float, "b": float})
    one = {"a": np.zeros((1, 2)), "b": np.zeros(1)}
    with pytest.raises(EmptyBufferError, match="empty buffer") as empty:
        buffer.sample(1)
    assert isinstance(empty.value, ValueError)
    for wrong in ({}, {"a": one["a"]}, {**one, "c": one["b"]}):
        with pytest.raises(StructureError, match="expected the keys"):
            buffer.store(wrong)
    for wrong, message in (
        ({"a": np.zeros((0, 2)), "b": np.zeros(0)}, "at least one sample"),
        ({"a": np.zeros((3, 2)), "b": np.zeros(3)}, "at most 2 samples"),
        ({**one, "a": np.zeros((1, 3))}, "samples of shape"),
        ({**one, "b": np.zeros(2)}, "same number of rows"),
    ):
        with pytest.raises(ShapeError, match=message):
            buffer.store(wrong)
    assert buffer.size() == 0
    with pytest.raises(ShapeError, match="same number of rows"):
        num_samples({})
    assert num_samples(one) == 1


def test_refused_buffers() -> None:
    with pytest.raises(KeyError) as keys:
        Buffer(1, {"a": ()}, {"b": float})
    assert isinstance(keys.value, VecrolloutError)
    assert str(keys.value).startswith("sample_shape and dtypes: expected the same keys")
    with pytest.raises(OptionError, match="capacity: expected 1 or more, got 0"):
        Buffer(0, {"a": ()}, {"a": float})
    known: dict[str, Any] = {"obs_shape": (1,), "act_shape": (), "obs_dtype": np.float32, "act_dtype": np.float32}
    for name in known:
        with pytest.raises(OptionError, match="Shape or dtype missing"):
            ReplayBuffer(1, **{key: value for key, value in known.items() if key != name})
    venv = DummyVecEnv([lambda: gym.make("CartPole-v1")])
    with pytest.raises(OptionError, match="Cannot specify both action dtype and also environment"):
        ReplayBuffer(1, venv, act_dtype=np.float32)
    as_dict = Transitions(
        obs={"a": np.zeros(2)}, acts=np.zeros(2), infos=None, next_obs={"a": np.zeros(2)}, dones=np.zeros(2, bool)
    )
    for use in (ReplayBuffer.from_data, ReplayBuffer(2, **known).store):
        with pytest.raises(AssertionError, match="expected an array, got a DictObs"):
            use(as_dict)


def test_a_replay_buffer() -> None:
    buffer = ReplayBuffer(4, obs_shape=(1,), act_shape=(), obs_dtype=np.float32, act_dtype=np.float32)
    for start in range(0, 9, 3):
        buffer.store(transitions(start, 3))
    assert (buffer.capacity, buffer.size()) == (4, 4)
    drawn = buffer.sample(200)
    assert isinstance(drawn, Transitions)
    assert set(drawn.acts.tolist()) == {5, 6, 7, 8}
    assert np.array_equal(drawn.obs[:, 0], drawn.acts)
    assert np.array_equal(drawn.next_obs, drawn.obs + 1)
    assert [info["t"] for info in drawn.infos] == drawn.acts.tolist()
    assert np.array_equal(drawn.dones, drawn.acts % 2 == 0)
    buffer.store(transitions(20, 9))
    assert set(buffer.sample(200).acts.tolist()) == {25, 26, 27, 28}
    with pytest.raises(ShapeError, match="at most 4"):
        buffer.store(transitions(0, 5), truncate_ok=False)


def test_a_replay_buffer_of_transitions_or_for_environments() -> None:
    assert ReplayBuffer.from_data(transitions(0, 3)).size() == 3
    assert ReplayBuffer.from_data(transitions(0, 3), capacity=2, truncate_ok=True).size() == 2
    with pytest.raises(ShapeError, match="at most 2"):
        ReplayBuffer.from_data(transitions(0, 3), capacity=2)
    venv = DummyVecEnv([lambda: gym.make("CartPole-v1")])
    buffer = ReplayBuffer(2, venv)
    obs = np.zeros((1, 4), np.float32)
    flags = np.zeros(1, bool)
    buffer.store(Transitions(obs=obs, acts=np.zeros(1, int), infos=None, next_obs=obs, dones=flags))  # type: ignore[arg-type]
    assert buffer.sample(1).obs.shape == (1, 4)
