"""A small decision transformer on CartPole: the return that it is asked for decides how well it plays.

Demonstrators of different skill are recorded to disk. The transformer learns from windows of steps: it sees the returns
that are still to come, the observations, and the actions so far, and predicts the next action. Asked for a high return,
it plays like the best demonstrator. Asked for a low one, it plays like the others.

Source:
    Chen et al. (2021), "Decision Transformer: Reinforcement Learning via Sequence Modeling", section 3.
"""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.env_util import make_vec_env
from torch import nn

from vecrollout import TraceDataset, open_traces, record_traces
from vecrollout.interop.torch import data_loader

ENVS, STEPS, LENGTH, BATCHES, SCALE = 8, 16_000, 8, 400, 100.0


class DecisionTransformer(nn.Module):
    """Predicts the action of each step from returns-to-go, observations, and the actions before it."""

    def __init__(self, size: int = 48) -> None:
        super().__init__()
        self.inputs = nn.ModuleList([nn.Linear(1, size), nn.Linear(4, size), nn.Embedding(2, size)])
        self.place = nn.Embedding(3 * LENGTH, size)
        layer = nn.TransformerEncoderLayer(size, 2, 2 * size, dropout=0.0, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, 2)
        self.output = nn.Linear(size, 2)

    def forward(self, returns: Any, obs: Any, acts: Any) -> Any:
        """Logits of actions, shape (B, T, 2)."""
        # Three tokens a step: return, observation, action.
        given = returns[..., None].float() / SCALE, obs, acts
        tokens = torch.stack([embed(each) for embed, each in zip(self.inputs, given, strict=True)], dim=2).flatten(1, 2)
        length = tokens.shape[1]
        # No token sees a later one. As padding comes after the steps, no step sees padding.
        future = torch.ones(length, length).triu(1).bool()
        hidden = self.layers(tokens + self.place.weight[:length], future)
        return self.output(hidden[:, 1::3])  # of the observations, each of which sees the actions before it


def record(directory: Path) -> None:
    """Record a demonstrator that is perfect in the first environment and acts at random in the last."""
    venv = record_traces(make_vec_env("CartPole-v1", ENVS, seed=0), directory)
    rng, mistakes = np.random.default_rng(0), np.linspace(0, 1, ENVS)
    obs: Any = venv.reset()
    for _ in range(STEPS // ENVS):
        best = np.where(obs[:, 2] + 0.5 * obs[:, 3] > 0, 1, 0)
        obs, *_ = venv.step(np.where(rng.random(ENVS) < mistakes, rng.integers(2, size=ENVS), best))
    venv.close()


def train(traces: TraceDataset) -> DecisionTransformer:
    """Learn to predict the actions of windows, one of which begins with each step."""
    model = DecisionTransformer()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    windows = traces.windows(LENGTH, pad="after", returns_to_go=1.0)
    loader = data_loader(windows, batch_size=128, seed=0)
    done = 0
    while done < BATCHES:
        for batch in loader:
            # A window has one observation more than steps.
            predicted = model(batch["returns_to_go"], batch["obs"][:, :-1], batch["acts"])
            mask = batch["mask"]  # False where a window reaches beyond the end of its episode
            loss = nn.functional.cross_entropy(predicted[mask], batch["acts"][mask])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            done += 1
    return model


def play(model: DecisionTransformer, asked: float) -> float:
    """Mean return over 16 episodes, one in each environment, if asked for a return."""
    venv = make_vec_env("CartPole-v1", 16, seed=ENVS)
    obs: Any = venv.reset()
    to_go, running, steps = np.full(16, asked), np.ones(16, bool), []
    while running.any():
        steps = [*steps[1 - LENGTH :], (to_go, obs, np.zeros(16, np.int64))]
        with torch.no_grad():
            logits = model(*(torch.as_tensor(np.stack(each, axis=1)) for each in zip(*steps, strict=True)))[:, -1]
        acts = torch.distributions.Categorical(logits=logits).sample().numpy()
        steps[-1] = to_go, obs, acts
        obs, rews, dones, _ = venv.step(acts)
        to_go = to_go - rews * running
        running &= ~dones
    venv.close()
    return float((asked - to_go).mean())


def main(directory: Path) -> None:
    """Record, train, play."""
    torch.set_num_threads(1)  # threads slow down such a small network
    torch.manual_seed(0)
    record(directory)
    traces = open_traces(directory)
    print(traces.summary())

    model = train(traces)
    returns = {asked: play(model, asked) for asked in (20, 500)}
    for asked, found in returns.items():
        print(f"asked for {asked}, mean return {found:.0f}")
    assert returns[500] > 200
    assert returns[20] < 100


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        main(Path(folder))
