"""Gymnasium's own vector environments under the autoreset rules that the installed version has."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import gymnasium as gym
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv

RULES = ("next_step", "same_step", "disabled")

HAS_MODES = hasattr(gym.vector, "AutoresetMode")
"""From 1.1 on an environment is given its rule; before there was one only: same-step in 0.29, next-step in 1.0."""

IS_VERSION_0 = gym.__version__.startswith("0.")

MODES: tuple[str, ...] = RULES if HAS_MODES else ("same_step",) if IS_VERSION_0 else ("next_step",)

EnvFns = Sequence[Callable[[], gym.Env[Any, Any]]]


def _rule(mode: str) -> dict[str, Any]:
    return {"autoreset_mode": gym.vector.AutoresetMode[mode.upper()]} if HAS_MODES else {}


def sync_env(env_fns: EnvFns, mode: str = MODES[0], *, copy: bool = True) -> Any:
    return SyncVectorEnv(env_fns, copy=copy, **_rule(mode))


def async_env(env_fns: EnvFns, mode: str = MODES[0], *, copy: bool = True, shared_memory: bool = True) -> Any:
    # Processes are forked by a server that has no threads, as this one has.
    return AsyncVectorEnv(env_fns, copy=copy, shared_memory=shared_memory, context="forkserver", **_rule(mode))
