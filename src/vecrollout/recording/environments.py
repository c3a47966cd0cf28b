"""The kinds of environments, and what a recorder asks all of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import gymnasium as gym
import numpy as np
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper

from vecrollout.errors import ArgumentTypeError, OptionError
from vecrollout.recording.batched_env import BatchedEnv, single_space

if TYPE_CHECKING or hasattr(gym.vector, "VectorWrapper"):
    VectorWrapper = gym.vector.VectorWrapper
else:  # Gymnasium 0.29
    VectorWrapper = gym.vector.VectorEnvWrapper

AnyEnv: TypeAlias = "VecEnv | gym.vector.VectorEnv[Any, Any, Any] | gym.Env[Any, Any]"
"""A Stable-Baselines3 `VecEnv`, a Gymnasium `VectorEnv`, or a single environment."""

SINGLE = "a single gymnasium.Env"
VECTOR = "a VectorEnv of Gymnasium or a batched gymnasium.Env with num_envs"
VEC_ENV = "a VecEnv of Stable-Baselines3"

_RECORDERS = {SINGLE: "BufferingEnvWrapper", VECTOR: "VectorBufferingWrapper", VEC_ENV: "BufferingWrapper"}


def is_vector_env(env: Any) -> bool:
    """Whether an environment has the interface of Gymnasium's vector environments, or is a batched `gymnasium.Env`."""
    if isinstance(env, VecEnv):
        return False
    if isinstance(env, gym.vector.VectorEnv):
        return True
    base = getattr(env, "unwrapped", env)
    num_envs = getattr(base, "num_envs", None)
    if not isinstance(env, gym.Env) or not isinstance(num_envs, int | np.integer):
        return False
    single = getattr(base, "single_observation_space", None)
    if single is None:
        # One environment that counts itself returns no batches.
        return bool(num_envs > 1) or single_space(env.observation_space, 1) is not None
    # A wrapper may take the only environment out of its batch, as ManiSkill's CPUGymWrapper does.
    return not (num_envs == 1 and env is not base and env.observation_space == single)


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
        cure = _inside(env) if kind is None else f", {kind}; use {_RECORDERS[kind]} or record_traces"
        raise ArgumentTypeError(f"env: expected {expected}, got {type(env).__name__}{cure}")


def checked_kind(name: str, env: Any, vector_options: Mapping[str, Any]) -> str:
    """The kind of an environment, where all kinds will do but some options are for vector environments only."""
    kind = kind_of(env)
    if kind is None:
        raise ArgumentTypeError(
            f"{name}: expected {VEC_ENV}, {VECTOR}, or {SINGLE}, got {type(env).__name__}{_inside(env)}"
        )
    allowed = {VECTOR: set(vector_options), VEC_ENV: {"missing_final_obs"}}.get(kind, set())
    refused = [option for option in vector_options if option not in allowed]
    if refused:
        takers = (
            "environments that reset themselves" if refused == ["missing_final_obs"] else "a VectorEnv of Gymnasium"
        )
        raise OptionError(f"{', '.join(refused)}: only for {takers}, got a {type(env).__name__}")
    return kind


def _inside(env: Any) -> str:
    """The cure for a name or a class, and for another library's wrapper around an environment that can be recorded."""
    if isinstance(env, str):
        return f"; make the environment first: gymnasium.make({env!r})"
    if isinstance(env, type) or (callable(env) and not hasattr(env, "step")):
        return "; call it first, and pass the environment that it makes"
    inner = getattr(env, "unwrapped", None)
    kind = None if inner is None or inner is env else kind_of(inner)
    return "" if kind is None else f"; record the environment inside it: {_RECORDERS[kind]}(env.unwrapped)"


def layers_of(env: Any) -> Iterator[Any]:
    """An environment's wrappers from the outermost one, then the environment itself."""
    yield env
    while isinstance(env, (gym.Wrapper, VectorWrapper, VecEnvWrapper, BatchedEnv)):
        env = env.venv if isinstance(env, VecEnvWrapper) else env.env
        yield env


def spaces_of(env: AnyEnv) -> tuple[gym.Space[Any], gym.Space[Any]]:
    """Observation and action space of each single environment."""
    names = ("observation_space", "action_space")
    prefix = "single_" if is_vector_env(env) else ""
    if is_vector_env(env) and not isinstance(env, gym.vector.VectorEnv):
        observations, actions = (_single_space(env, name) for name in names)
    else:
        # Some do not tell the spaces apart, and have those of a single environment.
        observations, actions = (getattr(env, f"{prefix}{name}", None) or getattr(env, name) for name in names)
    return observations, actions


def num_envs_of(env: AnyEnv) -> int:
    """Number of environments; 1 for a single one."""
    base: Any = env.unwrapped if isinstance(env, gym.Env) else env
    return 1 if kind_of(env) == SINGLE else int(base.num_envs)


def _single_space(env: Any, name: str) -> gym.Space[Any]:
    """The space of one environment of a batched one, which may be among wrappers that change its space."""
    base, space = env.unwrapped, getattr(env, name)
    single: gym.Space[Any] | None = getattr(base, f"single_{name}", None)
    if single is not None and space == getattr(base, name):
        return single
    return single_space(space, int(base.num_envs)) or space
