"""Batched environments: a `gymnasium.Env` that steps many environments at a time, as GPU simulators do."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from vecrollout._typing import Info


class BatchedEnv(gym.vector.VectorEnv):
    """A batched `gymnasium.Env` with the interface of a `VectorEnv`, which Gymnasium's wrappers insist on.

    Args:
        env: The environment, or a wrapper around it.
        single_spaces: Observation and action space of each of its environments.

    Source:
        `isaaclab.envs.ManagerBasedRLEnv` (Isaac Lab 2), `mani_skill.envs.BaseEnv` (ManiSkill 3).
    """

    def __init__(self, env: gym.Env[Any, Any], single_spaces: tuple[spaces.Space[Any], spaces.Space[Any]]) -> None:
        self.env = env
        base: Any = env.unwrapped
        self.num_envs = int(base.num_envs)
        self.single_observation_space, self.single_action_space = single_spaces
        self.observation_space, self.action_space = env.observation_space, env.action_space
        self.metadata = env.metadata
        self.spec = env.spec
        self.render_mode = env.render_mode

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, Info]:
        """Reset the environments."""
        return self.env.reset(seed=seed, options=options)

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, Info]:
        """Step the environments."""
        return self.env.step(actions)

    def render(self) -> Any:
        """Render the environments."""
        return self.env.render()

    def close(self, **kwargs: Any) -> None:
        """Close the environments."""
        self.env.close(**kwargs)

    @property
    def unwrapped(self) -> Any:
        """The environment without wrappers."""
        return self.env.unwrapped

    def __getattr__(self, name: str) -> Any:
        if name == "env" or name.startswith("_"):
            raise AttributeError(name)
        return getattr(self.env, name)

    def __del__(self) -> None:
        # VectorEnv closes here. The environment may still be in use.
        pass


def single_space(space: spaces.Space[Any], num_envs: int) -> spaces.Space[Any] | None:
    """The space of one environment in a batched space, such as `batch_space` makes; None if the space has other rows.

    Source:
        `gymnasium.vector.utils.batch_space`, of which this is the inverse.
    """
    if isinstance(space, spaces.Dict):
        found = {key: single_space(each, num_envs) for key, each in space.spaces.items()}
        known = {key: each for key, each in found.items() if each is not None}
        return spaces.Dict(known) if len(known) == len(found) else None
    if isinstance(space, spaces.Tuple):
        parts = [each for each in (single_space(part, num_envs) for part in space.spaces) if each is not None]
        return spaces.Tuple(parts) if len(parts) == len(space.spaces) else None
    if space.shape is None or space.shape[:1] != (num_envs,):
        return None
    if isinstance(space, spaces.Box):
        return spaces.Box(space.low[0], space.high[0], space.shape[1:], space.dtype)
    if isinstance(space, spaces.MultiBinary):
        return spaces.MultiBinary(space.shape[1:]) if space.shape[1:] else spaces.Discrete(2)
    if isinstance(space, spaces.MultiDiscrete):
        counts, starts = space.nvec[0], getattr(space, "start", np.zeros_like(space.nvec))[0]
        if np.ndim(counts):
            return spaces.MultiDiscrete(counts, dtype=space.dtype, start=starts)
        return spaces.Discrete(int(counts), start=int(starts))
    return None
