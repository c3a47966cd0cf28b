"""What a Gymnasium vector environment returns, as a buffer takes it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import gymnasium as gym
import numpy as np

from vecrollout._typing import Array, Info
from vecrollout.buffer import BatchedInfos, Ending, InfoCopier, Restart, RolloutBuffer, deep_copied
from vecrollout.errors import StructureError
from vecrollout.recording.autoreset import Autoreset
from vecrollout.recording.batching import Batching, row_of
from vecrollout.recording.final_obs import MissingFinalObs, missing_final_obs, without_finals
from vecrollout.recording.flags import as_flags, as_reward_rows
from vecrollout.recording.step_infos import StepInfos, step_infos

_BOOL, _ndarray = np.dtype(bool), np.ndarray


class VectorSteps:
    """Records resets and steps of a vector environment in a buffer, by its autoreset rule.

    Args:
        buffer: The buffer.
        spaces: Observation and action space of a single environment.
        autoreset: The rule.
        missing: What to do if an environment does not give an episode's last observation.
        final_obs_fn: Takes the infos of a step and returns last observations that the environment keeps elsewhere.
    """

    def __init__(
        self,
        buffer: RolloutBuffer,
        spaces: tuple[gym.Space[Any], gym.Space[Any]],
        autoreset: Autoreset,
        missing: MissingFinalObs,
        final_obs_fn: Callable[[Info], Any] | None,
    ) -> None:
        self._buffer = buffer
        self._autoreset = autoreset
        self._missing = missing
        self._final_obs_fn = final_obs_fn
        self._has_finals = autoreset is Autoreset.SAME_STEP
        self._infos = InfoCopier(buffer.info_keys)
        self._keeps_all = buffer.keeps_infos and buffer.info_keys is None
        self._may_warn = True
        self.observations, self._actions = map(Batching, spaces)

    def reset(self, obs: Any, infos: Info, seed: Any, mask: Array | None) -> None:
        """Record a reset of all environments, or of those of a mask."""
        num_envs = self._buffer.num_envs
        seeds = _seeds_of(seed, num_envs, mask)
        self._buffer.reset(self.observations.leaves(obs), seeds, _reset_infos(infos, num_envs), mask)

    def act(self, actions: Any, envs: Array | None = None) -> None:
        """Take the actions of the next step."""
        is_plain = self._actions.is_plain and type(actions) is not tuple
        self._buffer.act(actions if is_plain else self._actions.leaves(actions), envs)

    def record(self, returned: Any, envs: Array | None = None) -> None:
        """Record what a step returned, of all environments or of some."""
        try:
            obs, rews, terminated, truncated, infos = returned
        except (TypeError, ValueError) as error:
            raise StructureError(
                "step: expected five values, obs, rewards, terminated, truncated and infos, got "
                f"{len(returned) if isinstance(returned, tuple | list) else type(returned).__name__}; wrap an "
                "environment with the interface of old versions of Gym so that it returns five"
            ) from error
        buffer, has_finals = self._buffer, self._has_finals
        if type(rews) is not _ndarray or rews.ndim != 1:
            rews = as_reward_rows(rews)
        count = len(rews) if rews.ndim else 0
        if not (type(terminated) is type(truncated) is _ndarray and terminated.dtype is truncated.dtype is _BOOL):
            terminated, truncated = as_flags(terminated, count, "terminated"), as_flags(truncated, count, "truncated")
        # A search in bytes costs a fraction of `terminated.any()`.
        has_ends = 1 in terminated.tobytes() or 1 in truncated.tobytes()
        over = self._waiting_at(envs) if buffer.waiting else ()
        each = None
        if (has_ends and has_finals) or type(infos) is not dict:
            each = step_infos(infos, count, has_finals)
        restarts: Sequence[Restart] = ()
        endings: Sequence[Ending] = ()
        if has_ends:
            ended = [at for at in (terminated | truncated).nonzero()[0].tolist() if at not in over]
            finals = self._finals_of(infos, count) if ended and has_finals else None
            endings = [self._ending(at, bool(terminated[at]), bool(truncated[at]), each, finals, envs) for at in ended]
        kept: Any
        if not buffer.keeps_infos:
            kept = self._infos.copied({}, count)
        elif each is None:
            kept = self._infos.copied(without_finals(infos) if has_finals and infos else infos, count)
        else:
            kept = each.kept(self._infos.copied)  # endings may have taken infos from a device
        if over and self._autoreset is Autoreset.NEXT_STEP:
            own = kept.__getitem__ if self._keeps_all else (each or step_infos(infos, count, has_finals)).own
            restarts = [Restart(_env(at, envs), own(at)) for at in over]
        elif over and self._autoreset is Autoreset.DISABLED and self._may_warn:
            self._look_for_resets(over, terminated | truncated, envs)
        buffer.step(
            obs if self.observations.is_plain else self.observations.leaves(obs), rews, kept, endings, restarts, envs
        )

    def _look_for_resets(self, over: Sequence[int], dones: Array, envs: Array | None) -> None:
        """Warn once if an environment goes on after its episode's end. Its steps are not recorded until a reset."""
        going_on = [at for at in over if not dones[at]]
        if going_on:
            self._may_warn = False
            env = _env(going_on[0], envs)
            warnings.warn(
                f"environment {env}: stepped after its episode ended, and the recorder has seen no reset. It records "
                "the environment again after a reset. If a wrapper below the recorder resets it, put the recorder "
                "below that wrapper; if the environment resets itself, pass autoreset_mode=",
                stacklevel=4,
            )

    def _waiting_at(self, envs: Array | None) -> list[int]:
        """Positions in the step's arrays of environments whose episode is over."""
        waiting = self._buffer.discards.over
        if envs is None or not waiting:
            return sorted(waiting)
        return [at for at, env in enumerate(envs.tolist()) if env in waiting]

    def _finals_of(self, infos: Any, count: int) -> Any:
        """Last observations that the environment keeps elsewhere; None without a function that brings them."""
        if self._final_obs_fn is None:
            return None
        return self.observations.rows(self._final_obs_fn(infos), count, "final_obs_fn")

    def _ending(
        self, at: int, terminated: bool, truncated: bool, infos: StepInfos | None, finals: Any, envs: Array | None
    ) -> Ending:
        env = _env(at, envs)
        if infos is None or not self._has_finals:
            return Ending(env, terminated, truncated, None)
        info, reset_info = infos.final_info(at), infos.reset_info(at)
        final_obs = infos.final_obs(at, self.observations) if finals is None else row_of(finals, at)
        if final_obs is not None:
            final_obs = deep_copied(self.observations.item(final_obs))
        elif self._missing == "raise":
            raise missing_final_obs(env, self._buffer.episode_steps(env))
        elif self._missing == "mark":
            final_obs = self._buffer.current_obs(env)
            info["final_obs_missing"] = True
        return Ending(env, terminated, truncated, final_obs, info, reset_info, drops_last=final_obs is None)


def _env(at: int, envs: Array | None) -> int:
    """The environment at a position in a step's arrays."""
    return at if envs is None else int(envs[at])


def _reset_infos(infos: Any, num_envs: int) -> BatchedInfos | Sequence[Info]:
    """Infos of a reset, in whatever layout they come."""
    each = step_infos(infos, num_envs, has_finals=False)
    return each.kept(BatchedInfos)


def _seeds_of(seed: int | Sequence[int | None] | Array | None, num_envs: int, mask: Array | None) -> list[int | None]:
    """The seed that each environment gets; empty: not known."""
    if seed is None:
        return []
    if isinstance(seed, int):
        return [seed + env for env in range(num_envs)]
    seeds: list[int | None] = [None if each is None else int(each) for each in seed]
    if mask is None or len(seeds) == num_envs:
        return seeds
    # ALE's AtariVectorEnv takes a seed for each environment of the mask.
    given = iter(seeds)
    return [next(given, None) if is_reset else None for is_reset in mask.tolist()]
