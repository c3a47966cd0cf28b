"""Learning on top of a recorder is learning without one: the same parameters, to the last bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from stable_baselines3 import A2C, DQN, PPO, SAC
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.vec_env import VecNormalize

from vecrollout import BufferingWrapper
from vecrollout.testing import assert_same

# Algorithm, environment, steps, arguments.
LEARNERS = {
    "PPO": (PPO, "CartPole-v1", 256, {"n_steps": 32, "batch_size": 32, "n_epochs": 2}),
    "A2C": (A2C, "CartPole-v1", 256, {"n_steps": 8}),
    "DQN": (DQN, "CartPole-v1", 256, {"learning_starts": 64, "train_freq": 8, "batch_size": 16}),
    "SAC": (SAC, "Pendulum-v1", 96, {"learning_starts": 32, "train_freq": 8, "batch_size": 16}),
}


@pytest.fixture(autouse=True)
def one_thread():
    """The order of a sum may depend on the number of threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def parameters_of(model):
    return {key: value.numpy().copy() for key, value in model.policy.state_dict().items()}


def learned(name, wrap, callback=None):
    """The parameters learned, and the wrapped environments."""
    algorithm, env_id, steps, arguments = LEARNERS[name]
    venv = wrap(make_vec_env(env_id, n_envs=2, seed=5))
    model = algorithm("MlpPolicy", venv, seed=3, device="cpu", policy_kwargs={"net_arch": [8]}, **arguments)
    model.set_logger(Logger(folder=None, output_formats=[]))  # its own would leave a folder behind
    before = parameters_of(model)
    model.learn(steps, callback=callback)
    after = parameters_of(model)
    assert any(not np.array_equal(after[key], before[key]) for key in after)
    return after, venv


@pytest.mark.parametrize("name", LEARNERS)
def test_a_recorder_does_not_change_what_is_learned(name):
    expected, _ = learned(name, lambda venv: venv)
    parameters, venv = learned(name, BufferingWrapper)
    assert_same(parameters, expected)
    assert venv.stepped == venv.held == LEARNERS[name][2]
    for trajectory in venv.pop_trajectories()[0]:
        low, high = getattr(venv.action_space, "low", 0), getattr(venv.action_space, "high", 1)
        assert ((trajectory.acts >= low) & (trajectory.acts <= high)).all()


def test_pops_while_it_learns_do_not_either():
    """Below another wrapper, by a callback at every step."""
    expected, _ = learned("PPO", VecNormalize)
    recorders, popped = [], []

    def wrap(venv):
        recorders.append(BufferingWrapper(venv))
        return VecNormalize(recorders[0])

    def callback(local_variables, global_variables):
        if recorders[0].held >= 50:
            popped.append(recorders[0].pop_transitions())
        return True

    parameters, _ = learned("PPO", wrap, callback)
    assert_same(parameters, expected)
    assert sum(map(len, popped)) + recorders[0].held == recorders[0].stepped == 256


def test_executed_actions_are_recorded():
    """A policy's own may lie outside the space; the environment gets them clipped."""
    venv = BufferingWrapper(make_vec_env("Pendulum-v1", n_envs=2, seed=5))
    model = PPO("MlpPolicy", venv, seed=3, device="cpu", n_steps=64, n_epochs=1, policy_kwargs={"log_std_init": 2.0})
    model.set_logger(Logger(folder=None, output_formats=[]))
    model.learn(128)
    acts = venv.pop_transitions().acts
    assert np.abs(model.rollout_buffer.actions).max() > 2
    assert np.abs(acts).max() == 2
    assert acts.shape == (128, 1)
