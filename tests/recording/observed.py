"""What passes a place between wrappers, by plain lists: kept from what `reset` and `step` returned there."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
from plain_recorder import stacked

from vecrollout.testing import assert_same


class Observed:
    """Drives a vector environment and keeps copies of all that it was given and gave."""

    def __init__(self, venv: Any) -> None:
        self.venv = venv
        self.finished: list[dict[str, Any]] = []
        self.running = [self.begun(row) for row in self.rows(venv.reset())]

    def rows(self, batch: Any) -> list[Any]:
        return [copy.deepcopy(row(batch, env)) for env in range(self.venv.num_envs)]

    def begun(self, obs: Any) -> dict[str, Any]:
        return {"obs": [obs], "acts": [], "rews": [], "infos": [], "terminal": False}

    def step(self, actions: Any) -> None:
        taken = self.rows(actions)
        obs, rews, dones, infos = self.venv.step(actions)
        for env, (first, info) in enumerate(zip(self.rows(obs), copy.deepcopy(list(infos)), strict=True)):
            run = self.running[env]
            run["obs"].append(info["terminal_observation"] if dones[env] else first)
            run["acts"].append(taken[env])
            run["rews"].append(rews[env])
            run["infos"].append(info)
            if dones[env]:
                run["terminal"] = True
                self.finished.append(run)
                self.running[env] = self.begun(first)

    def assert_recorded(self, trajectories: Sequence[Any]) -> None:
        """Assert that these are the trajectories of everything that passed."""
        runs = self.finished + [run for run in self.running if run["acts"]]
        assert len(trajectories) == len(runs)
        for trajectory, run in zip(trajectories, runs, strict=True):
            assert_same(trajectory.obs, stacked(run["obs"]), "obs")
            assert_same(trajectory.acts, np.stack(run["acts"]), "acts")
            assert_same(trajectory.rews, np.stack(run["rews"]), "rews")
            assert_same(list(trajectory.infos), run["infos"], "infos")
            assert_same(trajectory.terminal, run["terminal"], "terminal")


def row(batch: Any, env: int) -> Any:
    if isinstance(batch, dict):
        return {key: row(child, env) for key, child in batch.items()}
    return tuple(row(child, env) for child in batch) if isinstance(batch, tuple) else batch[env]
