"""What a Stable-Baselines3 `VecEnv` returns, as a buffer takes it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from stable_baselines3.common.vec_env import VecEnv

from vecrollout._typing import Info
from vecrollout.buffer import Ending, RolloutBuffer, deep_copied
from vecrollout.data.foreign import is_foreign
from vecrollout.recording.reuse import OverwrittenObs
from vecrollout.recording.sb3_endings import Endings, flags_of
from vecrollout.recording.sb3_resets import ResetsBehind

_BOOL, _ndarray = np.dtype(bool), np.ndarray


class VecEnvSteps:
    """Records steps of a `VecEnv` in a buffer.

    Args:
        buffer: The buffer.
        base: The innermost `VecEnv`.
        endings: Finds the episodes that end.
        resets: Notices resets that the recorder was not told of.
        copies_infos: Whether the info dicts of each step are copied, because they may change later.
    """

    def __init__(
        self, buffer: RolloutBuffer, base: VecEnv, endings: Endings, resets: ResetsBehind, copies_infos: bool
    ) -> None:
        self._buffer = buffer
        self._resets = resets
        self._endings = endings
        self._has_new_infos = not copies_infos
        self._copied_info = deep_copied if copies_infos else dict
        self._copies_infos = buffer.keeps_infos  # the first step shows whether new infos can stay as they are
        self.overwritten: OverwrittenObs | None = OverwrittenObs(base)
        """Looks for last observations that a reset overwrote; None: nothing more is to be found out."""

    def record(self, returned: Any) -> Sequence[Ending]:
        """Record what a step returned; the episodes that it ended."""
        obs, rews, dones, infos = returned
        endings: Sequence[Ending] = ()
        # A search in bytes costs a fraction of `dones.any()`.
        flags = dones.tobytes() if type(dones) is _ndarray and dones.dtype is _BOOL else self._flags_of(dones)
        if 1 in flags:
            endings = self._endings.of(flags, infos, self._copied_info)
        if self._copies_infos:
            infos = self._own_infos(infos)
        restarts = self._resets.restarts() if self._resets.envs else ()
        self._buffer.step(obs, rews, infos, endings, restarts)
        return endings

    def _flags_of(self, dones: Any) -> bytes:
        return flags_of(dones, self._buffer.num_envs)

    def _own_infos(self, infos: list[Info]) -> list[Info]:
        """Infos that nobody alters, with NumPy's arrays; those of the first step show whether new ones need copies."""
        if self._has_new_infos:
            if not any(is_foreign(value) for info in infos for value in info.values()):
                self._copies_infos = False
                return infos
            self._has_new_infos, self._copied_info = False, deep_copied
        return list(map(deep_copied, infos))

    def look(self, returned: Any, endings: Sequence[Ending]) -> None:
        """Warn if a reset overwrote an episode's last observation."""
        if self.overwritten is not None and not self.overwritten.look(returned[0], returned[3], endings):
            self.overwritten = None
