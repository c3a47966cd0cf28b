"""Environments that count: the observation is the number of the step."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import gymnasium as gym
import numpy as np

from vecrollout.errors import ProtocolError
from vecrollout.testing.plain_trees import fill
from vecrollout.testing.spaces import NUMBERS, element_of, space_of


class EpisodeScript(NamedTuple):
    """Length and ending of an episode."""

    steps: int
    """Number of steps, at least 1."""

    ending: Literal["terminated", "truncated", "both"] = "terminated"
    """Flags of the last step."""

    @property
    def terminated(self) -> bool:
        """Whether the last step reaches a terminal state."""
        return self.ending != "truncated"

    @property
    def truncated(self) -> bool:
        """Whether the episode is cut short at the last step."""
        return self.ending != "terminated"


class ScriptedError(Exception):
    """A `CountingEnv` failed because `fail_next` was set."""


class CountingEnv(gym.Env[Any, Any]):
    """An environment that counts its steps, with episodes by a script.

    After t steps of episode k (both count from 0) the number is `first + k * stride + t`. The observation is
    `element_of(observation_space, number % 256)`. The step that led to it has the reward `number + 0.5` and the info
    `{"t": t}`. A reset's info is `{"episode": k, "seed": seed}`, with `"options"` if options are given. Actions have no
    effect.

    Args:
        space: Observation space, or its name in `SPACES`.
        episodes: Scripts of the episodes. After the last script comes the first again.
        action_space: Action space, or its name in `SPACES`.
        first: Number of the first episode's first observation.
        stride: Difference between the first numbers of two successive episodes.
        reuse_obs: Return the same arrays (and dict) at every step, with new values. Texts are always new.
        reuse_info: Return the same info dict at every step and reset. Entries of others stay in it.
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012  # as gymnasium declares it

    def __init__(
        self,
        space: str | gym.Space[Any] = "box",
        episodes: Sequence[EpisodeScript] = (EpisodeScript(3),),
        *,
        action_space: str | gym.Space[Any] = "discrete",
        first: int = 0,
        stride: int = 0,
        reuse_obs: bool = False,
        reuse_info: bool = False,
    ) -> None:
        self.observation_space = space_of(space)
        self.action_space = space_of(action_space)
        self.episodes = tuple(EpisodeScript(*script) for script in episodes)
        self.first = first
        self.stride = stride
        self.fail_next = False
        """Set it to make the next step raise `ScriptedError` once."""
        self.actions: list[Any] = []
        """Copies of the actions since the last reset."""
        self._episode = -1
        self._t: int | None = None
        self._obs = _buffers(element_of(self.observation_space, first % NUMBERS)) if reuse_obs else None
        self._info: dict[str, Any] | None = {} if reuse_info else None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin the script's next episode."""
        super().reset(seed=seed)
        self._episode += 1
        self._t = 0
        self.actions = []
        info: dict[str, Any] = {"episode": self._episode, "seed": seed}
        return self._observation(), self._informed(info if options is None else {**info, "options": options})

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Count one step.

        Raises:
            ProtocolError: If the episode is over, or `reset` was never called.
            ScriptedError: If `fail_next` was set.
        """
        if self.fail_next:
            self.fail_next = False
            raise ScriptedError(f"step {self._t} of episode {self._episode}")
        script = self.episodes[self._episode % len(self.episodes)]
        if self._t is None or self._t == script.steps:
            raise ProtocolError("CountingEnv: expected reset() before this step()")
        self._t += 1
        self.actions.append(copy.deepcopy(action))
        ends = self._t == script.steps
        reward = self._number + 0.5
        info = self._informed({"t": self._t})
        return self._observation(), reward, ends and script.terminated, ends and script.truncated, info

    @property
    def _number(self) -> int:
        return self.first + self._episode * self.stride + (self._t or 0)

    def _observation(self) -> Any:
        element = element_of(self.observation_space, self._number % NUMBERS)
        if self._obs is None or isinstance(element, str):
            return element
        fill(self._obs, element)
        return self._obs

    def _informed(self, info: dict[str, Any]) -> dict[str, Any]:
        if self._info is None:
            return info
        self._info.update(info)
        return self._info


def _buffers(element: Any) -> Any:
    """Arrays for an element; an array without dimensions for a number."""
    if isinstance(element, Mapping):
        return {key: _buffers(child) for key, child in element.items()}
    if isinstance(element, tuple):
        return tuple(map(_buffers, element))
    return np.array(element)
