"""Returns of all episodes of a training, from its recording."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env

from figures.svg import Drawing
from vecrollout import TraceCallback, open_traces

STEPS, BEST, NEIGHBORS = 60_000, 500, 25


def returns() -> Drawing:
    """Train PPO on CartPole, and plot the return of each recorded episode over the steps before its end."""
    with tempfile.TemporaryDirectory() as folder:
        venv = make_vec_env("CartPole-v1", n_envs=8, seed=0)
        model = PPO(
            "MlpPolicy",
            venv,
            n_steps=32,
            batch_size=256,
            n_epochs=20,
            gamma=0.98,
            gae_lambda=0.8,
            learning_rate=lambda left: 1e-3 * left,
            clip_range=lambda left: 0.2 * left,
            seed=0,
            device="cpu",
        )
        model.learn(STEPS, callback=TraceCallback(Path(folder) / "training"))
        table = open_traces(Path(folder) / "training").to_arrow().to_pydict()
    ended = np.array([end == "terminated" or end == "truncated" for end in table["ended_by"]])
    lengths, envs, values = (np.array(table[name]) for name in ("length", "env", "return_"))
    # The environments step together: an episode ends at the sum of its environment's lengths so far.
    ends = np.zeros(len(lengths))
    for env in range(8):
        ends[envs == env] = np.cumsum(lengths[envs == env]) * 8
    order = np.argsort(ends[ended], kind="stable")
    x, y = ends[ended][order], values[ended][order]
    return _plot(x, y)


def _plot(x: np.ndarray, y: np.ndarray) -> Drawing:
    picture = Drawing(400, 236, f"Return of each of {len(x)} episodes while PPO learns CartPole")
    left, right, top, bottom = 44.0, 386.0, 34.0, 190.0

    def place(steps: float, value: float) -> tuple[float, float]:
        return left + (right - left) * steps / STEPS, bottom - (bottom - top) * value / BEST

    picture.text(12, 20, "return of each episode", anchor="start", size=12)
    for value in range(0, BEST + 1, 100):
        picture.line(place(0, value), place(STEPS, value), color="rest")
        picture.text(left - 6, place(0, value)[1] + 4, str(value), anchor="end", size=11, kind="soft")
    for steps in range(0, STEPS + 1, 20_000):
        picture.text(
            place(steps, 0)[0],
            bottom + 16,
            f"{steps:,}",
            anchor="middle" if steps < STEPS else "end",
            size=11,
            kind="soft",
        )
    picture.text((left + right) / 2, bottom + 34, "steps of all environments", size=12, kind="soft")
    picture.dots([place(*each) for each in zip(x, y, strict=True)], "soft")
    mean = np.convolve(y, np.ones(NEIGHBORS) / NEIGHBORS, mode="valid")
    middle = x[NEIGHBORS // 2 : NEIGHBORS // 2 + len(mean)]
    picture.line(*(place(*each) for each in zip(middle, mean, strict=True)), color="accent", width=2)
    picture.text(right, 20, f"mean of {NEIGHBORS} episodes", anchor="end", size=12, kind="soft")
    picture.line((right - 150, 16), (right - 130, 16), color="accent", width=2)
    return picture
