"""What a Stable-Baselines3 `VecEnv` returns, as a buffer takes it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from stable_baselines3.common.vec_env import VecEnv

from vecrollout.buffer import Ending, RolloutBuffer, deep_copied
from vecrollout.recording.reuse import OverwrittenObs
from vecrollout.recording.sb3_endings import endings_of, flags_of

_BOOL = np.dtype(bool)


class VecEnvSteps:
    """Records steps of a `VecEnv` in a buffer.

    Args:
        buffer: The buffer.
        base: The innermost `VecEnv`, which keeps the infos of resets.
        copies_infos: Whether the info dicts of each step are copied, because they may change later.
    """

    def __init__(self, buffer: RolloutBuffer, base: VecEnv, copies_infos: bool) -> None:
        self._buffer = buffer
        self._base = base
        self._copied_info = deep_copied if copies_infos else dict
        self._copies_infos = buffer.keeps_infos and copies_infos
        # None: no reset has overwritten a last observation so far, and none will.
        self._overwritten: OverwrittenObs | None = OverwrittenObs(base)

    def record(self, returned: Any) -> Sequence[Ending]:
        """Record what a step returned; the episodes that it ended."""
        obs, rews, dones, infos = returned
        endings: Sequence[Ending] = ()
        # A search in bytes costs a fraction of `dones.any()`.
        flags = dones.tobytes() if type(dones) is np.ndarray and dones.dtype is _BOOL else flags_of(dones)
        if 1 in flags:
            endings = endings_of(flags, infos, self._base, self._buffer, self._copied_info)
        if self._copies_infos:
            infos = list(map(deep_copied, infos))
        self._buffer.step(obs, rews, infos, endings)
        return endings

    def look(self, obs: Any, endings: Sequence[Ending]) -> None:
        """Warn if a reset overwrote an episode's last observation."""
        if self._overwritten is not None and not self._overwritten.look(obs, endings):
            self._overwritten = None
