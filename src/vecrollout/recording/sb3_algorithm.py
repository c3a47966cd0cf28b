"""What a Stable-Baselines3 algorithm knows about the steps that it trains on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv, VecNormalize, VecTransposeImage

from vecrollout._typing import Array
from vecrollout.recording.environments import layers_of

POLICY_KEYS = ("policy_action", "policy_value", "policy_log_prob")
"""Keys of the infos with what the policy said."""


def current_obs_of(model: BaseAlgorithm) -> Any:
    """The observations that the algorithm acts on next."""
    return model._last_obs  # callbacks of SB3's own and of sb3-contrib read it too; it has no public name


def below_normalization(env: VecEnv, obs: Any) -> tuple[VecEnv, Any]:
    """The environment below `VecNormalize` and `VecTransposeImage`, and its current observations."""
    normalized = [each for each in layers_of(env) if isinstance(each, VecNormalize)]
    if normalized:
        env, obs = normalized[-1].venv, normalized[-1].get_original_obs()
    while isinstance(env, VecTransposeImage):
        obs = _channels_last(env, obs)
        env = env.venv
    return env, obs


def said_by_policy(variables: Mapping[str, Any], num_envs: int) -> list[dict[str, Any]]:
    """What the policy said at a step, a dict an environment, from the local variables of `collect_rollouts`."""
    # Off-policy algorithms rescale their actions to the action space; on-policy ones clip them.
    names = "buffer_actions" if "buffer_actions" in variables else "actions", "values", "log_probs"
    columns = {}
    for key, name in zip(POLICY_KEYS, names, strict=True):
        column = _as_array(variables.get(name))
        if column.ndim and len(column) == num_envs:
            # Values come as a column of numbers.
            columns[key] = column if key == "policy_action" or column.size > num_envs else column.reshape(num_envs)
    return [{key: column[env].copy() for key, column in columns.items()} for env in range(num_envs)]


def _channels_last(transposing: VecTransposeImage, obs: Any) -> Any:
    if transposing.skip:
        return obs
    if isinstance(obs, dict):
        images = transposing.image_space_keys
        return {key: each.transpose(0, 2, 3, 1) if key in images else each for key, each in obs.items()}
    return obs.transpose(0, 2, 3, 1)


def _as_array(values: Any) -> Array:
    return np.asarray(values.detach().cpu().numpy() if hasattr(values, "detach") else values)
