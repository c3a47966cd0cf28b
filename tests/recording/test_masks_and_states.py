"""Policies of sb3-contrib: those with action masks and recurrent ones, in collecting and while they train."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from sb3_contrib import MaskablePPO, RecurrentPPO
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv
from vector_envs import MODES, sync_env

from vecrollout import (
    TraceCallback,
    generate_trajectories,
    generate_transitions,
    make_min_episodes,
    open_traces,
    policy_to_callable,
    rollout,
)
from vecrollout.errors import OptionError, PolicyError
from vecrollout.testing import CountingEnv, EpisodeScript


class Door(gym.Env):
    """Only the door `(t + offset) % 4` is open; the others end the test. Episodes last 7 steps, or 4."""

    observation_space = gym.spaces.Box(0, 99, (1,), np.float32)
    action_space = gym.spaces.Discrete(4)

    def __init__(self, offset: int = 0) -> None:
        self.offset = offset
        self.episodes = 0

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        self.t = 0
        self.episodes += 1
        return self.obs(), {}

    def obs(self) -> Any:
        return np.array([self.t + self.offset], np.float32)

    def action_masks(self) -> Any:
        return np.arange(4) == (self.t + self.offset) % 4

    def step(self, action: Any) -> Any:
        assert self.action_masks()[action]
        self.t += 1
        return self.obs(), 1.0, self.t >= (7 if self.episodes % 2 else 4), False, {}


def doors() -> list[Any]:
    return [lambda i=i: Door(i) for i in range(3)]


KINDS: dict[str, Any] = {
    "single": lambda: Door(2),
    "sb3": lambda: DummyVecEnv(doors()),
    **{mode: lambda mode=mode: sync_env(doors(), mode) for mode in MODES},
}


def masked(env: Any = None) -> Any:
    venv = DummyVecEnv(doors()) if env is None else env
    return MaskablePPO("MlpPolicy", venv, n_steps=8, batch_size=8, n_epochs=1, device="cpu", seed=0)


def rng() -> Any:
    return np.random.default_rng(0)


@pytest.mark.parametrize("record_infos", ["all", "none", ["t"]])
@pytest.mark.parametrize("kind", KINDS)
def test_masks_are_asked_for_and_recorded(kind, record_infos):
    trajectories = generate_trajectories(
        masked(), KINDS[kind](), make_min_episodes(5), rng(), record_masks=True, record_infos=record_infos
    )
    assert len(trajectories) >= 5
    for each in trajectories:
        masks = np.stack([info["action_masks"] for info in each.infos])
        assert masks.dtype == bool
        np.testing.assert_array_equal(np.arange(4) == each.obs[:-1] % 4, masks)
        assert masks[np.arange(len(each)), each.acts].all()


@pytest.mark.parametrize("kind", KINDS)
def test_masks_of_an_algorithm_or_its_policy(kind):
    model = masked()
    for policy in (model, model.policy):
        for trajectory in generate_trajectories(policy, KINDS[kind](), make_min_episodes(3), rng()):
            assert all("action_masks" not in info for info in trajectory.infos)


def test_masks_of_environments_in_processes():
    venv = SubprocVecEnv(doors())
    try:
        trajectories = generate_trajectories(masked(), venv, make_min_episodes(3), rng(), record_masks=True)
        assert all(info["action_masks"].sum() == 1 for each in trajectories for info in each.infos)
    finally:
        venv.close()


def test_the_actions_are_those_of_the_policy_under_the_masks():
    class Open(Door):
        def action_masks(self):
            return np.array([self.t % 2 == 0, True, self.t % 3 == 0, True])

    venv = DummyVecEnv([Open])
    model = masked(venv)
    act = policy_to_callable(model, venv, deterministic_policy=True)
    venv.reset()
    for t in range(6):
        obs = np.array([[3.0]], np.float32)
        expected, _ = model.predict(obs, deterministic=True, action_masks=np.stack(venv.env_method("action_masks")))
        assert act(obs, None, None)[0] == expected, t
        venv.envs[0].unwrapped.t += 1


def test_a_policy_without_masks_acts_and_they_are_recorded():
    def policy(obs: Any, states: Any, starts: Any) -> Any:
        return (obs[:, 0] % 4).astype(int), None

    for each in generate_trajectories(policy, KINDS["sb3"](), make_min_episodes(3), rng(), record_masks=True):
        assert all(info["action_masks"][act] for info, act in zip(each.infos, each.acts, strict=True))


@pytest.mark.parametrize("kind", [DummyVecEnv, gym.vector.SyncVectorEnv, lambda fns: fns[0]()])
def test_environments_without_masks_are_refused(kind):
    fns = [lambda: CountingEnv(Door.observation_space, action_space=Door.action_space)] * 2
    for policy, options in ((masked(), {}), (None, {"record_masks": True})):
        with pytest.raises(PolicyError, match=r"expected environments with a method action_masks\(\).* ActionMasker"):
            generate_trajectories(policy, kind(fns), make_min_episodes(1), rng(), **options)


def test_an_error_of_the_masks_themselves_passes_through():
    class Broken(Door):
        def action_masks(self):
            if self.t == 2:
                raise AttributeError("no door")
            return super().action_masks()

    with pytest.raises(AttributeError, match="no door"):
        generate_trajectories(masked(), DummyVecEnv([Broken]), make_min_episodes(1), rng())


def test_rollout_drops_the_infos_unless_asked():
    with pytest.raises(OptionError, match="record_masks: expected exclude_infos=False"):
        rollout(masked(), KINDS["sb3"](), make_min_episodes(1), rng(), unwrap=False, record_masks=True)
    kept = rollout(
        masked(), KINDS["sb3"](), make_min_episodes(1), rng(), unwrap=False, record_masks=True, exclude_infos=False
    )
    assert all("action_masks" in info for each in kept for info in each.infos)
    transitions = generate_transitions(masked(), KINDS["sb3"](), 10, rng(), record_masks=True)
    assert len([info["action_masks"] for info in transitions.infos]) == 10


def test_training_with_masks_is_recorded(tmp_path):
    masked().learn(48, TraceCallback(tmp_path, record_masks=True))
    traces = open_traces(tmp_path)
    assert sum(map(len, traces)) == 48
    for each in traces:
        masks = np.stack([info["action_masks"] for info in each.infos])
        np.testing.assert_array_equal(np.arange(4) == each.obs[:-1] % 4, masks)


# Recurrent state


def counting() -> list[Any]:
    box = gym.spaces.Box(-1, 1, (2,), np.float32)
    return [
        lambda i=i: CountingEnv(
            gym.spaces.Box(0, 255, (1,), np.float32), episodes=[EpisodeScript(3 + i)], action_space=box, first=50 * i
        )
        for i in range(2)
    ]


def recurrent(venv: Any) -> Any:
    policy = {"lstm_hidden_size": 4, "n_lstm_layers": 2, "net_arch": []}
    return RecurrentPPO("MlpLstmPolicy", venv, n_steps=8, batch_size=8, policy_kwargs=policy, device="cpu", seed=0)


def assert_states_lead_to_the_next(model: Any, trajectory: Any) -> None:
    """The state before a step and its observation give the state before the next one; the first one is zeros."""
    states = [[info["policy_state_0"], info["policy_state_1"]] for info in trajectory.infos]
    assert states[0][0].shape == (2, 4)
    assert states[0][0].dtype == np.float32
    assert trajectory.episode.start_step == 0
    assert not np.any(states[0])
    for t in range(len(trajectory) - 1):
        before = tuple(each[:, np.newaxis] for each in states[t])
        _, after = model.predict(trajectory.obs[t][np.newaxis], before, np.zeros(1, bool))
        for found, expected in zip(states[t + 1], after, strict=True):
            np.testing.assert_allclose(found, expected[:, 0], rtol=1e-4, atol=1e-6)
        assert np.any(states[t + 1])


@pytest.mark.parametrize("kind", [DummyVecEnv, *[lambda fns, mode=mode: sync_env(fns, mode) for mode in MODES]])
def test_recurrent_state_in_collecting(kind):
    model = recurrent(DummyVecEnv(counting()))
    trajectories = generate_trajectories(model, kind(counting()), make_min_episodes(6), rng(), record_states=True)
    for each in trajectories:
        assert_states_lead_to_the_next(model, each)


def test_recurrent_state_in_training(tmp_path):
    model = recurrent(DummyVecEnv(counting()))
    model.learn(16, TraceCallback(tmp_path / "first", record_states=True))
    recurrent(DummyVecEnv(counting())).learn(16, TraceCallback(tmp_path / "none"))
    first = recurrent(DummyVecEnv(counting()))  # with the weights from before the first update
    traces = open_traces(tmp_path / "first")
    assert sum(map(len, traces)) == 16
    for each in traces:
        assert_states_lead_to_the_next(first, each)
    assert all("policy_state_0" not in info for each in open_traces(tmp_path / "none") for info in each.infos)


def test_the_states_of_a_function():
    """With the environments in the first dimension."""

    def policy(obs: Any, states: Any, starts: Any) -> Any:
        count = np.zeros(len(obs), int) if states is None else np.where(starts, 0, states[0])
        return np.zeros((len(obs), 2), np.float32), (count + 1,)

    for each in generate_trajectories(policy, DummyVecEnv(counting()), make_min_episodes(6), rng(), record_states=True):
        assert [info["policy_state_0"] for info in each.infos] == [*range(len(each))]


def test_a_policy_without_state_is_refused():
    venv = DummyVecEnv(counting())
    for policy in (None, PPO("MlpPolicy", venv, device="cpu")):
        with pytest.raises(PolicyError, match="record_states: expected a policy that returns"):
            generate_trajectories(policy, venv, make_min_episodes(1), rng(), record_states=True)
