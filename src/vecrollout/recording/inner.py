"""Wrappers around each single environment, inside a vector environment, and the trajectories of their records."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any, SupportsFloat

import gymnasium as gym

from vecrollout._typing import Info
from vecrollout.data.fields import as_rewards
from vecrollout.data.trajectory import TrajectoryWithRew
from vecrollout.data.trees import stack
from vecrollout.errors import ProtocolError, ShapeError
from vecrollout.recording.environments import layers_of


class CopyingWrapper(gym.Wrapper[Any, Any, Any, Any]):
    """Returns copies of an environment's observations and infos.

    Some environments fill the same array at every step. A vector environment keeps an episode's last observation by
    reference while it resets the environment. The reset overwrites that observation, and no recorder can recover it.
    Put this wrapper around such an environment, inside the vector environment:
    `DummyVecEnv([lambda: CopyingWrapper(MyEnv())])`.

    Args:
        env: The environment that reuses its arrays or dicts.

    Source:
        `DummyVecEnv.step_wait` and the worker of `SubprocVecEnv` (Stable-Baselines3 2.9) keep `terminal_observation`
        by reference.
    """

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, Info]:
        """Reset the environment.

        Args:
            seed: Passed on to the environment.
            options: Passed on to the environment, if not None.

        Returns:
            Copies of the environment's observation and info.
        """
        return copy.deepcopy(self.env.reset(seed=seed, **_given(options)))

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, Info]:
        """Step the environment.

        Args:
            action: Passed on to the environment.

        Returns:
            Copies of what the environment returned.
        """
        return copy.deepcopy(self.env.step(action))


class RolloutInfoWrapper(gym.Wrapper[Any, Any, Any, Any]):
    """Adds an episode's raw observations and rewards to the info of its last step.

    The record is a dict in `info["rollout"]` (and in `info["rollouts"]`, the same object). Its `"obs"` has shape
    `(T + 1, *obs_shape)` and is a `DictObs` or `TupleObs` for Dict and Tuple spaces. Its `"rews"` has shape `(T,)`,
    float. Wrappers further outside do not affect the record, so the innermost place records the raw data. If an
    environment has two of these wrappers, only the inner one records. `unwrap_traj` replaces a trajectory's
    observations and rewards by those of the record.

    Args:
        env: The environment to record.

    Source:
        `imitation.data.wrappers.RolloutInfoWrapper` (imitation 1.0.1), whose documentation says `"rollouts"` where its
        code says `"rollout"`. Ours copies, so an environment may reuse its arrays and its info dict.
    """

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        super().__init__(env)
        self._obs: list[Any] = []
        self._rews: list[SupportsFloat] = []
        self._is_outer = any(isinstance(layer, RolloutInfoWrapper) for layer in layers_of(env))

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, Info]:
        """Reset the environment, and drop the record of an unfinished episode.

        Args:
            seed: Passed on to the environment.
            options: Passed on to the environment, if not None.

        Returns:
            The environment's own observation and info.
        """
        obs, info = self.env.reset(seed=seed, **_given(options))
        self._obs = [] if self._is_outer else [copy.deepcopy(obs)]
        self._rews = []
        return obs, info

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, Info]:
        """Step the environment.

        Args:
            action: Passed on to the environment.

        Returns:
            What the environment returned. At an episode's end, the info is a new dict that includes the record.

        Raises:
            ProtocolError: If there was no reset.
        """
        obs, rew, terminated, truncated, info = self.env.step(action)
        if self._is_outer:
            return obs, rew, terminated, truncated, info
        if not self._obs:
            raise ProtocolError("RolloutInfoWrapper: expected reset() before step()")
        self._obs.append(copy.deepcopy(obs))
        self._rews.append(rew)
        if terminated or truncated:
            record = {"obs": stack(self._obs), "rews": as_rewards(self._rews)}
            info = {**info, "rollout": record, "rollouts": record}
        return obs, rew, terminated, truncated, info


def unwrap_traj(traj: TrajectoryWithRew) -> TrajectoryWithRew:
    """Replace a trajectory's observations and rewards by those that `RolloutInfoWrapper` recorded.

    Args:
        traj: A whole episode, with infos, from environments with a `RolloutInfoWrapper`.

    Returns:
        A trajectory with other `obs` and `rews`.

    Raises:
        ShapeError: If the trajectory has no infos, or its last info has no record, or a record of another length (as
            for a fragment).

    Source:
        `imitation.data.rollout.unwrap_traj` (imitation 1.0.1).
    """
    if traj.infos is None:
        raise ShapeError('infos: Trajectory must have infos to unwrap, got None; record with record_infos="all"')
    record = traj.infos[-1].get("rollout")
    if record is None:
        raise ShapeError(
            'infos: expected "rollout" in the last info, got none; wrap the environments in RolloutInfoWrapper, and '
            "unwrap whole episodes only"
        )
    return dataclasses.replace(traj, obs=record["obs"], rews=record["rews"])


def _given(options: dict[str, Any] | None) -> dict[str, Any]:
    # Some environments take no options.
    return {} if options is None else {"options": options}
