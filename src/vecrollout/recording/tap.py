"""Recording from a Stable-Baselines3 `VecEnv` without a wrapper around it."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from stable_baselines3.common.vec_env import VecEnv

from vecrollout import exits
from vecrollout._typing import Info
from vecrollout.buffer import RolloutBuffer, deep_copied
from vecrollout.buffer.options import RecordOptions
from vecrollout.recording.batching import dtypes_to_cast
from vecrollout.recording.copies import check_copied, deep_copy
from vecrollout.recording.final_obs import MissingFinalObs
from vecrollout.recording.recorder import warn_of_inner_recorders
from vecrollout.recording.sb3_steps import VecEnvSteps, returns_new_infos
from vecrollout.storage.writing.writer import TraceWriter

_TAPPED = ("reset", "step_async", "step_wait", "env_method")
_NOTHING: Mapping[str, Any] = {}


class Tap:
    """Records a `VecEnv` by functions in the places of four of its methods.

    SB3 compares the wrappers of training and evaluation environments, so a further wrapper would show. A step is
    recorded when the policy's part of it is known too, or when the next one begins.

    Args:
        venv: The environment.
        writer: Writes the trajectories, and is closed with the tap.
        options: Options of the buffer.
        missing: What to do without an episode's last observation.
        obs: The environments' current observations.
        start_steps: Steps that each environment's episode has had.
    """

    def __init__(
        self,
        venv: VecEnv,
        writer: TraceWriter,
        options: RecordOptions,
        missing: MissingFinalObs,
        obs: Any,
        start_steps: Sequence[int],
    ) -> None:
        self.venv = venv
        self.is_closed = False
        self.obs = obs
        """The environments' current observations."""
        self._writer = writer
        dtypes = dtypes_to_cast(options, (venv.observation_space, venv.action_space))
        self._buffer = RolloutBuffer(venv.num_envs, options, dtypes=dtypes)
        warn_of_inner_recorders(venv)
        # A step is recorded late, so its infos are copied before.
        self._copied = dict if returns_new_infos(venv.unwrapped) else deep_copied
        self._steps = VecEnvSteps(self._buffer, venv, missing, copies_infos=False)
        self._replaced = {name: getattr(venv, name) for name in _TAPPED}
        # What the last step returned, until it is recorded.
        self._returned: tuple[Any, Any, Any, list[Info]] | None = None
        # Whether somebody else has stepped the environments since the policy was heard of last.
        self._others_step = False
        # Here, where it may raise: nothing of the environment is replaced yet.
        self._steps.reset(obs, start_steps=start_steps)

    def begin(self) -> None:
        """Record from here on."""
        for name, method in zip(_TAPPED, self._replacements, strict=True):
            setattr(self.venv, name, method)
        exits.close_at_exit(self)

    def record(self, said: Mapping[str, Any] = _NOTHING) -> None:
        """Record the last step, if it is not recorded yet, with what the policy said of it as annotations."""
        if self._returned is None:
            return
        returned, self._returned = self._returned, None
        try:
            self._buffer.annotate(said)
            endings = self._steps.record(returned)
        except BaseException:
            self._buffer.abort()
            raise
        if endings:
            self._steps.look(returned, endings)

    def hear(self, said: Mapping[str, Any]) -> None:
        """Record the last step, with what the policy said of the step before the callback was called.

        If others, an evaluation for example, have stepped the environments too, it is unknown which step that was.
        """
        others_step, self._others_step = self._others_step, False
        self.record(_NOTHING if others_step else said)

    def flush(self) -> None:
        """Make every finished episode durable."""
        self._writer.flush()

    def close(self) -> None:
        """Record the last step, restore the environment's methods, and close the writer. A second call does nothing."""
        if not self.is_closed:
            # After an interrupt the next call closes the rest.
            exits.close_each(self.record, self._buffer.close, self._restore, self._writer.close, self._end)

    def _end(self) -> None:
        self.is_closed = True
        exits.closed(self)

    def __getstate__(self) -> dict[str, Any]:
        check_copied(self.venv)
        return dict(vars(self))

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return deep_copy(self, memo, [self._writer])

    @property
    def _replacements(self) -> tuple[Any, ...]:
        return self._reset, self._step_async, self._step_wait, self._env_method

    def _restore(self) -> None:
        for name in _TAPPED:
            if getattr(self.venv, name, None) in self._replacements:
                delattr(self.venv, name)

    # In the places of the environment's own methods

    def _reset(self, **kwargs: Any) -> Any:
        self._record_unheard()
        try:
            obs = self._replaced["reset"](**kwargs)
            self.obs = copy.deepcopy(obs)
            self._steps.reset(obs)
        except BaseException:
            self._buffer.abort()
            raise
        return obs

    def _step_async(self, actions: Any) -> None:
        self._record_unheard()
        self._steps.resets_behind.look()
        self._buffer.act(actions)
        try:
            self._replaced["step_async"](actions)
        except BaseException:
            self._buffer.withdraw()
            raise

    def _step_wait(self) -> Any:
        try:
            obs, rews, dones, infos = returned = self._replaced["step_wait"]()
            self.obs = copy.deepcopy(obs)
            self._returned = self.obs, np.array(rews), np.array(dones), [self._copied(info) for info in infos]
        except BaseException:
            self._buffer.abort()
            raise
        return returned

    def _env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> Any:
        """A reset of single environments ends their episodes; the first observation of the next ones is not seen."""
        if method_name == "reset":
            self._record_unheard()
            chosen = range(self.venv.num_envs) if indices is None else np.atleast_1d(indices).tolist()
            self._steps.resets_behind.add(chosen)
        return self._replaced["env_method"](method_name, *args, indices=indices, **kwargs)

    def _record_unheard(self) -> None:
        self._others_step = self._others_step or self._returned is not None
        self.record()
