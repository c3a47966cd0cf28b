"""Environments of every kind, as those that have to do with all of them see them."""

from __future__ import annotations

from typing import Any, TypeAlias

import gymnasium as gym
from stable_baselines3.common.vec_env import VecEnv

from vecrollout.errors import ArgumentTypeError

AnyEnv: TypeAlias = "VecEnv | gym.vector.VectorEnv[Any, Any, Any] | gym.Env[Any, Any]"
"""A Stable-Baselines3 `VecEnv`, a Gymnasium `VectorEnv`, or a single environment."""

SINGLE = "a single gymnasium.Env"
VECTOR = "a VectorEnv of Gymnasium"
VEC_ENV = "a VecEnv of Stable-Baselines3"

_RECORDERS = {SINGLE: "BufferingEnvWrapper", VECTOR: "VectorBufferingWrapper", VEC_ENV: "BufferingWrapper"}


def is_vector_env(env: Any) -> bool:
    """Whether an environment is one of Gymnasium's vector environments, or speaks as they do."""
    # By what it has: EnvPool's are no subclasses of VectorEnv, and in Gymnasium 0.29 a VectorEnv is an Env.
    base = getattr(env, "unwrapped", env)
    return not isinstance(env, VecEnv) and hasattr(base, "single_observation_space") and hasattr(base, "num_envs")


def kind_of(env: Any) -> str | None:
    """Which of the kinds an environment is of; None if it is none."""
    if isinstance(env, type):
        return None
    if is_vector_env(env):
        return VECTOR
    if isinstance(env, gym.Env):
        return SINGLE
    # What speaks as a VecEnv does will do.
    return VEC_ENV if isinstance(env, VecEnv) or hasattr(env, "step_wait") else None


def check_kind(env: Any, expected: str) -> None:
    """Refuse an environment of another kind.

    Raises:
        ArgumentTypeError: If it is of another, or none.
    """
    kind = kind_of(env)
    if kind != expected:
        cure = "" if kind is None else f", {kind}, for which there are {_RECORDERS[kind]} and record_traces"
        raise ArgumentTypeError(f"env: expected {expected}, got {type(env).__name__}{cure}")


def spaces_of(env: AnyEnv) -> tuple[gym.Space[Any], gym.Space[Any]]:
    """Observation and action space of each single one of the environments."""
    names = ("observation_space", "action_space")
    prefix = "single_" if is_vector_env(env) else ""
    observations, actions = (getattr(env, f"{prefix}{name}") for name in names)
    return observations, actions
