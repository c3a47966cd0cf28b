"""Environments that hand out the same objects again and again."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from stable_baselines3.common.vec_env import VecEnv

from vecrollout._typing import Array, Info
from vecrollout.data.structures import flatten, structure_of

# How many steps are watched.
_STEPS = 4


class ReuseOfObs:
    """Warns once where an environment's reset overwrote the last observation, because it fills one array all the time.

    `DummyVecEnv` keeps an environment's last observation by reference while it resets the environment, and copies both
    afterwards. It still has the reference: where two episodes ended with the same array object, and what it held was
    the next episode's first observation, the last ones are lost. The first few episodes tell.
    """

    def __init__(self, base: VecEnv) -> None:
        self._base = base
        self._kept: dict[int, Any] = {}  # by environment; held so that no other array gets the same identity
        self._looks_left = 3 * base.num_envs

    @property
    def is_looking(self) -> bool:
        """Whether that is not known yet."""
        return self._looks_left > 0

    def look(self, env: int, obs: Any, final_obs: Any) -> None:
        """Look at the end of an episode.

        Args:
            env: Index of the environment.
            obs: What the step returned, the next episode's first observation among them.
            final_obs: The episode's last observation.
        """
        self._looks_left -= 1
        infos = getattr(self._base, "buf_infos", None)
        kept = infos[env].get("terminal_observation") if infos else None
        is_reused = kept is not None and kept is self._kept.get(env)
        self._kept[env] = kept
        pairs: list[tuple[Any, Any]] = [(obs, final_obs)]
        if type(final_obs) is not np.ndarray:
            structure = structure_of(final_obs)
            pairs = list(zip(flatten(obs, structure), flatten(final_obs, structure), strict=True))
        is_suspect = is_reused or any(isinstance(last, np.ndarray) and _is_shared(all_, last) for all_, last in pairs)
        if is_suspect and all(np.array_equal(all_[env], last) for all_, last in pairs):
            self._looks_left = 0
            warnings.warn(
                f"environment {env}: the last observation of its episode is the next episode's first one, in the same "
                "memory: the environment reuses its observation array, and the reset overwrote the true last "
                "observation. Wrap it in vecrollout.CopyingWrapper inside the vector environment",
                stacklevel=4,
            )
        if not self.is_looking:
            self._kept.clear()


def _is_shared(one: Array, other: Array) -> bool:
    # The bounds alone, which take a fraction of the time, tell most of them apart.
    return np.may_share_memory(one, other) and np.shares_memory(one, other)


class ReuseOfInfos:
    """Watches whether the infos of a `VecEnv` are made anew at each step: then they need not be copied.

    An environment either makes them anew or fills the same dicts, lists and arrays again; its first steps tell.
    """

    def __init__(self) -> None:
        self._seen: dict[int, Any] = {}  # by identity; held so that nothing else gets the same
        self._steps_left = _STEPS

    def may_be(self, infos: Sequence[Info]) -> bool:
        """Whether infos may be filled again, after what a step returned; False is the last word."""
        if self._steps_left > 0:
            found: dict[int, Any] = {}
            for info in infos:
                _find_mutable(info, found)
            is_reused = not found.keys().isdisjoint(self._seen)
            self._seen.update(found)
            self._steps_left = -1 if is_reused else self._steps_left - 1
            if self._steps_left <= 0:
                self._seen = {}
        return self._steps_left != 0


def _find_mutable(value: Any, found: dict[int, Any]) -> None:
    """Gather, by identity, what in a value can be altered."""
    if isinstance(value, dict | list | tuple | np.ndarray) and id(value) not in found:
        if not isinstance(value, tuple):
            found[id(value)] = value
        if not isinstance(value, np.ndarray):
            for entry in value.values() if isinstance(value, dict) else value:
                _find_mutable(entry, found)
