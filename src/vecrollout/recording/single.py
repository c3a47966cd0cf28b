"""Recording from single Gymnasium environments, the ones inside a vector environment among them."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any, SupportsFloat

import gymnasium as gym

from vecrollout._typing import Info
from vecrollout.errors import ProtocolError, ShapeError
from vecrollout.fields import as_rewards
from vecrollout.trajectory import TrajectoryWithRew
from vecrollout.trees import stack


class CopyingWrapper(gym.Wrapper[Any, Any, Any, Any]):
    """Hands out copies of an environment's observations and infos.

    An environment may fill one and the same array at every step. A vector environment keeps the last observation of an
    episode by reference while it resets the environment, so the reset overwrites it, and no recorder above can tell
    what it was. Put this wrapper around such an environment, inside the vector environment:
    `DummyVecEnv([lambda: CopyingWrapper(MyEnv())])`.

    Args:
        env: The environment that reuses its arrays or dicts.

    Source:
        `DummyVecEnv.step_wait` and the worker of `SubprocVecEnv` (Stable-Baselines3 2.9) keep `terminal_observation`
        by reference.
    """

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, Info]:
        """Reset the environment; observation and info are copies."""
        return copy.deepcopy(self.env.reset(seed=seed, **_given(options)))

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, Info]:
        """Step the environment; observation and info are copies."""
        return copy.deepcopy(self.env.step(action))


class RolloutInfoWrapper(gym.Wrapper[Any, Any, Any, Any]):
    """Adds an episode's raw observations and rewards to the info of its last step.

    There `info["rollout"]`, and `info["rollouts"]`, the same object, is a dict of `"obs"`, shape `(T + 1, *obs_shape)`
    (`DictObs` or `TupleObs` for Dict and Tuple spaces), and `"rews"`, shape `(T,)`, float. What wrappers outside do to
    observations and rewards does not show in them, so the innermost place gives the rawest data; where two of these
    wrappers are on one environment, the inner one's record stands. `unwrap_traj` puts the record in the place of a
    trajectory's own observations and rewards.

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
        self._is_outer = _wraps(env, RolloutInfoWrapper)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, Info]:
        """Reset the environment; the record of an episode that did not end is dropped."""
        obs, info = self.env.reset(seed=seed, **_given(options))
        self._obs = [] if self._is_outer else [copy.deepcopy(obs)]
        self._rews = []
        return obs, info

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, Info]:
        """Step the environment; at an episode's end, the info is a new dict with the record in it.

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
    """The trajectory with the observations and rewards that `RolloutInfoWrapper` recorded.

    Args:
        traj: A whole episode from environments with a `RolloutInfoWrapper`, infos included.

    Returns:
        A trajectory with `obs` and `rews` replaced.

    Raises:
        ShapeError: If the trajectory has no infos, no record in the last of them, or a record of another length (as a
            fragment has).

    Source:
        `imitation.data.rollout.unwrap_traj` (imitation 1.0.1).
    """
    if traj.infos is None:
        raise ShapeError('infos: Trajectory must have infos to unwrap, got None; record with record_infos="all"')
    record = traj.infos[-1].get("rollout")
    if record is None:
        raise ShapeError(
            'infos: expected "rollout" in the last info, which is not there: wrap the environments in '
            "RolloutInfoWrapper, and unwrap whole episodes only"
        )
    return dataclasses.replace(traj, obs=record["obs"], rews=record["rews"])


def _given(options: dict[str, Any] | None) -> dict[str, Any]:
    # Not every environment takes options; those that are not given are not passed on.
    return {} if options is None else {"options": options}


def _wraps(env: gym.Env[Any, Any], kind: type[gym.Wrapper[Any, Any, Any, Any]]) -> bool:
    while isinstance(env, gym.Wrapper):
        if isinstance(env, kind):
            return True
        env = env.env
    return False
