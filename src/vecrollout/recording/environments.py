"""The kinds of environments, and what a recorder asks all of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TypeAlias

import gymnasium as gym
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper

from vecrollout.errors import ArgumentTypeError, OptionError

if TYPE_CHECKING or hasattr(gym.vector, "VectorWrapper"):
    VectorWrapper = gym.vector.VectorWrapper
else:  # Gymnasium 0.29
    VectorWrapper = gym.vector.VectorEnvWrapper

AnyEnv: TypeAlias = "VecEnv | gym.vector.VectorEnv[Any, Any, Any] | gym.Env[Any, Any]"
"""A Stable-Baselines3 `VecEnv`, a Gymnasium `VectorEnv`, or a single environment."""

SINGLE = "a single gymnasium.Env"
VECTOR = "a VectorEnv of Gymnasium"
VEC_ENV = "a VecEnv of Stable-Baselines3"

_RECORDERS = {SINGLE: "BufferingEnvWrapper", VECTOR: "VectorBufferingWrapper", VEC_ENV: "BufferingWrapper"}


def is_vector_env(env: Any) -> bool:
    """Whether an environment has the interface of Gymnasium's vector environments."""
    # EnvPool's environments are no subclasses of VectorEnv, and in Gymnasium 0.29 a VectorEnv is an Env.
    base = getattr(env, "unwrapped", env)
    return not isinstance(env, VecEnv) and hasattr(base, "single_observation_space") and hasattr(base, "num_envs")


def kind_of(env: Any) -> str | None:
    """The kind of an environment; None if it is no environment."""
    if isinstance(env, type):
        return None
    if is_vector_env(env):
        return VECTOR
    if isinstance(env, gym.Env):
        return SINGLE
    # An object with the interface of a VecEnv will do.
    return VEC_ENV if isinstance(env, VecEnv) or hasattr(env, "step_wait") else None


def check_kind(env: Any, expected: str) -> None:
    """Refuse an environment of another kind."""
    kind = kind_of(env)
    if kind != expected:
        cure = "" if kind is None else f", {kind}; use {_RECORDERS[kind]} or record_traces"
        raise ArgumentTypeError(f"env: expected {expected}, got {type(env).__name__}{cure}")


def checked_kind(name: str, env: Any, vector_options: dict[str, Any]) -> str:
    """The kind of an environment, where all kinds will do but some options are for vector environments only."""
    kind = kind_of(env)
    if kind is None:
        raise ArgumentTypeError(f"{name}: expected {VEC_ENV}, {VECTOR}, or {SINGLE}, got {type(env).__name__}")
    if kind != VECTOR and vector_options:
        raise OptionError(f"{', '.join(vector_options)}: only for a VectorEnv of Gymnasium, got a {type(env).__name__}")
    return kind


def layers_of(env: Any) -> Iterator[Any]:
    """An environment's wrappers from the outermost one, then the environment itself."""
    yield env
    while isinstance(env, (gym.Wrapper, VectorWrapper, VecEnvWrapper)):
        env = env.venv if isinstance(env, VecEnvWrapper) else env.env
        yield env


def spaces_of(env: AnyEnv) -> tuple[gym.Space[Any], gym.Space[Any]]:
    """Observation and action space of each single environment."""
    names = ("observation_space", "action_space")
    prefix = "single_" if is_vector_env(env) else ""
    observations, actions = (getattr(env, f"{prefix}{name}") for name in names)
    return observations, actions
