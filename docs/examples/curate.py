"""Curate a recording: look at it, drop the worst tenth of the episodes, split the rest, and train on it."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import torch
from stable_baselines3.common.env_util import make_vec_env

from vecrollout import generate_trajectories, make_sample_until, open_traces, record_traces
from vecrollout.interop.torch import data_loader

STEPS, EPOCHS = 8_000, 8


def demonstrator(rng: np.random.Generator) -> Any:
    """A policy that balances the pole, and makes more mistakes in some environments than in others."""
    mistakes = np.linspace(0.0, 0.6, 8)

    def act(obs: Any) -> Any:
        best = np.where(obs[:, 2] + 0.5 * obs[:, 3] > 0, 1, 0)
        return np.where(rng.random(len(obs)) < mistakes[: len(obs)], rng.integers(2, size=len(obs)), best)

    return act


def record(directory: Path) -> None:
    """Record the demonstrator in eight environments."""
    venv = record_traces(make_vec_env("CartPole-v1", n_envs=8, seed=0), directory)
    act, obs = demonstrator(np.random.default_rng(0)), venv.reset()
    for _ in range(STEPS // 8):
        obs, *_ = venv.step(act(obs))
    venv.close()


def train(steps: Any) -> torch.nn.Module:
    """Clone the behavior: predict the action of each step."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 64), torch.nn.Tanh(), torch.nn.Linear(64, 2))
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    loader = data_loader(steps, batch_size=64, seed=0)
    for _ in range(EPOCHS):
        for batch in loader:
            loss = torch.nn.functional.cross_entropy(model(batch["obs"]), batch["acts"])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model


def accuracy(model: torch.nn.Module, steps: Any) -> float:
    """How often the model takes the action of the recording."""
    batch = steps[:]
    with torch.no_grad():
        chosen = model(torch.as_tensor(batch.obs)).argmax(1).numpy()
    return float((chosen == batch.acts).mean())


def main(directory: Path) -> None:
    """Record, look, curate, train."""
    record(directory / "recorded")
    traces = open_traces(directory / "recorded")
    print(traces.summary())

    # Whole episodes only, without the worst tenth.
    episodes = traces.whole_episodes()
    worst = float(np.quantile(episodes.to_arrow()["return_"], 0.1))
    good = episodes.filter(pc.field("return_") > worst)
    print(f"\nkept {len(good)} of {len(episodes)} episodes, those with a return above {worst:g}")

    # The kept episodes as a trace of their own, which is smaller than the recording.
    curated = good.write(directory / "curated")
    parts = curated.split({"train": 0.8, "val": 0.2}, np.random.default_rng(0))
    print({name: f"{len(part)} episodes, {part.total_steps} steps" for name, part in parts.items()})

    model = train(parts["train"].steps())
    print(f"accuracy on unseen episodes: {accuracy(model, parts['val'].steps()):.2f}")

    def learned(obs: Any, states: Any, starts: Any) -> Any:
        with torch.no_grad():
            return model(torch.as_tensor(obs)).argmax(1).numpy(), None

    venv = make_vec_env("CartPole-v1", n_envs=4, seed=1)
    enough = make_sample_until(min_episodes=8)
    tested = generate_trajectories(learned, venv, enough, np.random.default_rng(0))
    print(f"mean return of the learned policy: {np.mean([each.rews.sum() for each in tested]):.0f}")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        main(Path(folder))
