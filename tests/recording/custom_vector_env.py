"""A Gymnasium vector environment of one's own, as users and engines write them: it says nothing of its rule."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector.utils import batch_space
from plain_recorder import stacked


class CustomVectorEnv(gym.vector.VectorEnv):
    """Resets environments in the step that ends their episodes, or in the next one.

    Args:
        env_fns: Functions that make the environments.
        rule: `"same_step"` or `"next_step"`.
        alter: Takes the list `[obs, rews, terminated, truncated, infos]` and returns what is to be returned in its
            place. In the infos, `"last"` has the last observations, one an environment, None for running ones.
        reuses_arrays: Whether observations, rewards and flags are the same arrays at every step.
    """

    def __init__(
        self,
        env_fns: Sequence[Callable[[], Any]],
        rule: str = "same_step",
        alter: Callable[[list[Any]], Any] = tuple,
        reuses_arrays: bool = False,
    ) -> None:
        self.envs = [env_fn() for env_fn in env_fns]
        self.num_envs = len(self.envs)
        self.single_observation_space = self.envs[0].observation_space
        self.single_action_space = self.envs[0].action_space
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self.closed = False
        self.rule = rule
        self.alter = alter
        self.reuses_arrays = reuses_arrays
        self.kept: list[np.ndarray] = []
        self.over = np.zeros(self.num_envs, dtype=bool)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        begun = [env.reset(seed=None if seed is None else seed + i) for i, env in enumerate(self.envs)]
        self.over[:] = False
        self.observed = [obs for obs, _ in begun]
        return self.own([batched(self.observed)])[0], {}

    def step(self, actions: Any) -> Any:
        self.actions = actions
        rews = np.zeros(self.num_envs)
        terminated, truncated = np.zeros((2, self.num_envs), dtype=bool)
        last = np.full(self.num_envs, None, dtype=object)
        for i, env in enumerate(self.envs):
            if self.over[i]:
                self.observed[i], _ = env.reset()
                continue
            self.observed[i], rews[i], terminated[i], truncated[i], _ = env.step(actions[i])
            if (terminated[i] or truncated[i]) and self.rule == "same_step":
                last[i] = self.observed[i]
                self.observed[i], _ = env.reset()
        if self.rule == "next_step":
            self.over = terminated | truncated
        arrays = self.own([batched(self.observed), rews, terminated, truncated])
        return self.alter([*arrays, {"last": last}])

    def own(self, arrays: list[Any]) -> list[Any]:
        if not self.reuses_arrays:
            return arrays
        for i, array in enumerate(arrays):
            if i == len(self.kept):
                self.kept.append(array)
            self.kept[i][...] = array
        return self.kept[: len(arrays)]

    def close(self, **kwargs: Any) -> None:
        self.closed = True


def batched(observed: list[Any]) -> Any:
    """As Gymnasium has it: texts are a tuple of texts."""
    return tuple(observed) if isinstance(observed[0], str) else stacked(observed)


def with_final_obs(key: str = "final_obs") -> Callable[[list[Any]], Any]:
    """The last observations where Gymnasium keeps them."""

    def alter(step: list[Any]) -> Any:
        last = step[-1].pop("last")
        is_there = np.array([each is not None for each in last])
        if is_there.any():
            step[-1].update({key: last, f"_{key}": is_there})
        return tuple(step)

    return alter
