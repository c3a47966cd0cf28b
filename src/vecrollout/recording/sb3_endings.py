"""What a Stable-Baselines3 `VecEnv` says about episodes that end and begin."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnv

from vecrollout._typing import Info
from vecrollout.buffer import BatchedInfos, Ending, RolloutBuffer, deep_copied
from vecrollout.errors import MissingTerminalObservationError
from vecrollout.recording.environments import layers_of
from vecrollout.recording.final_obs import MissingFinalObs
from vecrollout.recording.flags import as_flags

_TRUNCATED = "TimeLimit.truncated"


def returns_new_infos(base: Any) -> bool:
    """Whether a `VecEnv` returns new info dicts at every step, as Stable-Baselines3's own two do."""
    return getattr(type(base), "step_wait", None) in (DummyVecEnv.step_wait, SubprocVecEnv.step_wait)


def next_seeds_of(base: Any) -> list[int | None]:
    """The seeds that the next reset uses up; empty for a `VecEnv` that does not keep them."""
    return list(getattr(base, "_seeds", ()))  # `VecEnv.seed` stores them here; they have no public name


def flags_of(dones: Any, num_envs: int) -> bytes:
    """A byte an environment: 1 where its episode ended."""
    return as_flags(dones, num_envs, "dones").tobytes()


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


class Endings:
    """Finds the episodes that a step of a `VecEnv` ended.

    Args:
        reset_infos: Where the infos of resets are.
        buffer: Records the steps.
        missing: What to do without an episode's last observation.
    """

    def __init__(self, reset_infos: ResetInfos, buffer: RolloutBuffer, missing: MissingFinalObs = "raise") -> None:
        self._reset_infos = reset_infos
        self._buffer = buffer
        self._missing = missing
        self._knows_limits = True  # so far each info said whether a time limit ended the episode

    def of(self, flags: bytes, infos: Sequence[Info], copied: Callable[[Info], Info]) -> list[Ending]:
        """The episodes that end; `copied` makes an info safe from wrappers that replace its entries later."""
        endings = []
        resets = self._reset_infos.current()
        env = flags.find(1)
        while env >= 0:
            info = infos[env]
            final_obs: Any = info.get("terminal_observation")
            is_missing = final_obs is None
            if is_missing and self._missing == "raise":
                raise _missing_terminal_observation(env, self._buffer.episode_steps(env))
            if is_missing and self._missing == "mark":
                final_obs = self._buffer.current_obs(env)
            # The key is there at every step, as `truncated and not terminated`.
            limit = info.get(_TRUNCATED)
            if limit is None and self._knows_limits:
                self._warn(env)
            kept = None
            if self._buffer.keeps_infos:
                kept = copied(info)
                if is_missing:
                    kept["final_obs_missing"] = True
                else:
                    is_array = type(final_obs) is np.ndarray
                    kept["terminal_observation"] = final_obs.copy() if is_array else deep_copied(final_obs)
            # An autoreset overwrites the base environment's reset infos.
            reset_info = self._reset_infos.of_autoreset(env, resets)
            endings.append(Ending(env, not limit, bool(limit), final_obs, kept, reset_info, final_obs is None))
            env = flags.find(1, env + 1)
        return endings

    def _warn(self, env: int) -> None:
        self._knows_limits = False
        warnings.warn(
            f'environment {env}: an episode ended, but infos[{env}] lacks "{_TRUNCATED}". It counts as terminated. '
            "If the environments have time limits, set the key in the VecEnv or in a wrapper below the recorder",
            stacklevel=5,
        )


def _missing_terminal_observation(env: int, step: int) -> MissingTerminalObservationError:
    return MissingTerminalObservationError(
        f"environment {env}, step {step} of its episode: expected the episode's last observation in "
        f'infos[{env}]["terminal_observation"], got none. Every VecEnv that resets its environments has to keep it '
        "there; add it in the VecEnv or in a wrapper below this one. If it is lost, pass "
        'missing_final_obs="drop" or "mark"'
    )
