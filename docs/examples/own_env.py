"""DAgger on an environment of your own. The training loop comes from `dagger.py`."""

from typing import Any

import gymnasium as gym
import numpy as np
from dagger import Array, dagger


class Docking(gym.Env[Array, np.int64]):
    """Bring a ship to rest at the dock, at position 0. Replace this class with your own environment."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (2,), np.float32)  # position, velocity
    action_space = gym.spaces.Discrete(3)  # thrust: backward, none, forward

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Array, dict[str, Any]]:
        super().reset(seed=seed)
        self.ship = self.np_random.uniform([-5, -1], [5, 1])
        return self.ship.astype(np.float32), {}

    def step(self, action: np.int64) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        position, velocity = self.ship
        velocity += 0.2 * (action - 1)
        self.ship = np.array([position + 0.2 * velocity, velocity])
        docked, lost = bool(np.abs(self.ship).max() < 0.2), bool(abs(position) > 10)
        return self.ship.astype(np.float32), 100 * docked - 1.0, docked or lost, False, {}


# The swap: a function that makes the environment, and its expert.
def make_docking() -> gym.Env[Any, Any]:
    return gym.wrappers.TimeLimit(Docking(), max_episode_steps=200)


def docking_expert(obs: Array) -> Array:
    position, velocity = obs[:, 0], obs[:, 1]
    return np.where(position + 2 * velocity > 0, 0, 2)


if __name__ == "__main__":
    dagger(make_docking, docking_expert, rounds=8)
