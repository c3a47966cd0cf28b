"""What a Gymnasium vector environment returns, as a buffer takes it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import gymnasium as gym
import numpy as np

from vecrollout._typing import Array, Info
from vecrollout.buffer import BatchedInfos, Ending, Restart, RolloutBuffer, info_of
from vecrollout.recording.autoreset import Autoreset
from vecrollout.recording.batching import Batching
from vecrollout.recording.final_obs import (
    MissingFinalObs,
    final_info_of,
    final_obs_of,
    missing_final_obs,
    reset_info_of,
    without_finals,
)

_BOOL = np.dtype(bool)


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
        self.observations, self._actions = map(Batching, spaces)

    def reset(self, obs: Any, infos: Info, seed: Any, mask: Array | None) -> None:
        """Record a reset of all environments, or of those of a mask."""
        num_envs = self._buffer.num_envs
        seeds = _seeds_of(seed, num_envs, mask)
        self._buffer.reset(self.observations.leaves(obs), seeds, BatchedInfos(infos, num_envs), mask)

    def act(self, actions: Any, envs: Array | None = None) -> None:
        """Take the actions of the next step."""
        self._buffer.act(actions if self._actions.is_plain else self._actions.leaves(actions), envs)

    def record(self, returned: Any, envs: Array | None = None) -> None:
        """Record what a step returned, of all environments or of some."""
        obs, rews, terminated, truncated, infos = returned
        buffer = self._buffer
        if (type(rews) is not np.ndarray or rews.ndim != 1) and np.ndim(rews) == 2 and len(rews[0]) == 1:
            # AsyncVectorEnv makes a column of rewards that are arrays of shape (1,).
            rews = np.reshape(rews, -1)
        own = without_finals(infos) if self._autoreset is Autoreset.SAME_STEP and infos else infos
        kept = BatchedInfos(own if buffer.keeps_infos else {}, len(rews), buffer.info_keys)
        restarts: Sequence[Restart] = ()
        if buffer.waiting and self._autoreset is Autoreset.NEXT_STEP:
            restarts = [Restart(at, info_of(own, at, len(rews))) for at in self._waiting_at(envs)]
        endings: Sequence[Ending] = ()
        # A search in bytes costs a fraction of `terminated.any()`.
        if 1 in (
            terminated.tobytes() + truncated.tobytes()
            if type(terminated) is type(truncated) is np.ndarray and terminated.dtype is truncated.dtype is _BOOL
            else np.logical_or(terminated, truncated).tobytes()
        ):
            skipped = set(self._waiting_at(envs))
            dones = np.logical_or(terminated, truncated)
            ended = [at for at in dones.nonzero()[0].tolist() if at not in skipped]
            endings = [self._ending(at, bool(terminated[at]), bool(truncated[at]), infos, own, envs) for at in ended]
        buffer.step(
            obs if self.observations.is_plain else self.observations.leaves(obs), rews, kept, endings, restarts, envs
        )

    def _waiting_at(self, envs: Array | None) -> list[int]:
        """Positions in the step's arrays of environments whose episode is over."""
        waiting = self._buffer.discards.over
        if envs is None or not waiting:
            return sorted(waiting)
        return [at for at, env in enumerate(envs.tolist()) if env in waiting]

    def _ending(self, at: int, terminated: bool, truncated: bool, infos: Info, own: Info, envs: Array | None) -> Ending:
        if self._autoreset is not Autoreset.SAME_STEP:
            return Ending(at, terminated, truncated, None)
        count = self._buffer.num_envs if envs is None else len(envs)
        env = at if envs is None else int(envs[at])
        info = final_info_of(infos, own, at, count)
        reset_info = reset_info_of(own, at, count)
        final_obs = final_obs_of(infos, at, self._final_obs_fn)
        if final_obs is not None:
            final_obs = self.observations.item(final_obs)
        elif self._missing == "raise":
            raise missing_final_obs(env, self._buffer.episode_steps(env))
        elif self._missing == "mark":
            final_obs = self._buffer.current_obs(env)
            info["final_obs_missing"] = True
        return Ending(at, terminated, truncated, final_obs, info, reset_info, drops_last=final_obs is None)


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
