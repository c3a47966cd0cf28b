"""The resets of a Stable-Baselines3 `VecEnv`: their seeds and infos, and those that its recorder was not told of."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from typing import Any

from stable_baselines3.common.vec_env import VecEnv

from vecrollout._typing import Info
from vecrollout.buffer import BatchedInfos, Restart, RolloutBuffer, deep_copied
from vecrollout.recording.environments import layers_of


def next_seeds_of(base: Any) -> list[int | None]:
    """The seeds that the next reset uses up; empty for a `VecEnv` that does not keep them."""
    return list(getattr(base, "_seeds", ()))  # `VecEnv.seed` stores them here; they have no public name


class ResetInfos:
    """The infos of resets, where a `VecEnv` keeps them.

    Wrappers of SB3 do not pass them on, and have empty ones: those of the base environment count. Where it has none,
    the innermost wrapper that has some does, which need not renew them at an autoreset.

    Source:
        `SB3VecEnvWrapper` (SuperSuit 3.11) around a `VectorEnv` of Gymnasium.
    """

    def __init__(self, venv: VecEnv) -> None:
        layers = [layer for layer in layers_of(venv) if "reset_infos" in getattr(layer, "__dict__", ())]
        self._keeper = layers[-1] if layers else None
        self._is_renewed = isinstance(self._keeper, VecEnv) and self._keeper is venv.unwrapped
        self._num_envs = venv.num_envs
        self._seen: Sequence[Any] = ()
        self._batch: tuple[Any, Sequence[Info]] = None, ()  # infos as Gymnasium batches them, and apart

    def current(self) -> Sequence[Info]:
        """The infos as they are; empty for a `VecEnv` that does not keep them."""
        infos = getattr(self._keeper, "reset_infos", None) or ()
        if isinstance(infos, dict):
            if infos is not self._batch[0]:
                self._batch = infos, [*BatchedInfos(infos, self._num_envs)]
            infos = self._batch[1]
        return infos if len(infos) == self._num_envs else ()

    def of_reset(self) -> Sequence[Info]:
        """Those of the reset of all environments that was just done."""
        self._seen = [*self.current()]
        return self._seen

    def of_autoreset(self, env: int, infos: Sequence[Info]) -> Info | None:
        """That of the reset that a step just did, among the current ones; None: not known."""
        if not infos or (not self._is_renewed and self._seen and infos[env] is self._seen[env]):
            return None
        return deep_copied(infos[env]) if infos[env] else {}


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
