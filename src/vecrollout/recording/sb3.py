"""Recording from Stable-Baselines3 vector environments."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Unpack

from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper

from vecrollout.errors import ProtocolError
from vecrollout.recording.environments import VEC_ENV, check_kind
from vecrollout.recording.final_obs import MissingFinalObs, checked_missing
from vecrollout.recording.flags import as_flags
from vecrollout.recording.recorder import Advanced, Recorder
from vecrollout.recording.sb3_resets import next_seeds_of
from vecrollout.recording.sb3_steps import VecEnvSteps, returns_new_infos

if TYPE_CHECKING:
    from vecrollout.buffer.options import RecordOptionsDict


class BufferingWrapper(Recorder, VecEnvWrapper):
    """Records every step of a Stable-Baselines3 `VecEnv` until you pop it.

    `reset`, `step_async` and `step_wait` return the wrapped environment's own values, unchanged. The recorder copies
    them. It records the actions that the wrapped environment executes, after a learner has clipped or rescaled its own.
    The wrapper's place among others decides which data it records: below `VecNormalize` the raw observations and
    rewards, above it the normalized ones.

    After every call, also one that raised, `stepped == held + popped + delivered + dropped`.

    Args:
        venv: The environment to wrap, E environments in all.
        error_on_premature_reset: Whether the recorder refuses a `reset` while it holds transitions.
        copy_infos: Whether to copy the info dicts of each step. None: unless `venv` is a `DummyVecEnv` or a
            `SubprocVecEnv`, which return new dicts. Pass False for a `VecEnv` of your own that does so too.
        missing_final_obs: What to do if `venv` does not give an episode's last observation, as procgen's does not:
            `"raise"`; `"drop"` the last transition, and count it as dropped; or `"mark"` it by
            `info["final_obs_missing"]` and repeat the observation before it.
        **options: The options of all recorders: `record_infos`, `sink`, `max_transitions`, `on_full`, `early_reset`,
            `cast`.
            `RecordOptions` describes them.

    Raises:
        ArgumentTypeError: If `venv` is not a `VecEnv`, an option does not exist, or it has another type.
        OptionError: If an option has another value than described.

    Examples:
        >>> import numpy as np
        >>> from stable_baselines3.common.env_util import make_vec_env
        >>> venv = BufferingWrapper(make_vec_env("CartPole-v1", n_envs=2, seed=0))
        >>> obs = venv.reset()
        >>> obs, rews, dones, infos = venv.step(np.array([0, 1]))
        >>> venv.pop_transitions().obs.shape
        (2, 4)

    Source:
        Interface of `imitation.data.wrappers.BufferingWrapper` (imitation 1.0.1), of which this is a drop-in. Ours
        counts transitions, keeps termination and truncation apart, and stays usable after an error.
    """

    def __init__(
        self,
        venv: VecEnv,
        error_on_premature_reset: bool = True,
        *,
        copy_infos: bool | None = None,
        missing_final_obs: MissingFinalObs = "raise",
        **options: Unpack[RecordOptionsDict],
    ) -> None:
        check_kind(venv, VEC_ENV)
        super().__init__(venv)
        self.error_on_premature_reset = error_on_premature_reset
        self._record(venv, options)
        copies_infos = not returns_new_infos(venv.unwrapped) if copy_infos is None else copy_infos
        self._steps = VecEnvSteps(self._buffer, venv, checked_missing(missing_final_obs), copies_infos)
        self._resets_behind = self._steps.resets_behind
        # A subclass may change how a step begins or ends.
        halves = (BufferingWrapper.step_async, BufferingWrapper.step_wait)
        self._has_other_halves = (type(self).step_async, type(self).step_wait) != halves

    def reset(self, **kwargs: Any) -> Any:
        """Reset all environments.

        Args:
            **kwargs: Passed on to the wrapped environment's `reset`.

        Returns:
            The wrapped environment's first observations.

        Raises:
            PrematureResetError: If the recorder holds transitions and `error_on_premature_reset` is True. The
                environments were not reset.
            ShapeError, DtypeError, StructureError: If the observations are not like the recorded ones. You can still
                pop these.
        """
        self._check_open()
        if self.error_on_premature_reset:
            self._buffer.check_reset()
        seeds = next_seeds_of(self.venv.unwrapped)
        before = list(self._steps.reset_infos.current())
        try:
            obs = self.venv.reset(**kwargs)
            self._steps.reset(obs, seeds)
        except BaseException:
            # `Monitor(allow_early_resets=False)` raises before anything is reset. The episodes then go on.
            after = self._steps.reset_infos.current()
            if not before or any(old is not new for old, new in zip(before, after, strict=True)):
                self._buffer.abort()
                self._resets_behind.forget()
            raise
        return obs

    def join(self, obs: Any, start_steps: Sequence[int]) -> None:
        """Begin to record in the middle of episodes, after somebody else has reset the environments.

        Args:
            obs: Current observations, shape `(E, *obs_shape)`.
            start_steps: The number of steps that each environment's episode has had so far, E integers.

        Raises:
            ShapeError, DtypeError, StructureError: If the observations are not like the recorded ones. You can still
                pop these.
        """
        self._steps.reset(obs, start_steps=start_steps)

    def step(self, actions: Any) -> Any:
        """Step all environments, and record the step: `step_async` and `step_wait`, whose errors apply.

        Args:
            actions: Actions, shape `(E, *act_shape)`.

        Returns:
            The wrapped environment's observations, rewards, dones and infos.
        """
        if self._has_other_halves:
            return super().step(actions)
        buffer, venv = self._buffer, self.venv
        self._resets_behind.look()
        buffer.act(actions)
        try:
            venv.step_async(actions)
        except BaseException:
            buffer.withdraw()
            raise
        try:
            returned = venv.step_wait()
            endings = self._steps.record(returned)
        except BaseException:
            buffer.abort()
            raise
        if endings:
            self._steps.look(returned, endings)
        return returned

    def step_async(self, actions: Any) -> None:
        """Copy the actions and pass them on to the wrapped environment.

        Args:
            actions: Actions, shape `(E, *act_shape)`.

        Raises:
            ProtocolError: If there was no `reset`, a step failed since, or the last actions wait for `step_wait`.
            BufferFullError: If the recorder would hold more than `max_transitions`. The environments were not stepped.
            ShapeError, DtypeError, StructureError: If the actions are not like the recorded ones. The environments were
                not stepped.
        """
        self._resets_behind.look()
        self._buffer.act(actions)
        try:
            self.venv.step_async(actions)
        except BaseException:
            self._buffer.withdraw()
            raise

    def step_wait(self) -> Any:
        """Wait for the step, and record it.

        A step that fails is not recorded. You can pop the steps before it, and go on after a `reset`. If the sink
        raises, its error passes through. The step is recorded, and the trajectory that the sink refused stays held.

        Returns:
            The wrapped environment's observations, rewards, dones and infos.

        Raises:
            ProtocolError: If no actions wait for a step.
            MissingTerminalObservationError: If an episode ended without `infos[i]["terminal_observation"]`, and
                `missing_final_obs` is `"raise"`.
            ShapeError, DtypeError, StructureError: If an observation or reward is not like the recorded ones.
        """
        buffer = self._buffer
        buffer.check_step()
        try:
            returned = self.venv.step_wait()
            endings = self._steps.record(returned)
        except BaseException:
            buffer.abort()
            raise
        if endings:
            self._steps.look(returned, endings)
        return returned

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        del state["class_attributes"]  # of SB3's base class; it cannot be copied
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.class_attributes = dict(inspect.getmembers(type(self)))

    def restart(self) -> Any:
        """Reset all environments.

        Returns:
            First observations, shape `(E, *obs_shape)`.
        """
        return self.reset()

    def advance(self, acts: Any) -> Advanced:
        """Step all environments. Each begins the next episode in the step that ends one.

        Args:
            acts: Actions, shape `(E, *act_shape)`.

        Returns:
            The observations to act on, and the environments whose episodes ended and began.
        """
        obs, _, dones, _ = self.step(acts)
        ended = as_flags(dones, self._buffer.num_envs, "dones")
        return Advanced(obs, ended, ended)

    def close(self) -> None:
        """Close the environments and the running episodes.

        The running fragments (`episode.ended_by` is `"closed"`) go to the sink, or can be popped. A writer of the
        recorder's own is closed too.
        """
        self._close(self.venv.close)

    def env_method(self, method_name: str, *method_args: Any, indices: Any = None, **method_kwargs: Any) -> list[Any]:
        """Call a method of the environments, other than `reset` and `step`.

        Args:
            method_name: Name of the method.
            *method_args: Passed on to the method.
            indices: Which environments; None: all.
            **method_kwargs: Passed on to the method.

        Returns:
            What the method returned, one value an environment.

        Raises:
            ProtocolError: If the method is `reset` or `step`, which the recorder would not see.
        """
        if method_name in ("reset", "step"):
            raise ProtocolError(
                f'env_method: expected a method that begins no episode, got "{method_name}", which the recorder would '
                "not see; call reset() or step() of the recorder. To pass options or seeds to the environments, call "
                "set_options() or seed() before reset()"
            )
        return self.venv.env_method(method_name, *method_args, indices=indices, **method_kwargs)
