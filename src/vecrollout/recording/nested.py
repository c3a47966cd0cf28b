"""Recorders inside recorded vector environments."""

from __future__ import annotations

import warnings
from typing import Any

import gymnasium as gym
from stable_baselines3.common.vec_env import DummyVecEnv

from vecrollout.recording.environments import layers_of
from vecrollout.recording.recorder import Recorder


def warn_of_inner_recorders(env: Any) -> None:
    """Warn where a vector environment that is recorded has recorders inside: they hold the same steps once more."""
    base = getattr(env, "unwrapped", env)
    envs = base.envs if isinstance(base, DummyVecEnv | gym.vector.SyncVectorEnv) else []
    for i, each in enumerate(envs):
        inner = [layer for layer in layers_of(each) if isinstance(layer, Recorder) and layer.owned_writer is None]
        if inner:
            warnings.warn(
                f"environment {i} of the {type(base).__name__} has a {type(inner[0]).__name__} of its own, which holds "
                "the same steps until they are popped there. Leave it out: the recorder around the vector environment "
                "records all environments",
                stacklevel=3,
            )
            return
