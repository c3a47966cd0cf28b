"""Recording from Stable-Baselines3 vector environments."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnv, VecEnvWrapper

from vecrollout._typing import Info, OnFull, RecordInfos
from vecrollout.buffer import Ending, RolloutBuffer, deep_copied
from vecrollout.data.trajectory import Sink
from vecrollout.errors import MissingTerminalObservationError
from vecrollout.recording.environments import VEC_ENV, check_kind
from vecrollout.recording.recorder import Recorder
from vecrollout.recording.reuse import ReuseOfInfos, ReuseOfObs

_BOOL = np.dtype(bool)
# Those of which each step returns infos that are nobody else's.
_COPYING = (DummyVecEnv.step_wait, SubprocVecEnv.step_wait)


class BufferingWrapper(Recorder, VecEnvWrapper):
    """Records every step of a Stable-Baselines3 `VecEnv` until it is popped.

    What `reset`, `step_async` and `step_wait` pass on is the wrapped environment's own, unchanged; what is recorded is
    a copy. Recorded actions are those that the wrapped environment was given, that is, the executed ones where a
    learner clips or rescales its own. The wrapper's place among others decides what is recorded: below `VecNormalize`
    the raw observations and rewards, above it the normalised ones.

    After every call, also one that raised, `stepped == held + popped + sunk + dropped`.

    Args:
        venv: The environment to wrap, E environments in all.
        error_on_premature_reset: Whether `reset` is refused while transitions are held.
        record_infos: Which infos to keep: `"all"`, `"none"`, or those of the named keys.
        sink: Anything with `append(trajectory)`: it takes each finished trajectory at once, instead of its being held.
            A trajectory that it refuses by raising stays held and is offered again when the next one finishes.
        max_transitions: The most transitions to hold, at least E; None: no limit.
        on_full: What to do when the next step would hold more: `"refuse"` raises before the environments are stepped,
            `"drop_oldest"` drops the oldest finished trajectories, and counts what it drops; `"hand_over"` hands the
            running fragments over to the sink, which bounds the memory that episodes without an end take.
        early_reset: What becomes of running fragments when a reset is not refused: `"close"` makes finished
            trajectories of them (`terminal` is False, `episode.ended_by` is `"reset_early"`), `"drop"` drops and
            counts them.

    Raises:
        ArgumentTypeError: If `venv` is no environment of that kind, or an option is of another kind than said here.
        OptionError: If an option is not one of these.

    Examples:
        >>> from stable_baselines3.common.env_util import make_vec_env
        >>> venv = BufferingWrapper(make_vec_env("CartPole-v1", n_envs=2, seed=0))
        >>> obs = venv.reset()
        >>> obs, rews, dones, infos = venv.step(np.array([0, 1]))
        >>> venv.pop_transitions().obs.shape
        (2, 4)

    Source:
        Interface of `imitation.data.wrappers.BufferingWrapper` (imitation 1.0.1), of which this is a drop-in. Ours
        counts what is held, keeps termination and truncation apart, and stays usable after an error.
    """

    def __init__(
        self,
        venv: VecEnv,
        error_on_premature_reset: bool = True,
        *,
        record_infos: RecordInfos = "all",
        sink: Sink | None = None,
        max_transitions: int | None = None,
        on_full: OnFull = "refuse",
        early_reset: Literal["close", "drop"] = "close",
    ) -> None:
        check_kind(venv, VEC_ENV)
        super().__init__(venv)
        self.error_on_premature_reset = error_on_premature_reset
        self._base = venv.unwrapped
        self._reuse = ReuseOfObs(self._base)
        self._reuse_of_infos = ReuseOfInfos()
        has_own_infos = type(self._base).step_wait in _COPYING
        self._copied_info: Callable[[Info], Info] = dict if has_own_infos else deep_copied
        self._copies_infos = record_infos != "none" and not has_own_infos
        self._buffer = RolloutBuffer(
            venv.num_envs,
            record_infos=record_infos,
            sink=sink,
            max_transitions=max_transitions,
            on_full=on_full,
            early_reset=early_reset,
        )

    def reset(self, **kwargs: Any) -> Any:
        """Reset all environments.

        Args:
            **kwargs: Passed on to the wrapped environment's `reset`.

        Returns:
            The wrapped environment's first observations.

        Raises:
            PrematureResetError: If transitions are held and `error_on_premature_reset` is True. Nothing was reset.
            ShapeError, DtypeError, StructureError: If the observations are not like those held. These can be popped.
        """
        if self.error_on_premature_reset:
            self._buffer.check_reset()
        seeds = list(getattr(self._base, "_seeds", ()))  # the reset uses them up
        before = list(self._reset_infos())
        try:
            obs = self.venv.reset(**kwargs)
            self._buffer.reset(obs, seeds, self._reset_infos())
        except BaseException:
            # `Monitor(allow_early_resets=False)` refuses before anything is reset: then the episodes just go on.
            after = self._reset_infos()
            if not before or any(old is not new for old, new in zip(before, after, strict=True)):
                self._buffer.abort()
            raise
        return obs

    def join(self, obs: Any, start_steps: Sequence[int]) -> None:
        """Begin to record in the middle of episodes, of environments that somebody else has reset.

        Args:
            obs: Current observations, shape `(E, *obs_shape)`.
            start_steps: How many steps each environment's episode has had so far.

        Raises:
            ShapeError, DtypeError, StructureError: If the observations are not like those held. These can be popped.
        """
        self._buffer.reset(obs, (), self._reset_infos(), start_steps=start_steps)

    def step_async(self, actions: Any) -> None:
        """Copy the actions and hand them to the wrapped environment.

        Args:
            actions: Actions, shape `(E, *act_shape)`.

        Raises:
            ProtocolError: If there was no `reset`, a step failed since, or the last actions wait for `step_wait`.
            BufferFullError: If the step would hold more than `max_transitions`. The environments were not stepped.
            ShapeError, DtypeError, StructureError: If the actions are not like those held. The environments were not
                stepped.
        """
        self._buffer.act(actions)
        try:
            self.venv.step_async(actions)
        except BaseException:
            self._buffer.withdraw()
            raise

    def step_wait(self) -> Any:
        """Wait for the step, and record it.

        A step that fails is not recorded; what was recorded before can be popped, and after a `reset` stepping goes on.
        What a sink raises passes through; the step is recorded then, and so is the trajectory that the sink refused.

        Returns:
            The wrapped environment's observations, rewards, dones and infos.

        Raises:
            ProtocolError: If no actions wait for a step.
            MissingTerminalObservationError: If an episode ended without `infos[i]["terminal_observation"]`.
            ShapeError, DtypeError, StructureError: If an observation or reward is not like those recorded before.
        """
        if not self._buffer.is_pending:
            self._buffer.check_step()
        try:
            returned = self.venv.step_wait()
            obs, rews, dones, infos = returned
            if type(dones) is not np.ndarray or dones.dtype is not _BOOL:
                dones = np.asarray(dones).astype(_BOOL)
            # A search in bytes costs a fraction of `dones.any()`.
            flags = dones.tobytes()
            endings = self._endings(flags, infos) if 1 in flags else ()
            if self._copies_infos:
                infos = self._own_infos(infos)
            self._buffer.step(obs, rews, infos, endings)
        except BaseException:
            self._buffer.abort()
            raise
        for ending in endings:
            if self._reuse.is_looking:
                self._reuse.look(ending.at, obs, ending.final_obs)
        return returned

    def close(self) -> None:
        """Close the environments and the running episodes, which can then be popped, or go to the sink (`"closed"`)."""
        try:
            self._buffer.close()
        finally:
            self.venv.close()

    def _reset_infos(self) -> Sequence[Info]:
        return getattr(self._base, "reset_infos", None) or ()

    def _own_infos(self, infos: Sequence[Info]) -> list[Info]:
        copies = list(map(deep_copied, infos))
        self._copies_infos = self._reuse_of_infos.may_be(infos)
        return copies

    def _endings(self, flags: bytes, infos: Sequence[Info]) -> list[Ending]:
        # An autoreset overwrites the base environment's reset infos; wrappers in between do not pass them on.
        reset_infos = self._reset_infos()
        endings = []
        env = flags.find(1)
        while env >= 0:
            # A copy: wrappers above replace entries of the dict, and an environment may reuse it.
            info = self._copied_info(infos[env])
            if "terminal_observation" not in info:
                raise self._missing_terminal_observation(env)
            final_obs = infos[env]["terminal_observation"]
            info["terminal_observation"] = final_obs.copy() if type(final_obs) is np.ndarray else deep_copied(final_obs)
            # "TimeLimit.truncated" is there at every step, as `truncated and not terminated`.
            truncated = bool(info.get("TimeLimit.truncated"))
            reset_info = deep_copied(reset_infos[env]) if reset_infos else None
            endings.append(Ending(env, not truncated, truncated, final_obs, info, reset_info))
            env = flags.find(1, env + 1)
        return endings

    def _missing_terminal_observation(self, env: int) -> MissingTerminalObservationError:
        return MissingTerminalObservationError(
            f"environment {env}, step {self._buffer.episode_steps(env)} of its episode: expected the episode's "
            f'last observation in infos[{env}]["terminal_observation"], got none. Every VecEnv that resets its '
            "environments by itself has to keep it there; add it in the VecEnv or in a wrapper below this one"
        )
