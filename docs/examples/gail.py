"""GAIL on CartPole: imitation's algorithm learns from a recording, and its own training is recorded too.

An expert is recorded to disk, and `to_imitation` turns the episodes into imitation's own. A second recorder lies below
GAIL. It records what the generator does in training, so that the trace shows how it has learned.

Source:
    Ho & Ermon (2016), "Generative Adversarial Imitation Learning", algorithm 1.
"""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from imitation.algorithms.adversarial.gail import GAIL
from imitation.rewards.reward_nets import BasicRewardNet
from imitation.util import logger
from imitation.util.networks import RunningNorm
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env

from vecrollout import open_traces, record_traces
from vecrollout.interop.imitation import to_imitation

ENVS, DEMONSTRATIONS, STEPS = 8, 4_000, 20_000


def record(directory: Path) -> None:
    """Record an expert, which pushes the cart (0: left, 1: right) toward the side the pole is falling to."""
    venv = record_traces(make_vec_env("CartPole-v1", ENVS, seed=0), directory)
    obs: Any = venv.reset()
    for _ in range(DEMONSTRATIONS // ENVS):
        obs, *_ = venv.step(np.where(obs[:, 2] + 0.5 * obs[:, 3] > 0, 1, 0))
    venv.close()


def main(directory: Path) -> None:
    """Record, train, look at the recorded training."""
    torch.set_num_threads(1)  # threads slow down such small networks
    record(directory / "expert")
    demonstrations = to_imitation(open_traces(directory / "expert"))

    venv = record_traces(make_vec_env("CartPole-v1", ENVS, seed=ENVS), directory / "training")
    spaces = venv.observation_space, venv.action_space
    trainer = GAIL(
        demonstrations=demonstrations,
        demo_batch_size=512,
        n_disc_updates_per_round=4,
        venv=venv,
        gen_algo=PPO(
            "MlpPolicy",
            venv,
            learning_rate=1e-3,
            n_steps=128,
            batch_size=64,
            n_epochs=8,
            gamma=0.95,
            seed=0,
            device="cpu",
        ),
        reward_net=BasicRewardNet(*spaces, normalize_input_layer=RunningNorm),
        allow_variable_horizon=True,  # an episode of CartPole ends where the pole falls
        log_dir=directory / "log",
        custom_logger=logger.configure(directory / "log", []),
    )
    trainer.train(STEPS)
    venv.close()

    training = open_traces(directory / "training").whole_episodes()
    returns = training.to_arrow()["return_"].to_numpy()  # in the order in which the episodes began
    first, last = returns[:20].mean(), returns[-20:].mean()
    print(f"{training.total_steps} steps of training, mean return: {first:.0f} at first, {last:.0f} at last")
    assert last > 3 * first


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        main(Path(folder))
