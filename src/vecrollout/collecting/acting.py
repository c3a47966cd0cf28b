"""A policy that acts in environments, one step after another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import BasePolicy

from vecrollout._typing import Array
from vecrollout.collecting.masks import ActionMasks, takes_masks
from vecrollout.collecting.policy import AnyPolicy, callable_of
from vecrollout.data.foreign import as_array
from vecrollout.data.structures import Structure
from vecrollout.errors import PolicyError, ShapeError
from vecrollout.recording.batching import Batching, map_space
from vecrollout.recording.environments import AnyEnv, num_envs_of, spaces_of
from vecrollout.recording.recorder import Recorder
from vecrollout.recording.sb3_algorithm import state_columns


class Acting:
    """Steps the environments of a recorder with a policy's actions, and keeps the policy's state.

    Args:
        recorder: The recorder.
        env: The environments in it.
        record_masks: Whether to record the environments' action masks, as annotations.
        record_states: Whether to record the policy's recurrent state.
    """

    def __init__(self, recorder: Recorder, env: AnyEnv, record_masks: bool, record_states: bool) -> None:
        self._recorder, self._env = recorder, env
        self.num_envs = num_envs_of(env)
        """Number of environments."""
        self._observation_space, self._action_space = spaces_of(env)
        self._masks = ActionMasks(env)
        self._records_masks, self._records_states = record_masks, record_states
        self._has_acted = False

    def use(self, policy: AnyPolicy, deterministic: bool, rng: np.random.Generator | None) -> None:
        """Act with this policy from the next step on; `policy_to_callable` has the same arguments."""
        self._policy = callable_of(policy, self._env, deterministic, rng, self._masks)
        is_predicting = isinstance(policy, BaseAlgorithm | BasePolicy)
        # A policy with masks has fetched them before it acts.
        self._fetches_masks = not (is_predicting and takes_masks(policy))
        # sb3-contrib's recurrent policies have one row a layer, and in it one an environment.
        self._axis = 1 if is_predicting else 0

    def begin(self, obs: Any) -> None:
        """Start with the first observations of episodes."""
        _check_fit("obs", obs, self._observation_space, self.num_envs)
        self._obs = obs
        self._states: Any = None
        self._starts: npt.NDArray[np.bool_] = np.ones(self.num_envs, dtype=bool)

    def step(self) -> npt.NDArray[np.bool_]:
        """Take a step; says which environments' episodes it ended, shape `(E,)`."""
        acts, states = _decision(self._policy(self._obs, self._states, self._starts))
        if not self._has_acted:
            # The recorder checks that later actions are like the first.
            _check_fit("acts", acts, self._action_space, self.num_envs)
            self._has_acted = True
        if self._records_masks or self._records_states:
            self._recorder.annotate(**self._annotations(states))
        self._states = states
        self._obs, ended, self._starts = self._recorder.advance(acts)
        return ended

    def _annotations(self, states: Any) -> Mapping[str, Array]:
        """Masks and states before the action, which led to these states."""
        annotations: dict[str, Any] = {}
        if self._records_masks:
            annotations["action_masks"] = self._masks.fetch() if self._fetches_masks else self._masks.current
        if self._records_states:
            if states is None:
                raise PolicyError("record_states: expected a policy that returns (actions, states), got states of None")
            # Where all episodes start there are none yet, and zeros like those after it are recorded.
            before = _arrays(states if self._states is None else self._states)
            annotations |= state_columns([np.moveaxis(each, self._axis, 0) for each in before], self._starts)
        return annotations


def _arrays(states: Any) -> list[Array]:
    return [as_array(each, "states") for each in (states if isinstance(states, tuple | list) else [states])]


def _decision(decided: object) -> tuple[Any, Any]:
    """What a policy returned, if it is a pair of actions and states."""
    # Unpacking would split the actions of two environments.
    if isinstance(decided, tuple) and len(decided) == 2:
        return decided
    raise PolicyError(f"policy: expected it to return a tuple (actions, states), got {type(decided).__name__}")


def _check_fit(name: str, rows: Any, space: gym.Space[Any], num_envs: int) -> None:
    """Check that there is one row an environment, of the space's structure and shapes."""
    rows = Batching(space).leaves(rows)
    leaf_spaces = map_space(lambda leaf: leaf, space)
    structure = Structure.of(leaf_spaces)
    columns = structure.names(name), structure.flatten(rows, name), structure.flatten(leaf_spaces)
    for where, leaf, leaf_space in zip(*columns, strict=True):
        # A Text or Sequence space has no shape.
        if leaf_space.shape is not None and np.shape(leaf) != (num_envs, *leaf_space.shape):
            raise ShapeError(
                f"{where}: expected shape {(num_envs, *leaf_space.shape)}, {num_envs} environments with the space "
                f"{leaf_space}, got {np.shape(leaf)}"
            )
