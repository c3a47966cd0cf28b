"""What a Stable-Baselines3 algorithm knows about the steps that it trains on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv, VecNormalize, VecTransposeImage

from vecrollout._typing import Array
from vecrollout.data.foreign import as_array
from vecrollout.recording.environments import layers_of


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


def said_by_policy(
    variables: Mapping[str, Any], num_envs: int, with_masks: bool, with_states: bool
) -> dict[str, Array]:
    """What the policy said at a step, by name, from the local variables of `collect_rollouts`."""
    # Off-policy algorithms rescale their actions to the action space; on-policy ones clip them.
    actions = variables.get("buffer_actions", variables.get("actions"))
    said = {"policy_action": actions, "policy_log_prob": variables.get("log_probs")}
    columns = {name: as_array(value) for name, value in said.items()}
    # Values come as a column of numbers.
    values = as_array(variables.get("values"))
    columns["policy_value"] = values.reshape(num_envs) if values.size == num_envs else values
    if with_masks:
        columns["action_masks"] = as_array(variables.get("action_masks"))
    if with_states:
        columns.update(_states_before(variables, num_envs))
    return {name: column for name, column in columns.items() if column.ndim and len(column) == num_envs}


def _states_before(variables: Mapping[str, Any], num_envs: int) -> dict[str, Array]:
    """The actor's recurrent state that an action was computed from, the environments in the first dimension."""
    states = getattr(variables.get("self"), "_last_lstm_states", None)  # as `_last_obs`, of sb3-contrib's RecurrentPPO
    if states is None:
        return {}
    starts = as_array(variables["episode_starts"]).astype(bool)
    return state_columns([np.moveaxis(as_array(each), 1, 0) for each in states.pi], starts)


def state_columns(states: Sequence[Array], starts: Array) -> dict[str, Array]:
    """Annotations of recurrent state, shape `(E, ...)` each, with zeros where an episode starts."""
    columns = {}
    for i, each in enumerate(states):
        columns[f"policy_state_{i}"] = column = np.array(each)
        column[starts] = 0
    return columns


def _channels_last(transposing: VecTransposeImage, obs: Any) -> Any:
    if transposing.skip:
        return obs
    if isinstance(obs, dict):
        images = transposing.image_space_keys
        return {key: each.transpose(0, 2, 3, 1) if key in images else each for key, each in obs.items()}
    return obs.transpose(0, 2, 3, 1)
