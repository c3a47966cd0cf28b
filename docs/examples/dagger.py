"""DAgger on CartPole: a small network learns to balance the pole from an expert's labels.

In each round, the expert and the learner take turns in eight environments while a `BufferingWrapper` records them. The
expert then labels every visited state with its own action, and the learner trains on all labels so far. The table shows
the return of the learner without the expert.

Source:
    Ross, Gordon & Bagnell (2011), "A Reduction of Imitation Learning and Structured Prediction to No-Regret Online
    Learning", algorithm 3.1.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

import gymnasium as gym
import numpy as np
import numpy.typing as npt
import torch
from rich.console import Group
from rich.live import Live
from rich.progress import Progress
from rich.table import Table
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.vec_env import VecEnv

from vecrollout import BufferingWrapper, generate_trajectories, make_min_episodes, rollout_stats

Array: TypeAlias = npt.NDArray[Any]
Expert: TypeAlias = Callable[[Array], Array]

ENVS = 8
STEPS = 64  # per round, in each environment
BATCHES = 24  # per round
BATCH_SIZE = 64


def cartpole_expert(obs: Array) -> Array:
    """Push the cart (0: left, 1: right) toward the side the pole is falling to."""
    angle, angular_velocity = obs[:, 2], obs[:, 3]
    return np.where(angle + 0.5 * angular_velocity > 0, 1, 0)


def train(learner: ActorCriticPolicy, obs: Array, labels: Array, rng: np.random.Generator) -> float:
    """Make the expert's actions more likely. Returns the mean loss."""
    losses = []
    for _ in range(BATCHES):
        batch = rng.integers(len(obs), size=BATCH_SIZE)
        distribution = learner.get_distribution(torch.as_tensor(obs[batch]))
        loss = -distribution.log_prob(torch.as_tensor(labels[batch])).mean()
        learner.optimizer.zero_grad()
        loss.backward()
        learner.optimizer.step()
        losses.append(loss.item())
    return float(np.mean(losses))


def returns(policy: Any, venv: VecEnv, rng: np.random.Generator) -> str:
    """Mean and standard deviation of a policy's return."""
    best_action = isinstance(policy, ActorCriticPolicy)  # the learner's most likely action, not a random one
    episodes = generate_trajectories(policy, venv, make_min_episodes(2 * ENVS), rng, deterministic_policy=best_action)
    stats = rollout_stats(episodes)
    return f"{stats['return_mean']:.0f} ± {stats['return_std']:.0f}"


def dagger(make_env: str | Callable[[], gym.Env[Any, Any]], expert: Expert, rounds: int, seed: int = 0) -> None:
    """Train a policy to act like the expert, and show its progress."""
    torch.set_num_threads(1)  # threads slow down such a small network
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    venv = BufferingWrapper(make_vec_env(make_env, ENVS, seed=seed))
    test_venv = make_vec_env(make_env, ENVS, seed=seed + ENVS)
    learner = ActorCriticPolicy(venv.observation_space, venv.action_space, lambda _: 3e-3, net_arch=[32])

    table = Table("round", "expert acts", "labels", "terminated", "truncated", "loss", "return")
    progress = Progress()
    task = progress.add_task("DAgger", total=rounds)
    with Live(Group(table, progress)):
        table.add_row("random", *[""] * 5, returns(None, test_venv, rng))
        obs: Any = venv.reset()
        states: list[Any] = []
        for n in range(rounds):
            beta = 0.5**n
            for _ in range(STEPS):
                by_expert = rng.random(ENVS) < beta
                obs, _, _, _ = venv.step(np.where(by_expert, expert(obs), learner.predict(obs)[0]))
            visited = venv.pop_transitions()
            states.append(visited.obs)
            dataset = np.concatenate(states)
            loss = train(learner, dataset, expert(dataset), rng)
            counts = len(dataset), visited.terminated.sum(), visited.truncated.sum()
            table.add_row(f"{n + 1}", f"{beta:.0%}", *map(str, counts), f"{loss:.2f}", returns(learner, test_venv, rng))
            progress.advance(task)
        table.add_row("expert", *[""] * 5, returns(lambda obs, *_: (expert(obs), None), test_venv, rng))
    venv.close()
    test_venv.close()


if __name__ == "__main__":
    dagger("CartPole-v1", cartpole_expert, rounds=15)
