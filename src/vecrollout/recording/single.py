"""Recording from single Gymnasium environments, the ones inside a vector environment among them."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any, Literal, SupportsFloat

import gymnasium as gym
import numpy as np

from vecrollout._typing import Info, OnFull, RecordInfos
from vecrollout.buffer import Ending, Restart, RolloutBuffer, deep_copied
from vecrollout.data.fields import as_rewards
from vecrollout.data.trajectory import Sink, TrajectoryWithRew
from vecrollout.data.trees import stack
from vecrollout.errors import ProtocolError, ShapeError
from vecrollout.recording.autoreset import Autoreset
from vecrollout.recording.batching import Batching
from vecrollout.recording.environments import SINGLE, check_kind
from vecrollout.recording.final_obs import FINAL_INFO, FINAL_OBS, with_statistics, without_finals, without_statistics
from vecrollout.recording.recorder import Recorder


class BufferingEnvWrapper(Recorder, gym.Wrapper[Any, Any, Any, Any]):
    """Records every step of a single `gymnasium.Env` until it is popped: a vector environment of one.

    What `reset` and `step` return is the environment's own, unchanged; what is recorded is a copy. A `reset` after an
    episode's end is the normal way, and never refused. Where one of Gymnasium's own wrappers resets (`Autoreset`, and
    `AutoResetWrapper` of 0.29), the true last observations are recorded. 0.29's wrapper hands them past the wrappers
    around it: the recorder belongs right around that one.

    Args:
        env: The environment to wrap.
        error_on_premature_reset: Whether `reset` in the middle of an episode is refused while transitions are held.
        record_infos: Which infos to keep: `"all"`, `"none"`, or those of the named keys.
        sink: Anything with `append(trajectory)`: it takes each finished trajectory at once, instead of its being held.
        max_transitions: The most transitions to hold, at least 1; None: no limit.
        on_full: What to do when the next step would hold more: `"refuse"` it, `"drop_oldest"` finished trajectories, or
            `"hand_over"` the running fragments to the sink.
        early_reset: What becomes of the running fragment when a reset is not refused: `"close"` makes a finished
            trajectory of it (`episode.ended_by` is `"reset_early"`), `"drop"` drops and counts it.

    Raises:
        ArgumentTypeError: If `env` is no environment of that kind, or an option is of another kind than said here.
        OptionError: If an option is not one of these.

    Examples:
        >>> env = BufferingEnvWrapper(gym.make("CartPole-v1"))
        >>> obs, info = env.reset(seed=0)
        >>> obs, rew, terminated, truncated, info = env.step(1)
        >>> env.pop_transitions().next_obs.shape
        (1, 4)
    """

    def __init__(
        self,
        env: gym.Env[Any, Any],
        error_on_premature_reset: bool = True,
        *,
        record_infos: RecordInfos = "all",
        sink: Sink | None = None,
        max_transitions: int | None = None,
        on_full: OnFull = "refuse",
        early_reset: Literal["close", "drop"] = "close",
    ) -> None:
        check_kind(env, SINGLE)
        super().__init__(env)
        self.error_on_premature_reset = error_on_premature_reset
        self._observations = Batching(env.observation_space)
        self._actions = Batching(env.action_space)
        self._autoreset = _autoreset_of(env)
        self._buffer = RolloutBuffer(
            1,
            record_infos=record_infos,
            sink=sink,
            max_transitions=max_transitions,
            on_full=on_full,
            early_reset=early_reset,
        )

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, Info]:
        """Reset the environment.

        Returns:
            The environment's own observation and info.

        Raises:
            PrematureResetError: If transitions are held, `error_on_premature_reset` is True, and the episode has not
                ended. Nothing was reset.
            ShapeError, DtypeError, StructureError: If the observation is not like those held. These can be popped.
        """
        if self.error_on_premature_reset:
            self._buffer.check_reset(np.ones(1, dtype=bool))
        is_refused = self._refuses_reset()
        try:
            obs, info = self.env.reset(seed=seed, options=options)
            self._buffer.reset(self._observations.of_one(obs), [seed], [info])
        except BaseException:
            # Where nothing was reset, the episode just goes on.
            if not is_refused:
                self._buffer.abort()
            raise
        return obs, info

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, Info]:
        """Step the environment, and record it.

        A step that fails is not recorded; what was recorded before can be popped, and after a `reset` stepping goes on.

        Returns:
            The environment's own observation, reward, terminated, truncated and info.

        Raises:
            ProtocolError: If there was no `reset`, or a step failed since.
            BufferFullError: If the step would hold more than `max_transitions`. The environment was not stepped.
            ShapeError, DtypeError, StructureError: If something is not like what was recorded before.
        """
        self._buffer.act(self._actions.of_one(action))
        try:
            returned: tuple[Any, Any, bool, bool, Info] = self.env.step(action)
            obs, rew, terminated, truncated, info = returned
            own = deep_copied(info)
            is_waiting = bool(self._buffer.waiting)
            # What an environment says after its episode's end, before it was reset, means nothing.
            has_ended = (terminated or truncated) and not is_waiting
            endings = [self._ending(bool(terminated), bool(truncated), own)] if has_ended else ()
            restarts = [Restart(0, own)] if is_waiting and self._autoreset is Autoreset.NEXT_STEP else ()
            # A reward may be an array of shape (1,); one of any other size is refused as no reward.
            rews = np.array(rew, ndmin=1) if type(rew) is float else np.asarray(rew).reshape(-1)
            self._buffer.step(self._observations.of_one(obs), rews, [own], endings, restarts)
        except BaseException:
            self._buffer.abort()
            raise
        return returned

    def _ending(self, terminated: bool, truncated: bool, info: Info) -> Ending:
        # A time limit around the wrapper that resets ends episodes that this one does not.
        if self._autoreset is not Autoreset.SAME_STEP or FINAL_OBS not in info:
            return Ending(0, terminated, truncated, None, info)
        final_obs, others = self._observations.item(info[FINAL_OBS]), without_finals(info)
        last_info, reset_info = with_statistics(info[FINAL_INFO], others), without_statistics(others)
        return Ending(0, terminated, truncated, final_obs, last_info, reset_info)

    def _refuses_reset(self) -> bool:
        """Whether a `Monitor(allow_early_resets=False)` of Stable-Baselines3 will raise, and reset nothing."""
        env: Any = self.env
        while isinstance(env, gym.Wrapper):
            its_own = vars(env)  # a wrapper may pass others' attributes on
            if its_own.get("allow_early_resets", True) is False and not its_own.get("needs_reset", True):
                return True
            env = env.env
        return False

    def close(self) -> None:
        """Close the environment and the running episode, which can then be popped, or goes to the sink (`"closed"`)."""
        try:
            self._buffer.close()
        finally:
            self.env.close()


def _autoreset_of(env: gym.Env[Any, Any]) -> Autoreset:
    """The rule of Gymnasium's wrapper that resets, if there is one: 0.29's in the same step, since 1.0 in the next."""
    for name, rule in (("AutoResetWrapper", Autoreset.SAME_STEP), ("Autoreset", Autoreset.NEXT_STEP)):
        wrapper = getattr(gym.wrappers, name, None)
        if wrapper is not None and _wraps(env, wrapper):
            return rule
    return Autoreset.DISABLED


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
