"""Behavior cloning on CartPole: a policy of Stable-Baselines3 learns from a recording alone.

An expert is recorded to disk. The policy then learns to give the recorded actions a high probability, without an
environment. It needs neither imitation nor an algorithm of Stable-Baselines3: a loop over batches is enough.
"""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.policies import ActorCriticPolicy

from vecrollout import TraceDataset, generate_trajectories, make_min_episodes, open_traces, record_traces, rollout_stats
from vecrollout.interop.torch import data_loader

ENVS, STEPS, EPOCHS = 8, 4_000, 6


def expert(obs: Any) -> Any:
    """Push the cart (0: left, 1: right) toward the side the pole is falling to."""
    return np.where(obs[:, 2] + 0.5 * obs[:, 3] > 0, 1, 0)


def record(directory: Path) -> None:
    """Record the expert to disk."""
    venv = record_traces(make_vec_env("CartPole-v1", ENVS, seed=0), directory)
    obs: Any = venv.reset()
    for _ in range(STEPS // ENVS):
        obs, *_ = venv.step(expert(obs))
    venv.close()


def clone(traces: TraceDataset) -> ActorCriticPolicy:
    """Train a policy on the steps of a trace. The trace knows the spaces of its environment."""
    policy = ActorCriticPolicy(traces.observation_space, traces.action_space, lambda _: 3e-3, net_arch=[32])
    loader = data_loader(traces.steps(), batch_size=64, seed=0)
    for _ in range(EPOCHS):
        for batch in loader:
            _, log_prob, entropy = policy.evaluate_actions(batch["obs"], batch["acts"])
            loss = -log_prob.mean() - 1e-3 * entropy.mean()
            policy.optimizer.zero_grad()
            loss.backward()
            policy.optimizer.step()
    return policy


def mean_return(policy: Any) -> float:
    """Mean return of a policy over 16 episodes; None: of random actions."""
    venv = make_vec_env("CartPole-v1", ENVS, seed=ENVS)
    best_action = policy is not None  # the policy's most likely action, not a random one
    rng = np.random.default_rng(0)
    episodes = generate_trajectories(policy, venv, make_min_episodes(16), rng, deterministic_policy=best_action)
    venv.close()
    return float(rollout_stats(episodes)["return_mean"])


def main(directory: Path) -> None:
    """Record, clone, compare."""
    torch.set_num_threads(1)  # threads slow down such a small network
    torch.manual_seed(0)
    record(directory)
    traces = open_traces(directory)
    print(traces)

    random, learned = mean_return(None), mean_return(clone(traces))
    print(f"mean return: {random:.0f} at random, {learned:.0f} after learning")
    assert learned > 10 * random


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        main(Path(folder))
