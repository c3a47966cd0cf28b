"""What is recorded: scripts of ready-made steps, and an environment that plays them at almost no cost."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv

Obs = Any
"""An array whose first axis is the environment, or a dict of them."""
Step = tuple[Obs, np.ndarray, np.ndarray, list[dict[str, Any]]]
"""What `VecEnv.step` returns: observations, rewards, dones, infos."""


@dataclass(frozen=True)
class Workload:
    """The shape of a recording."""

    name: str
    num_envs: int
    observation_space: spaces.Space[Any]
    action_space: spaces.Space[Any]
    episode_length: int
    """Steps of every episode; the environments end theirs at different times."""
    steps: int
    """Steps of one run, of all environments at once."""


def _vector(size: int, dtype: type[np.floating[Any]]) -> spaces.Box:
    return spaces.Box(-np.inf, np.inf, (size,), dtype)


def _image(*shape: int) -> spaces.Box:
    return spaces.Box(0, 255, shape, np.uint8)


_CARTPOLE = _vector(4, np.float32)
_MUJOCO = _vector(376, np.float64)
_ATARI = _image(4, 84, 84)
_CAMERA = spaces.Dict({"image": _image(84, 84, 3), "state": _vector(12, np.float32)})
_TORQUES = spaces.Box(-1.0, 1.0, (17,), np.float32)

WORKLOADS: dict[str, Workload] = {
    workload.name: workload
    for workload in (
        Workload("cp8", 8, _CARTPOLE, spaces.Discrete(2), 200, 5_000),
        Workload("cp8 short", 8, _CARTPOLE, spaces.Discrete(2), 22, 5_000),
        Workload("cp64", 64, _CARTPOLE, spaces.Discrete(2), 200, 1_000),
        Workload("cp64 short", 64, _CARTPOLE, spaces.Discrete(2), 22, 1_000),
        Workload("cp1024", 1024, _CARTPOLE, spaces.Discrete(2), 200, 300),
        Workload("mj64", 64, _MUJOCO, _TORQUES, 1000, 1_000),
        Workload("at8", 8, _ATARI, spaces.Discrete(6), 500, 1_000),
        Workload("at64", 64, _ATARI, spaces.Discrete(6), 500, 500),
        Workload("dict8", 8, _CAMERA, _TORQUES, 500, 1_000),
    )
}


@dataclass(frozen=True)
class Script:
    """What an environment and its policy will say in a run, made before the clock starts.

    Rewards, dones and info dicts are every step's own. Observations come from a pool, since an environment hands out
    copies of them anyway.
    """

    workload: Workload
    first_obs: Obs
    actions: list[np.ndarray]
    steps: list[Step]

    @property
    def transitions(self) -> int:
        """Transitions of the whole script."""
        return len(self.steps) * self.workload.num_envs

    @property
    def raw_bytes(self) -> int:
        """Bytes of all observations, actions and rewards: what a recording cannot do without."""
        obs, rews, _, _ = self.steps[0]
        return (_size_bytes(obs) + self.actions[0].nbytes + rews.nbytes) * len(self.steps)


_POOL_BYTES = 64 << 20
"""Size of the pool of observations, far larger than a processor's own caches."""


def write_script(workload: Workload, steps: int | None = None, seed: int = 0) -> Script:
    """Make the steps of a run, as many as the workload says unless given; the same arguments give the same script."""
    rng = np.random.default_rng(seed)
    count = workload.steps if steps is None else steps
    num_envs = workload.num_envs
    first_obs = _batch(workload.observation_space, num_envs, rng)
    pool_size = min(count, max(8, _POOL_BYTES // _size_bytes(first_obs)))
    pool = [_batch(workload.observation_space, num_envs, rng) for _ in range(pool_size)]
    offsets = np.arange(num_envs) * workload.episode_length // num_envs
    return Script(
        workload=workload,
        first_obs=first_obs,
        actions=[_batch(workload.action_space, num_envs, rng) for _ in range(count)],
        steps=[
            _step(workload, pool[t % len(pool)], (t + offsets) % workload.episode_length, rng) for t in range(count)
        ],
    )


def _step(workload: Workload, obs: Obs, episode_steps: np.ndarray, rng: np.random.Generator) -> Step:
    dones = episode_steps == workload.episode_length - 1
    infos: list[dict[str, Any]] = [{"TimeLimit.truncated": False} for _ in range(workload.num_envs)]
    for env_index in np.flatnonzero(dones).tolist():
        infos[env_index] = {
            "episode": {"r": 1.0, "l": workload.episode_length, "t": 1.0},
            "TimeLimit.truncated": env_index % 2 == 1,
            "terminal_observation": _one(workload.observation_space, rng),
        }
    return obs, rng.random(workload.num_envs, np.float32), dones, infos


def _size_bytes(obs: Obs) -> int:
    parts: Iterable[np.ndarray] = obs.values() if isinstance(obs, dict) else [obs]
    return sum(part.nbytes for part in parts)


def item_shape(space: spaces.Space[Any]) -> tuple[int, ...]:
    """Shape of one observation or action; `()` for an integer."""
    return tuple(space.shape or ())


def _batch(space: spaces.Space[Any], num_envs: int, rng: np.random.Generator) -> Any:
    if isinstance(space, spaces.Dict):
        return {key: _batch(part, num_envs, rng) for key, part in space.items()}
    if isinstance(space, spaces.Discrete):
        return rng.integers(space.n, size=num_envs)
    shape, dtype = (num_envs, *item_shape(space)), np.dtype(space.dtype or np.float64)
    if dtype.kind == "f":
        return rng.random(shape).astype(dtype)
    return rng.integers(256, size=shape, dtype=dtype)


def _one(space: spaces.Space[Any], rng: np.random.Generator) -> Any:
    batch = _batch(space, 1, rng)
    return {key: part[0] for key, part in batch.items()} if isinstance(batch, dict) else batch[0]


class ScriptedVecEnv(VecEnv):
    """Plays a script, over and over: a step costs a look at the actions, and a copy of all that it returns.

    `DummyVecEnv` makes these copies too, and they matter. One array again and again would be read from the processor's
    cache; arrays made ahead would give a recorder that keeps references its memory for nothing; and what no one has
    touched for long is slow to read, which real data, just made, is not.
    """

    def __init__(self, script: Script) -> None:
        workload = script.workload
        super().__init__(workload.num_envs, workload.observation_space, workload.action_space)
        self._script = script
        self._steps: Iterator[Step] = iter(())
        self._is_dict = isinstance(workload.observation_space, spaces.Dict)

    def reset(self) -> Obs:
        """Return the first observation; the script starts over."""
        self._steps = cycle(self._script.steps)
        return self._script.first_obs

    def step_async(self, actions: np.ndarray) -> None:
        """Read the actions, as an environment does."""
        actions.copy()

    def step_wait(self) -> Step:
        """Return the script's next step."""
        obs, rews, dones, infos = next(self._steps)
        fresh = {key: part.copy() for key, part in obs.items()} if self._is_dict else obs.copy()
        return fresh, rews.copy(), dones.copy(), infos.copy()

    def close(self) -> None:
        pass

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        return [None] * self.num_envs

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        pass

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> list[Any]:
        return [None] * self.num_envs

    def env_is_wrapped(self, wrapper_class: type[Any], indices: Any = None) -> list[bool]:
        return [False] * self.num_envs

    def get_images(self) -> Sequence[np.ndarray | None]:
        return [None] * self.num_envs
