"""What a Stable-Baselines3 `VecEnv` returns, as a buffer takes it."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnv

from vecrollout._typing import Info
from vecrollout.buffer import Ending, RolloutBuffer, deep_copied
from vecrollout.data.foreign import is_foreign
from vecrollout.errors import MissingTerminalObservationError
from vecrollout.recording.final_obs import MissingFinalObs
from vecrollout.recording.flags import as_flags
from vecrollout.recording.overwritten import OverwrittenObs
from vecrollout.recording.sb3_resets import ResetInfos, ResetsBehind

_BOOL, _ndarray = np.dtype(bool), np.ndarray
_TRUNCATED = "TimeLimit.truncated"


class VecEnvSteps:
    """Records resets and steps of a `VecEnv` in a buffer.

    Args:
        buffer: The buffer.
        venv: The environments.
        missing: What to do without an episode's last observation.
        copies_infos: Whether the info dicts of each step are copied, because they may change later.
    """

    def __init__(self, buffer: RolloutBuffer, venv: VecEnv, missing: MissingFinalObs, copies_infos: bool) -> None:
        self._buffer = buffer
        self._missing = missing
        self.reset_infos = ResetInfos(venv)
        self.resets_behind = ResetsBehind(venv.unwrapped, buffer)
        self._has_new_infos = not copies_infos
        self._copied_info = deep_copied if copies_infos else dict
        self._copies_infos = buffer.keeps_infos  # the first step shows whether new infos can stay as they are
        self._knows_limits = True  # so far each info said whether a time limit ended the episode
        # Looks for last observations that a reset overwrote; None: nothing more is to be found out.
        self._overwritten: OverwrittenObs | None = OverwrittenObs(venv.unwrapped)

    def reset(self, obs: Any, seeds: Sequence[int | None] = (), start_steps: Sequence[int] = ()) -> None:
        """Record a reset of all environments; `start_steps` says how far their episodes have come already."""
        self._buffer.reset(obs, seeds, self.reset_infos.of_reset(), start_steps=start_steps)
        self.resets_behind.forget()

    def record(self, returned: Any) -> Sequence[Ending]:
        """Record what a step returned; the episodes that it ended, for `look`."""
        obs, rews, dones, infos = returned
        # A search in bytes costs a fraction of `dones.any()`.
        flags = dones.tobytes() if type(dones) is _ndarray and dones.dtype is _BOOL else self._flags_of(dones)
        endings: Sequence[Ending] = self._endings(flags, infos) if 1 in flags else ()
        kept = self._own_infos(infos) if self._copies_infos else infos
        restarts = self.resets_behind.restarts() if self.resets_behind.envs else ()
        self._buffer.step(obs, rews, kept, endings, restarts)
        return endings

    def look(self, returned: Any, endings: Sequence[Ending]) -> None:
        """Warn if a reset overwrote an episode's last observation. Where the warning is an error, the step stays."""
        if self._overwritten is not None and not self._overwritten.look(returned[0], returned[3], endings):
            self._overwritten = None

    def _flags_of(self, dones: Any) -> bytes:
        """A byte an environment: 1 where its episode ended."""
        return as_flags(dones, self._buffer.num_envs, "dones").tobytes()

    def _own_infos(self, infos: list[Info]) -> list[Info]:
        """Infos that nobody alters, with NumPy's arrays; those of the first step show whether new ones need copies."""
        if self._has_new_infos:
            if not any(is_foreign(value) for info in infos for value in info.values()):
                self._copies_infos = False
                return infos
            self._has_new_infos, self._copied_info = False, deep_copied
        return list(map(deep_copied, infos))

    def _endings(self, flags: bytes, infos: Sequence[Info]) -> list[Ending]:
        """The episodes that a step ended."""
        endings = []
        resets = self.reset_infos.current()
        env = flags.find(1)
        while env >= 0:
            info = infos[env]
            final_obs: Any = info.get("terminal_observation")
            is_missing = final_obs is None
            if is_missing and self._missing == "raise":
                raise _missing_terminal_observation(env, self._buffer.episode_steps(env))
            if not is_missing:
                final_obs = deep_copied(final_obs)
            elif self._missing == "mark":
                final_obs = self._buffer.current_obs(env)
            # The key is there at every step, as `truncated and not terminated`.
            limit = info.get(_TRUNCATED)
            if limit is None and self._knows_limits:
                self._warn_of_limits(env)
            kept = None
            if self._buffer.keeps_infos:
                # A copy, also of new infos: wrappers may replace its entries later.
                kept = self._copied_info(info)
                if is_missing:
                    kept["final_obs_missing"] = True
                else:
                    kept["terminal_observation"] = final_obs
            # An autoreset overwrites the base environment's reset infos.
            reset_info = self.reset_infos.of_autoreset(env, resets)
            endings.append(Ending(env, not limit, bool(limit), final_obs, kept, reset_info, final_obs is None))
            env = flags.find(1, env + 1)
        return endings

    def _warn_of_limits(self, env: int) -> None:
        self._knows_limits = False
        warnings.warn(
            f'environment {env}: an episode ended, but infos[{env}] lacks "{_TRUNCATED}". It counts as terminated. '
            "If the environments have time limits, set the key in the VecEnv or in a wrapper below the recorder",
            stacklevel=5,
        )


def returns_new_infos(base: Any) -> bool:
    """Whether a `VecEnv` returns new info dicts at every step, as Stable-Baselines3's own two do."""
    return getattr(type(base), "step_wait", None) in (DummyVecEnv.step_wait, SubprocVecEnv.step_wait)


def _missing_terminal_observation(env: int, step: int) -> MissingTerminalObservationError:
    return MissingTerminalObservationError(
        f"environment {env}, step {step} of its episode: expected the episode's last observation in "
        f'infos[{env}]["terminal_observation"], got none. Every VecEnv that resets its environments has to keep it '
        "there; add it in the VecEnv or in a wrapper below this one. If it is lost, pass "
        'missing_final_obs="drop" or "mark"'
    )
