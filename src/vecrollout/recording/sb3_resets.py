"""Resets of a Stable-Baselines3 `VecEnv` that its recorder was not told of."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any

from stable_baselines3.common.vec_env import VecEnv

from vecrollout.buffer import Restart, RolloutBuffer


class ResetsBehind:
    """Ends the episodes of environments that were reset behind a recorder, so that no transition leads across.

    The first observations of the next episodes are unknown, so the step after the reset is not recorded. A reset of all
    environments shows in SB3's own `VecEnv`s, which put a new list of seeds in the place of the one that it used up.
    One of a single environment leaves no trace.

    Args:
        base: The innermost `VecEnv`.
        buffer: Records the steps.
    """

    def __init__(self, base: VecEnv, buffer: RolloutBuffer) -> None:
        self._base: Any = base
        self._buffer = buffer
        self._may_warn = True
        self.forget()

    def forget(self) -> None:
        """Begin anew, after a reset that the recorder was told of."""
        self._seeds = getattr(self._base, "_seeds", None)  # `next_seeds_of` says what they are
        self.envs: set[int] = set()
        """Those that were reset since the last step."""

    def look(self) -> None:
        """Notice a reset of all environments since the last call."""
        seeds = getattr(self._base, "_seeds", None)
        if seeds is self._seeds:
            return
        self._seeds = seeds
        if any(seed is not None for seed in seeds or ()):
            return  # `VecEnv.seed` puts another list there, too
        self.add(range(self._buffer.num_envs))
        if self._may_warn:
            self._may_warn = False
            warnings.warn(
                "reset: expected a call of the recorder, but the environments inside it were reset. The recorder ends "
                'the running episodes as "reset_early" and does not record the next step, as it has not seen the '
                "observations before it",
                stacklevel=3,
            )

    def add(self, envs: Iterable[int]) -> None:
        """End the episodes of environments that were reset."""
        self.envs.update(envs)
        self._buffer.await_episodes(self.envs)

    def restarts(self) -> list[Restart]:
        """The episodes that the step after a reset belongs to, and that begin one step late. Asked for once a step."""
        envs, self.envs = self.envs, set()
        return [Restart(env, None, start_step=1) for env in sorted(envs)]
