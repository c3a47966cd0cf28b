"""SAC on Pendulum from demonstrations: a recording fills the replay buffer before the first step.

A controller that swings the pendulum up, and makes many mistakes, is recorded to disk. `to_replay_buffer` puts its
steps into the replay buffer of SAC, in the form in which Stable-Baselines3 itself stores them. SAC then learns from the
demonstrations and from its own steps, and becomes better than the controller.
"""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stable_baselines3 import SAC
from stable_baselines3.common.env_util import make_vec_env

from vecrollout import generate_trajectories, make_min_episodes, open_traces, record_traces, rollout_stats
from vecrollout.interop.sb3 import to_replay_buffer

ENVS, DEMONSTRATIONS, STEPS = 4, 8_000, 1_500


def controller(obs: Any, rng: np.random.Generator) -> Any:
    """Pump energy into the pendulum until it is up, then hold it there. The noise shows SAC more of the environment."""
    cos, sin, speed = obs.T
    swing = 2 * np.sign(speed * (1 - speed**2 / 60 - cos) + 1e-3)
    torque = np.where(cos > 0.9, -12 * sin - 3 * speed, swing) + rng.normal(0, 0.7, len(obs))
    return np.clip(torque, -2, 2)[:, None].astype(np.float32)


def record(directory: Path) -> None:
    """Record the controller to disk."""
    venv = record_traces(make_vec_env("Pendulum-v1", ENVS, seed=0), directory)
    rng = np.random.default_rng(0)
    obs: Any = venv.reset()
    for _ in range(DEMONSTRATIONS // ENVS):
        obs, *_ = venv.step(controller(obs, rng))
    venv.close()


def mean_return(model: SAC) -> float:
    """Mean return over ten episodes, without exploration."""
    venv = make_vec_env("Pendulum-v1", 10, seed=ENVS)
    rng = np.random.default_rng(0)
    episodes = generate_trajectories(model, venv, make_min_episodes(10), rng, deterministic_policy=True)
    venv.close()
    return float(rollout_stats(episodes)["return_mean"])


def main(directory: Path) -> None:
    """Record, fill the buffer, learn."""
    torch.set_num_threads(1)  # threads slow down such small networks
    record(directory)
    traces = open_traces(directory)

    model = SAC(
        "MlpPolicy",
        "Pendulum-v1",
        learning_starts=0,  # SAC learns from the first step on
        learning_rate=3e-3,
        gamma=0.95,
        tau=0.02,
        ent_coef=0.05,
        policy_kwargs={"net_arch": [64, 64]},
        seed=0,
        device="cpu",
    )
    report = to_replay_buffer(traces, model.replay_buffer)
    print(report)
    assert report.steps == DEMONSTRATIONS
    before = mean_return(model)
    model.learn(STEPS)

    shown, after = rollout_stats(traces)["return_mean"], mean_return(model)
    print(f"mean return: {shown:.0f} of the demonstrations, {before:.0f} before learning, {after:.0f} after it")
    assert after > max(before, shown) + 150


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        main(Path(folder))
