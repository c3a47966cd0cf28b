"""DAgger on CartPole with four workers: as many steps as with one, in less time on more machines.

The learner of `dagger.py`, with the same expert, trains on what four processes collect. Only weights travel to the
workers. Each round is exactly as long with any number of workers. Run `python distributed_dagger.py 1` to
compare.
"""

import sys
import tempfile
from typing import Any

import numpy as np
import torch
from dagger import ENVS, STEPS, Array, cartpole_expert, train
from rich.console import Console
from rich.table import Table
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.policies import ActorCriticPolicy

from vecrollout import TrajectoryBatch, generate_trajectories, make_min_episodes, rollout_stats
from vecrollout.distributed import Collector, PolicyHandle

Weights = tuple[float, dict[str, Array]]


class Mixed:
    """Lets the expert act with some probability, else the learner."""

    def __init__(self, learner: ActorCriticPolicy) -> None:
        torch.set_num_threads(1)
        self.learner, self.beta = learner, 1.0
        self.rng = np.random.default_rng(0)

    def load(self, weights: Weights) -> None:
        self.beta, arrays = weights
        self.learner.load_state_dict({name: torch.tensor(array) for name, array in arrays.items()})

    def __call__(self, obs: Array, states: Any, starts: Any) -> tuple[Array, None]:
        by_expert = self.rng.random(len(obs)) < self.beta
        return np.where(by_expert, cartpole_expert(obs), self.learner.predict(obs)[0]), None


def distributed_dagger(num_workers: int, rounds: int, seed: int = 0) -> list[float]:
    """Train, and return the learner's mean return after each round."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    test_venv = make_vec_env("CartPole-v1", ENVS, seed=seed)
    learner = new_learner(test_venv.observation_space, test_venv.action_space)
    handle = PolicyHandle(new_mixed, Mixed.load)
    table = Table("round", "workers", "labels", "loss", "return")
    returns = []
    with (
        tempfile.TemporaryDirectory() as directory,
        Collector(
            "CartPole-v1", directory, num_workers=num_workers, num_envs=ENVS // num_workers, seed=seed
        ) as workers,
    ):
        states: list[Any] = []
        for n in range(rounds):
            handle.publish((0.5**n, {name: each.numpy() for name, each in learner.state_dict().items()}))
            visited = TrajectoryBatch.from_trajectories(workers.collect(handle, steps=STEPS * ENVS)).transitions()
            states.append(visited.obs)
            labeled = np.concatenate(states)
            loss = train(learner, labeled, cartpole_expert(labeled), rng)
            episodes = generate_trajectories(
                learner, test_venv, make_min_episodes(2 * ENVS), rng, deterministic_policy=True
            )
            returns.append(rollout_stats(episodes)["return_mean"])
            table.add_row(f"{n + 1}", f"{num_workers}", f"{len(labeled)}", f"{loss:.2f}", f"{returns[-1]:.0f}")
    Console().print(table)
    return returns


def new_learner(observation_space: Any, action_space: Any) -> ActorCriticPolicy:
    return ActorCriticPolicy(observation_space, action_space, lambda _: 3e-3, net_arch=[32])


def new_mixed(env: Any) -> Mixed:
    """The policy of a worker, before it has weights."""
    return Mixed(new_learner(env.single_observation_space, env.single_action_space))


if __name__ == "__main__":
    final = distributed_dagger(int(sys.argv[1]) if len(sys.argv) > 1 else 4, rounds=12)
    assert min(final[-3:]) > 400, final
