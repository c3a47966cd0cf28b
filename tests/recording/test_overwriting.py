"""`overwrite=True` removes the traces of before once everything is checked, and not earlier."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3 import A2C
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnvWrapper

from vecrollout import TraceCallback, TraceRecordingWrapper, TraceWriter, TrajectoryWithRew, open_traces, record_traces
from vecrollout.compat.gym_recording import wrappers
from vecrollout.errors import ProtocolError, ShapeError, VecrolloutError
from vecrollout.testing import CountingEnv

BEFORE = TrajectoryWithRew(np.arange(3.0), np.zeros(2), None, True, rews=np.ones(2))


class Silent(gym.vector.VectorEnv):
    """Does not say how it resets its environments."""

    num_envs = 2
    single_observation_space = observation_space = gym.spaces.Box(0, 1, (1,))
    single_action_space = action_space = gym.spaces.Discrete(2)

    def __init__(self) -> None:
        pass  # that of Gymnasium 0.29 takes arguments


def vec_env() -> DummyVecEnv:
    return DummyVecEnv([CountingEnv] * 2)


def vector_env() -> Any:
    return gym.vector.SyncVectorEnv([CountingEnv] * 2)


def named(value: Any) -> str:
    return str(getattr(value, "__name__", value))


WRAPPERS = {"own": TraceRecordingWrapper, "compatible": wrappers.TraceRecordingWrapper}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Holds a trace."""
    with TraceWriter(tmp_path) as writer:
        writer.append(BEFORE)
    return tmp_path


OF_ALL: list[dict[str, Any]] = [
    {"record_infos": "some"},
    {"record_infos": 3},
    {"cast": "float32"},
    {"max_transitions": 0},
    {"on_full": "bad"},
    {"episode_filter": 3},
    {"reward_classes": []},
    {"reward_classes": [1.0], "seed": "x"},
    {"compression": "gzip"},
    {"spaces": 3},
    {"metadata": [7]},
    {"env_spec": 3},
]
OF_SEVERAL: list[dict[str, Any]] = [{"max_transitions": 1}, {"missing_final_obs": "guess"}]
CASES = [
    *((CountingEnv, wrong) for wrong in [*OF_ALL, {"autoreset_mode": "next_step"}]),
    *((vec_env, wrong) for wrong in [*OF_ALL, *OF_SEVERAL, {"autoreset_mode": "next_step"}]),
    *((vector_env, wrong) for wrong in [*OF_ALL, *OF_SEVERAL, {"autoreset_mode": "sometimes"}]),
    (Silent, {}),
    (list, {}),
]


@pytest.mark.parametrize(("make", "wrong"), CASES, ids=named)
def test_what_is_refused_removes_nothing(make: Any, wrong: dict[str, Any], directory: Path) -> None:
    env = make()
    with pytest.raises(VecrolloutError):
        record_traces(env, directory, overwrite=True, **wrong)
    assert list(open_traces(directory)) == [BEFORE]


@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize(("make", "wrong"), [*((CountingEnv, wrong) for wrong in OF_ALL), (vec_env, {})], ids=named)
def test_what_a_wrapper_refuses_removes_nothing(
    wrapper: str, make: Any, wrong: dict[str, Any], directory: Path
) -> None:
    with pytest.raises(VecrolloutError):
        WRAPPERS[wrapper](make(), directory, overwrite=True, **wrong)
    assert list(open_traces(directory)) == [BEFORE]


class Chooses(CountingEnv):
    """With actions that A2C has a policy for."""

    def __init__(self) -> None:
        super().__init__()
        self.action_space = gym.spaces.Discrete(2)


@pytest.mark.parametrize("wrong", [{"max_transitions": 1}, {"compression": "gzip"}, {"spaces": 3}], ids=named)
def test_what_a_callback_refuses_removes_nothing(wrong: dict[str, Any], directory: Path) -> None:
    model = A2C("MlpPolicy", DummyVecEnv([Chooses] * 2), n_steps=5, device="cpu")
    with pytest.raises(VecrolloutError):
        model.learn(10, TraceCallback(directory, overwrite=True, **wrong))
    assert list(open_traces(directory)) == [BEFORE]
    model.learn(10, TraceCallback(directory, overwrite=True))
    assert open_traces(directory).total_steps == 10


class Halved(VecEnvWrapper):
    """Its reset returns the observation of one environment only."""

    def reset(self) -> Any:
        return self.venv.reset()[:1]

    def step_wait(self) -> Any:
        return self.venv.step_wait()


def test_first_observations_that_do_not_fit_remove_nothing(directory: Path) -> None:
    venv = Halved(DummyVecEnv([Chooses] * 2))
    with pytest.raises(ShapeError):
        A2C("MlpPolicy", venv, n_steps=5, device="cpu").learn(10, TraceCallback(directory, overwrite=True))
    assert list(open_traces(directory)) == [BEFORE]
    assert venv.reset.__func__ is Halved.reset  # it is not recorded
    # Nor is a writer at work there.
    model = A2C("MlpPolicy", venv.venv, n_steps=5, device="cpu")
    model.learn(10, TraceCallback(directory, overwrite=True))
    assert open_traces(directory).total_steps == 10


@pytest.mark.parametrize("make", [CountingEnv, vec_env, vector_env])
def test_what_is_right_removes_it(make: Any, directory: Path) -> None:
    """Also traces of other spaces."""
    with TraceWriter(directory, spaces=(gym.spaces.Discrete(3), gym.spaces.Discrete(3)), mix_spaces=True) as writer:
        writer.append(BEFORE)
    env = record_traces(make(), directory, overwrite=True)
    assert list(open_traces(directory)) == []
    env.restart()
    env.advance(np.zeros(1 if make is CountingEnv else 2, int))
    env.close()
    assert open_traces(directory).total_steps == env.delivered > 0


@pytest.mark.parametrize("make", [CountingEnv, vec_env, vector_env])
def test_beside_a_writer_at_work(make: Any, directory: Path) -> None:
    """The environment can be recorded to another directory then."""
    env = make()
    with TraceWriter(directory) as writer:
        writer.append(BEFORE)
        writer.flush()
        with pytest.raises(ProtocolError, match="overwrite"):
            record_traces(env, directory, overwrite=True)
    assert list(open_traces(directory)) == [BEFORE, BEFORE]
    recorder = record_traces(env, directory / "other")
    recorder.restart()
    recorder.close()


def test_a_callback_beside_a_writer_at_work(directory: Path) -> None:
    model = A2C("MlpPolicy", DummyVecEnv([Chooses] * 2), n_steps=5, device="cpu")
    callback = TraceCallback(directory, overwrite=True)
    with TraceWriter(directory) as writer:
        writer.append(BEFORE)
        writer.flush()
        with pytest.raises(ProtocolError, match="overwrite"):
            model.learn(10, callback)
    assert list(open_traces(directory)) == [BEFORE, BEFORE]
    model.learn(10, callback)
    assert open_traces(directory).total_steps == 10
