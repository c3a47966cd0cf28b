"""The environments of a worker."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym

from vecrollout.errors import OptionError
from vecrollout.recording.environments import SINGLE, AnyEnv, checked_kind, num_envs_of
from vecrollout.recording.sb3 import BufferingWrapper


def made(env_fn: Callable[[], AnyEnv], num_envs: int | None) -> AnyEnv:
    """The environments that a function makes; single ones are stepped together."""
    first = env_fn()
    if checked_kind("env_fn", first, {}) != SINGLE:
        if num_envs is not None and num_envs != num_envs_of(first):
            raise OptionError(
                f"num_envs: expected None or {num_envs_of(first)}, as many as env_fn makes, got {num_envs}"
            )
        return first
    makers: list[Any] = [lambda: first, *[env_fn] * ((num_envs or 1) - 1)]
    # Without wasted steps. Gymnasium 1.0 has one rule only.
    rule: dict[str, Any] = (
        {"autoreset_mode": gym.vector.AutoresetMode.SAME_STEP} if hasattr(gym.vector, "AutoresetMode") else {}
    )
    return gym.vector.SyncVectorEnv(makers, **rule)


def reset(recorder: Any, seed: int) -> Any:
    """First observations of environments with consecutive seeds."""
    if isinstance(recorder, BufferingWrapper):
        recorder.seed(seed)
        return recorder.restart()
    return recorder.reset(seed=seed)[0]
