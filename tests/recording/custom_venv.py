"""A vector environment of one's own, as users write them: it keeps to the letter of the interface, and to no more."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from plain_recorder import stacked
from stable_baselines3.common.vec_env import VecEnv


class CustomVecEnv(VecEnv):
    """Steps environments one by one; observations may nest, and `alter` may change what a step returns.

    Args:
        env_fns: Functions that make the environments.
        alter: Takes the list `[obs, rews, dones, infos]` and returns what is to be returned in its place.
        reuses_arrays: Whether observations, rewards and dones are the same arrays at every step.
    """

    def __init__(
        self,
        env_fns: Sequence[Callable[[], Any]],
        alter: Callable[[list[Any]], Any] = tuple,
        reuses_arrays: bool = False,
    ) -> None:
        self.envs = [env_fn() for env_fn in env_fns]
        super().__init__(len(self.envs), self.envs[0].observation_space, self.envs[0].action_space)
        self.alter = alter
        self.kept: list[Any] | None = [] if reuses_arrays else None

    def reset(self) -> Any:
        begun = [env.reset(seed=seed) for env, seed in zip(self.envs, self._seeds, strict=True)]
        self._reset_seeds()
        self.reset_infos = [info for _, info in begun]
        return self.own([stacked([obs for obs, _ in begun])])[0]

    def step_async(self, actions: Any) -> None:
        self.actions = actions

    def step_wait(self) -> Any:
        returned = []
        for i, env in enumerate(self.envs):
            obs, rew, terminated, truncated, info = env.step(self.actions[i])
            info["TimeLimit.truncated"] = truncated and not terminated
            if terminated or truncated:
                info["terminal_observation"] = obs
                obs, self.reset_infos[i] = env.reset()
            returned.append((obs, np.float32(rew), terminated or truncated, info))
        observations, rews, dones, infos = zip(*returned, strict=True)
        arrays = self.own([stacked(list(observations)), np.stack(rews), np.array(dones)])
        return self.alter([*arrays, list(infos)])

    def own(self, arrays: list[Any]) -> list[Any]:
        if self.kept is None:
            return arrays
        for i, array in enumerate(arrays):
            if i == len(self.kept):
                self.kept.append(array)
            fill(self.kept[i], array)
        return self.kept[: len(arrays)]

    def close(self) -> None:
        pass

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        return [getattr(self.envs[i], attr_name) for i in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        for i in self._get_indices(indices):
            setattr(self.envs[i], attr_name, value)

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> list[Any]:
        return [getattr(self.envs[i], method_name)(*args, **kwargs) for i in self._get_indices(indices)]

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        return [False for _ in self._get_indices(indices)]


def fill(target: Any, source: Any) -> None:
    if isinstance(target, np.ndarray):
        target[...] = source
    else:
        for key in target if isinstance(target, dict) else range(len(target)):
            fill(target[key], source[key])
