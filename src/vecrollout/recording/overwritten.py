"""Environments that fill one observation array again and again."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from vecrollout._typing import Info
from vecrollout.buffer import Ending
from vecrollout.data.foreign import as_array
from vecrollout.data.structures import Structure

# The number of episodes that are looked at, for each environment.
_LOOKS = 3


class OverwrittenObs:
    """Warns once if an environment's reset overwrote its last observation.

    `DummyVecEnv` keeps the last observation by reference while it resets the environment. An environment that fills one
    array all the time overwrites it: the first episodes end with the same object, or in the memory of the next first
    observation, and with the same values as the next first observation.
    """

    def __init__(self, base: VecEnv) -> None:
        self._infos = base.buf_infos if isinstance(base, DummyVecEnv) else []
        self._kept: dict[int, Any] = {}  # last observations by environment; kept so that no other gets their identity
        self._looks_left = _LOOKS * base.num_envs

    def look(self, obs: Any, infos: Sequence[Info], endings: Sequence[Ending]) -> bool:
        """Look at a step in which episodes ended; False if there is nothing more to find out."""
        for ending in endings if self._looks_left > 0 else ():
            env, self._looks_left = ending.env, self._looks_left - 1
            kept = self._infos[env].get("terminal_observation") if self._infos else None
            is_same = kept is not None and kept is self._kept.get(env)
            self._kept[env] = kept
            final = infos[env].get("terminal_observation")
            is_plain = type(obs) is type(final) is np.ndarray
            if final is None or (is_plain and not is_same and not np.may_share_memory(obs, final)):
                continue
            if isinstance(obs, np.ndarray) and type(final) in (list, tuple):
                final = as_array(final)
            structure = Structure.of(final)
            firsts, lasts = structure.flatten(obs), structure.flatten(final)
            pairs = [(as_array(rows), as_array(last)) for rows, last in zip(firsts, lasts, strict=True)]
            is_shared = any(np.shares_memory(*pair) for pair in pairs)
            if (is_same or is_shared) and all(np.array_equal(rows[env], last) for rows, last in pairs):
                self._looks_left = 0
                warnings.warn(
                    f"environment {env}: the reset overwrote the last observation of an episode, because the "
                    "environment fills one observation array at every step. Wrap it in vecrollout.CopyingWrapper "
                    "inside the vector environment",
                    stacklevel=4,
                )
                return False
        return self._looks_left > 0
