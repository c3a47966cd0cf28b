"""Episodes to write and to read: Atari frames that compress as frames do, and many of CartPole."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from benchmarks.options import scaled


@dataclass(frozen=True)
class Episodes:
    """The arrays of some episodes."""

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


ATARI, LONG, SHORT = "Atari", "CartPole, 200 steps", "CartPole, 22 steps"
COMPRESSIONS = ("zstd", None)


@lru_cache
def episodes_of(name: str, is_quick: bool) -> Episodes:
    """Episodes of a kind, as many as make a measurement steady."""
    if name == ATARI:
        return atari(scaled(20, is_quick, 2), scaled(500, is_quick, 20))
    return cartpole(scaled(5_000, is_quick), 200) if name == LONG else cartpole(scaled(30_000, is_quick), 22)


def atari(episodes: int, steps: int) -> Episodes:
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
    return _with_actions(obs, steps, 6, rng)


def cartpole(episodes: int, steps: int) -> Episodes:
    """Observations of four float32."""
    rng = np.random.default_rng(0)
    obs = [_read_only(rng.standard_normal((steps + 1, 4), np.float32)) for _ in range(episodes)]
    return _with_actions(obs, steps, 2, rng)


def trajectories_of(episodes: Episodes) -> list[Any]:
    """The episodes as trajectories without infos."""
    from vecrollout import Episode, TrajectoryWithRew

    return [
        TrajectoryWithRew(obs, acts, None, True, rews=rews, episode=Episode(i, 0, ended_by="terminated"))
        for i, (obs, acts, rews) in enumerate(zip(episodes.obs, episodes.acts, episodes.rews, strict=True))
    ]


def episodes_from(trajectories: Iterable[Any]) -> Episodes:
    """Trajectories as episodes with arrays of their own."""
    columns = zip(*((each.obs, each.acts, each.rews) for each in trajectories), strict=True)
    return Episodes(*([_read_only(np.array(array)) for array in column] for column in columns))


def _with_actions(obs: list[np.ndarray], steps: int, actions: int, rng: np.random.Generator) -> Episodes:
    acts = [_read_only(rng.integers(actions, size=steps)) for _ in obs]
    rews = [_read_only(rng.standard_normal(steps, np.float32)) for _ in obs]
    return Episodes(obs, acts, rews)


def _read_only(array: np.ndarray) -> np.ndarray:
    # Like the arrays of a recorder: a writer need not copy what nobody can change.
    array.flags.writeable = False
    return array
