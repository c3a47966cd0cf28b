"""Arrays of other libraries, on any device, are recorded as NumPy arrays."""

from __future__ import annotations

from typing import ClassVar

import gymnasium as gym
import numpy as np
import pytest
import torch
from custom_vector_env import CustomVectorEnv, with_final_obs
from custom_venv import CustomVecEnv
from foreign import Device, ForeignVecEnv, ForeignVectorEnv, Readable, converted, to_torch
from stable_baselines3.common.vec_env import DummyVecEnv
from vector_envs import MODES, sync_env

from vecrollout import (
    BufferingEnvWrapper,
    BufferingWrapper,
    VectorBufferingWrapper,
    generate_trajectories,
    make_min_episodes,
    open_traces,
    record_traces,
)
from vecrollout.errors import ArgumentTypeError, ProtocolError
from vecrollout.testing import CountingEnv, EpisodeScript, Scenario, assert_same

CALLS = 9
SOME_SPACES = ["box", "image", "discrete", "multi_binary", "dict", "nested"]


def assert_all_recorded(trajectories, scenario, calls=CALLS, **options):
    for trajectory, expected in zip(trajectories, scenario.recorded(0, calls), strict=True):
        expected.assert_recorded_as(trajectory, **options)


def jax_array(array):
    jax = pytest.importorskip("jax")
    with jax.enable_x64(True):
        return jax.numpy.asarray(array)


LIBRARIES = {
    "torch": to_torch,
    "torch with gradients": lambda array: to_torch(array).requires_grad_(array.dtype.kind == "f"),
    "jax": jax_array,
    "__array__": Readable,
    "a device's": lambda array: Device(array, []),
}


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("space", ["box", "dict"])
def test_of_a_vector_env(library, mode, space):
    """Observations, rewards, flags, infos, masks and last observations;
    what the environment returns passes through."""
    convert = LIBRARIES[library]
    scenario = Scenario(space, has_dead_calls=mode == "next_step")
    env = ForeignVectorEnv(sync_env(scenario.env_fns(), mode), convert, lambda actions: np.asarray(actions))
    recorder = VectorBufferingWrapper(env)
    assert all(one is other for one, other in zip(recorder.reset(), env.returned, strict=True))
    for call in range(CALLS):
        returned = recorder.step(scenario.actions(call))
        assert all(one is other for one, other in zip(returned, env.returned, strict=True))
        if mode == "disabled":
            over = env.over
            if over.any():
                recorder.reset(options={"reset_mask": convert(over) if library != "a device's" else over})
    trajectories, _ = recorder.pop_trajectories()
    assert_all_recorded(trajectories, scenario, reward_dtype=np.float64, sees_both=True)
    assert all(isinstance(info["t"], int | np.integer) for each in trajectories for info in each.infos)


@pytest.mark.parametrize("library", ["torch", "__array__", "a device's"])
@pytest.mark.parametrize("space", SOME_SPACES)
@pytest.mark.parametrize("action_space", ["discrete", "box"])
def test_of_a_vec_env(library, space, action_space):
    scenario = Scenario(space, action_space)
    convert = LIBRARIES[library]
    recorder = BufferingWrapper(ForeignVecEnv(CustomVecEnv(scenario.env_fns()), convert))
    recorder.reset()
    for call in range(CALLS):
        recorder.step_async(scenario.actions(call))
        recorder.step_wait()
    assert_all_recorded(recorder.pop_trajectories()[0], scenario, reward_dtype=np.float32, sees_both=False)


def test_actions():
    """Of torch, also on their way to a NumPy environment that takes them."""
    scenario = Scenario(action_space="box", has_dead_calls=MODES[0] == "next_step")
    recorder = VectorBufferingWrapper(ForeignVectorEnv(sync_env(scenario.env_fns()), to_torch))
    recorder.reset()
    acts = torch.from_numpy(np.array(scenario.actions(0)))
    recorder.step(acts)
    acts[:] = -1  # the recorder has a copy
    assert_all_recorded(recorder.pop_trajectories()[0], scenario, 1, reward_dtype=np.float64, sees_both=True)


def test_one_copy_a_column():
    """From a device each column of a step is copied once, also where episodes end."""
    copies = []
    scenario = Scenario(episodes=[[EpisodeScript(2)]] * 4)

    def on_device(step):
        last = step[-1].pop("last")
        final = np.stack([step[0][i] if each is None else each for i, each in enumerate(last)])
        over = step[2] | step[3]
        infos = {"final_obs": final, "_final_obs": over, "speed": np.arange(4.0)}
        return converted((*step[:4], infos), lambda array: Device(array, copies))

    env = CustomVectorEnv(scenario.env_fns(), alter=on_device)
    recorder = VectorBufferingWrapper(env, autoreset_mode="same_step")
    recorder.reset()
    counts = []
    for call in range(4):
        copies.clear()
        recorder.step(scenario.actions(call))
        counts.append(len(copies))
    assert max(counts) <= 7  # obs, rewards, two flags, and three infos
    assert [info["speed"] for each in recorder.pop_trajectories()[0] for info in each.infos] == [
        0,
        0,
        1,
        1,
        2,
        2,
        3,
        3,
    ] * 2


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64", "bool", "uint8", "complex64"])
def test_dtypes_of_torch(dtype):
    """NumPy does not know bfloat16; float32 holds its values."""
    values = torch.tensor([[0.0, 1.0], [1.0, 0.0]]).to(getattr(torch, dtype))
    recorder = VectorBufferingWrapper(Fixed(obs=values))
    recorder.reset()
    recorder.step(np.zeros(2, int))
    expected = np.dtype("float32" if dtype == "bfloat16" else dtype)
    for env, trajectory in enumerate(recorder.pop_trajectories()[0]):
        assert_same(trajectory.obs, np.eye(2)[[1 - env] * 2].astype(expected))


def test_bfloat16_of_jax():
    jax = pytest.importorskip("jax")
    recorder = VectorBufferingWrapper(Fixed(obs=jax.numpy.ones((2, 3), jax.numpy.bfloat16)))
    recorder.reset()
    recorder.step(np.zeros(2, int))
    assert_same(recorder.pop_transitions().obs, np.ones((2, 3), np.float32))


class Fixed(gym.vector.VectorEnv):
    """Two environments that return the same at every step."""

    metadata: ClassVar = {"autoreset_mode": "next_step"}
    num_envs = 2
    single_observation_space = gym.spaces.Box(-9, 9, (2,), np.float32)
    single_action_space = gym.spaces.Discrete(2)
    observation_space = gym.spaces.Box(-9, 9, (2, 2), np.float32)
    action_space = gym.spaces.MultiDiscrete([2, 2])
    closed = False

    def __init__(self, obs=None, rews=None, flags=None, infos=None):
        self.obs = np.zeros((2, 2), np.float32) if obs is None else obs
        self.rews = np.zeros(2) if rews is None else rews
        self.flags = np.zeros(2, bool) if flags is None else flags
        self.infos = {} if infos is None else infos
        self.steps = 0

    def reset(self, *, seed=None, options=None):
        return self.obs, {}

    def step(self, actions):
        self.steps += 1
        return self.obs, self.rews, self.flags, self.flags, self.infos

    def close(self, **kwargs):
        self.closed = True


@pytest.mark.parametrize("flags", [torch.zeros(2, 1, dtype=torch.bool), [0, 0], (False, False), torch.zeros(2)])
def test_flags_of_all_kinds(flags):
    recorder = VectorBufferingWrapper(Fixed(flags=flags))
    recorder.reset()
    recorder.step(np.zeros(2, int))
    assert [len(each) for each in recorder.pop_trajectories()[0]] == [1, 1]
    recorder = VectorBufferingWrapper(Fixed(flags=1 - np.asarray(flags)))
    recorder.reset()
    recorder.step(np.zeros(2, int))
    assert [each.episode.ended_by for each in recorder.pop_finished_trajectories()[0]] == ["terminated"] * 2


def test_a_tensor_that_the_environment_writes_again():
    obs = torch.zeros(2, 2)
    speed = torch.zeros(2)
    recorder = VectorBufferingWrapper(Fixed(obs=obs, infos={"speed": speed}))
    recorder.reset()
    for number in range(1, 4):
        obs[:], speed[:] = number, number
        recorder.step(np.zeros(2, int))
    for trajectory in recorder.pop_trajectories()[0]:
        assert trajectory.obs[:, 0].tolist() == [0, 1, 2, 3]
        assert [info["speed"] for info in trajectory.infos] == [1, 2, 3]


def test_data_that_nobody_can_read():
    """Actions are refused before the environments are stepped. What was recorded before can be popped."""
    env = Fixed()
    recorder = VectorBufferingWrapper(env, error_on_premature_reset=False)
    recorder.reset()
    recorder.step(torch.zeros(2, dtype=torch.int64))
    with pytest.raises(ArgumentTypeError, match=r"acts: expected an array that NumPy can read, got a torch\.Tensor"):
        recorder.step(torch.zeros(2, device="meta"))
    assert env.steps == 1
    recorder.step(torch.zeros(2, dtype=torch.int64))
    env.obs = torch.zeros(2, 2, device="meta")
    with pytest.raises(ArgumentTypeError, match=r"obs: expected an array that NumPy can read.*wrapper below"):
        recorder.step(torch.zeros(2, dtype=torch.int64))
    with pytest.raises(ProtocolError, match="reset"):
        recorder.step(torch.zeros(2, dtype=torch.int64))
    assert len(recorder.pop_transitions()) == 4


def test_infos_that_nobody_can_read_stay_as_they_are():
    """Infos may hold anything, and their loss would cost the step."""
    value = torch.zeros(2, device="meta")
    recorder = VectorBufferingWrapper(Fixed(infos={"odd": value}))
    recorder.reset()
    recorder.step(np.zeros(2, int))
    assert [info["odd"] is value for each in recorder.pop_trajectories()[0] for info in each.infos] == [True, True]


class TensorEnv(CountingEnv):
    """Returns tensors for all its values."""

    def reset(self, **kwargs):
        obs, info = super().reset(**kwargs)
        return to_torch(obs), {**info, "begun": torch.ones(2)}

    def step(self, action):
        obs, rew, terminated, truncated, info = super().step(action)
        flags = torch.tensor(terminated), torch.tensor(truncated)
        return to_torch(obs), torch.tensor(rew, dtype=torch.float64), *flags, {**info, "pair": torch.ones(2)}


def test_of_a_single_environment():
    found = []
    for make, action in ((TensorEnv, torch.tensor(1)), (CountingEnv, 1)):
        recorder = BufferingEnvWrapper(make(episodes=[EpisodeScript(3)]))
        for _ in range(2):
            recorder.reset()
            for _ in range(3):
                recorder.step(action)
        found.append(recorder.pop_trajectories()[0])
    for trajectory, expected in zip(*found, strict=True):
        for name in ("obs", "acts", "rews"):
            assert_same(getattr(trajectory, name), getattr(expected, name))
        assert trajectory.episode.ended_by == "terminated"
        assert_same(trajectory.infos[0]["pair"], np.ones(2, np.float32))
        assert_same(trajectory.episode.reset_info["begun"], np.ones(2, np.float32))


class TensorInfos(CountingEnv):
    """Its infos have tensors, which the environment writes again."""

    def reset(self, **kwargs):
        self.speed = torch.zeros(2)
        return super().reset(**kwargs)

    def step(self, action):
        *step, info = super().step(action)
        self.speed += 1
        return (*step, {**info, "speed": self.speed})


def test_infos_of_sb3s_own_vec_env():
    venv = BufferingWrapper(DummyVecEnv([lambda: TensorInfos(episodes=[EpisodeScript(3)])]))
    venv.reset()
    for _ in range(3):
        venv.step([0])
    (trajectory,), _ = venv.pop_trajectories()
    assert_same([info["speed"] for info in trajectory.infos], [np.full(2, n, np.float32) for n in (1, 2, 3)])


def test_on_disk(tmp_path):
    scenario = Scenario("dict", has_dead_calls=MODES[0] == "next_step")
    recorder = record_traces(ForeignVectorEnv(sync_env(scenario.env_fns()), to_torch), tmp_path)
    recorder.reset()
    for call in range(CALLS):
        recorder.step(scenario.actions(call))
    recorder.close()

    def key(each):
        return (each.episode.env_index, each.episode.reset_info["episode"])

    expected = sorted(scenario.recorded(0, CALLS, closed=True), key=lambda each: (each.env_index, each.episode))
    for trajectory, each in zip(sorted(open_traces(tmp_path), key=key), expected, strict=True):
        each.assert_recorded_as(trajectory, reward_dtype=np.float64, sees_both=True)


def test_gymnasiums_own_wrapper():
    pytest.importorskip("array_api_compat")
    to_tensors = pytest.importorskip("gymnasium.wrappers.vector").NumpyToTorch
    env = VectorBufferingWrapper(to_tensors(gym.vector.SyncVectorEnv([lambda: gym.make("CartPole-v1")] * 2)))
    env.reset(seed=0)
    env.step(torch.tensor([0, 1]))
    assert env.pop_transitions().obs.shape == (2, 4)


def test_last_observations_of_gymnasiums_kind():
    """An object array of tensors, with a mask that is one too."""
    scenario = Scenario("dict")

    def alter(step):
        return converted(with_final_obs()(step), to_torch)

    recorder = VectorBufferingWrapper(CustomVectorEnv(scenario.env_fns(), alter=alter), autoreset_mode="same_step")
    recorder.reset()
    for call in range(CALLS):
        recorder.step(scenario.actions(call))
    for trajectory, expected in zip(recorder.pop_trajectories()[0], scenario.recorded(0, CALLS), strict=True):
        assert_same(trajectory.obs, expected.obs)


@pytest.mark.parametrize("kind", [tuple, list])
def test_a_value_an_environment(kind):
    """Sequences of arrays, as many as each array has entries: they are rows, not the entries of a Tuple space."""
    env = Fixed(
        obs=kind([np.array([1.0, 2.0]), np.array([3.0, 4.0])]), rews=kind([1.0, 2.0]), flags=kind([False, False])
    )
    recorder = VectorBufferingWrapper(env)
    recorder.reset()
    recorder.step(kind([0, 1]))
    first, second = recorder.pop_trajectories()[0]
    assert_same(first.obs, np.array([[1.0, 2.0]] * 2))
    assert_same(second.obs, np.array([[3.0, 4.0]] * 2))
    assert_same(second.acts, np.array([1]))
    assert_same(second.rews, np.array([2.0]))


def test_annotations_and_a_policys_states():
    """A policy of torch: its states, and what somebody adds to a step."""
    device = LIBRARIES["a device's"]

    def policy(obs, states, starts):
        hidden = np.full((2, 3), states is not None, np.float32)
        return np.zeros(2, int), (device(hidden),)

    env = CountingVectorEnv()
    recorder = VectorBufferingWrapper(env)
    recorder.reset()
    recorder.annotate(values=device(np.array([0.5, 0.25])))
    recorder.step(np.zeros(2, int))
    assert [each.infos[0]["values"] for each in recorder.pop_trajectories()[0]] == [0.5, 0.25]
    rng = np.random.default_rng(0)
    (trajectory, *_) = generate_trajectories(policy, env, make_min_episodes(1), rng, record_states=True)
    assert any("policy_state" in key for key in trajectory.infos[0])


class CountingVectorEnv(gym.vector.SyncVectorEnv):
    def __init__(self):
        super().__init__([lambda: CountingEnv(episodes=[EpisodeScript(2)])] * 2)
