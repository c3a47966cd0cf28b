"""What a Stable-Baselines3 `VecEnv` says about episodes that end and begin."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnv

from vecrollout._typing import Info
from vecrollout.buffer import Ending, RolloutBuffer, deep_copied
from vecrollout.errors import MissingTerminalObservationError
from vecrollout.recording.final_obs import MissingFinalObs
from vecrollout.recording.flags import as_flags


def returns_new_infos(base: VecEnv) -> bool:
    """Whether a `VecEnv` returns new info dicts at every step, as Stable-Baselines3's own two do."""
    return type(base).step_wait in (DummyVecEnv.step_wait, SubprocVecEnv.step_wait)


def reset_infos_of(base: VecEnv) -> Sequence[Info]:
    """Infos of each environment's last reset; empty for a `VecEnv` that does not keep them."""
    return getattr(base, "reset_infos", None) or ()


def next_seeds_of(base: VecEnv) -> list[int | None]:
    """The seeds that the next reset uses up; empty for a `VecEnv` that does not keep them."""
    return list(getattr(base, "_seeds", ()))  # `VecEnv.seed` stores them here; they have no public name


def flags_of(dones: Any, num_envs: int) -> bytes:
    """A byte an environment: 1 where its episode ended."""
    return as_flags(dones, num_envs, "dones").tobytes()


def endings_of(
    flags: bytes,
    infos: Sequence[Info],
    base: VecEnv,
    buffer: RolloutBuffer,
    copied: Callable[[Info], Info],
    missing: MissingFinalObs = "raise",
) -> list[Ending]:
    """The episodes that a step ended; `copied` makes an info safe from wrappers that replace its entries later."""
    # An autoreset overwrites the base environment's reset infos; wrappers in between do not pass them on.
    reset_infos = reset_infos_of(base)
    keeps_infos = buffer.keeps_infos
    endings = []
    env = flags.find(1)
    while env >= 0:
        info = infos[env]
        final_obs: Any = info.get("terminal_observation")
        is_missing = final_obs is None
        if is_missing and missing == "raise":
            raise _missing_terminal_observation(env, buffer.episode_steps(env))
        if is_missing and missing == "mark":
            final_obs = buffer.current_obs(env)
        # "TimeLimit.truncated" is there at every step, as `truncated and not terminated`.
        truncated = bool(info.get("TimeLimit.truncated"))
        kept = None
        if keeps_infos:
            kept = copied(info)
            if is_missing:
                kept["final_obs_missing"] = True
            else:
                is_array = type(final_obs) is np.ndarray
                kept["terminal_observation"] = final_obs.copy() if is_array else deep_copied(final_obs)
        reset_info = None
        if reset_infos:
            reset_info = deep_copied(reset_infos[env]) if reset_infos[env] else {}
        endings.append(Ending(env, not truncated, truncated, final_obs, kept, reset_info, final_obs is None))
        env = flags.find(1, env + 1)
    return endings


def _missing_terminal_observation(env: int, step: int) -> MissingTerminalObservationError:
    return MissingTerminalObservationError(
        f"environment {env}, step {step} of its episode: expected the episode's last observation in "
        f'infos[{env}]["terminal_observation"], got none. Every VecEnv that resets its environments has to keep it '
        "there; add it in the VecEnv or in a wrapper below this one. If it is lost, pass "
        'missing_final_obs="drop" or "mark"'
    )
