"""Episodes to write and to read: Atari frames that compress as frames do, and many short ones of CartPole."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np


@dataclass(frozen=True)
class Episodes:
    """Some episodes, each of them with as many steps."""

    name: str
    obs: list[np.ndarray]
    """Of each episode, shape `(T + 1, ...)`."""
    acts: list[np.ndarray]
    rews: list[np.ndarray]

    @property
    def steps(self) -> int:
        """Steps of all episodes."""
        return sum(map(len, self.acts))

    @property
    def size_bytes(self) -> int:
        """Bytes of all arrays."""
        return sum(array.nbytes for arrays in (self.obs, self.acts, self.rews) for array in arrays)


@lru_cache
def atari(episodes: int = 20, steps: int = 500) -> Episodes:
    """Stacks of four frames of 84 x 84, in which a few things move over a background that stays."""
    rng = np.random.default_rng(0)
    background = np.repeat(np.repeat(rng.integers(0, 90, (21, 7), np.uint8), 4, axis=0), 12, axis=1)
    places = rng.integers(0, 76, (episodes, 5, 2))
    speeds = rng.integers(-2, 3, (episodes, 5, 2))
    obs = []
    for episode in range(episodes):
        frames = np.tile(background, (steps + 4, 1, 1))
        for t in range(steps + 4):
            for y, x in (places[episode] + t * speeds[episode]) % 76:
                frames[t, y : y + 8, x : x + 8] = 200
        obs.append(_read_only(np.stack([frames[i : i + steps + 1] for i in range(4)], axis=1)))
    return _episodes("Atari", obs, steps, 6, rng)


@lru_cache
def cartpole(episodes: int = 5_000, steps: int = 200) -> Episodes:
    """Observations of four float32."""
    rng = np.random.default_rng(0)
    obs = [_read_only(rng.standard_normal((steps + 1, 4), np.float32)) for _ in range(episodes)]
    return _episodes(f"CartPole, {steps} steps", obs, steps, 2, rng)


def _episodes(name: str, obs: list[np.ndarray], steps: int, actions: int, rng: np.random.Generator) -> Episodes:
    acts = [_read_only(rng.integers(actions, size=steps)) for _ in obs]
    rews = [_read_only(rng.standard_normal(steps, np.float32)) for _ in obs]
    return Episodes(name, obs, acts, rews)


def _read_only(array: np.ndarray) -> np.ndarray:
    # Like those that a recorder hands out: nobody else can change them, so that a writer need not copy them.
    array.flags.writeable = False
    return array
