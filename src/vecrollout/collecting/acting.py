"""A policy that acts in environments, one step after another."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from vecrollout.collecting.extras import Extras
from vecrollout.collecting.policy import PolicyCallable
from vecrollout.data.structures import Structure
from vecrollout.errors import PolicyError, ShapeError
from vecrollout.recording.batching import Batching
from vecrollout.recording.recorder import Recorder


class Acting:
    """Steps the environments of a recorder with a policy's actions, and keeps the policy's state.

    Args:
        recorder: The recorder.
        num_envs: Number of environments.
        single_spaces: Observation and action space of one environment.
        extras: What is recorded beside the actions.
        policy: The policy.
    """

    def __init__(
        self,
        recorder: Recorder,
        num_envs: int,
        single_spaces: tuple[gym.Space[Any], gym.Space[Any]],
        extras: Extras,
        policy: PolicyCallable,
    ) -> None:
        self._recorder, self._num_envs, self._extras = recorder, num_envs, extras
        self._observation_space, self._action_space = single_spaces
        self.policy = policy
        """The policy, which may be replaced between two steps."""
        self._has_acted = False

    def begin(self, obs: Any) -> None:
        """Start with the first observations of episodes."""
        _check_fit("obs", obs, self._observation_space, self._num_envs)
        self._obs, self._states = obs, None
        self._starts: npt.NDArray[np.bool_] = np.ones(self._num_envs, dtype=bool)

    def step(self) -> npt.NDArray[np.bool_]:
        """Take a step; says which environments' episodes it ended, shape `(E,)`."""
        acts, states = _decision(self.policy(self._obs, self._states, self._starts))
        if not self._has_acted:
            # The recorder checks that later actions are like the first.
            _check_fit("acts", acts, self._action_space, self._num_envs)
            self._has_acted = True
        if self._extras:
            self._recorder.annotate(**self._extras.of_step(self._states, states, self._starts))
        self._states = states
        self._obs, ended, self._starts = self._recorder.advance(acts)
        return ended


def _decision(decided: object) -> tuple[Any, Any]:
    """What a policy returned, if it is a pair of actions and states."""
    # Unpacking would split the actions of two environments.
    if isinstance(decided, tuple) and len(decided) == 2:
        return decided
    raise PolicyError(f"policy: expected it to return a tuple (actions, states), got {type(decided).__name__}")


def _check_fit(name: str, rows: Any, space: gym.Space[Any], num_envs: int) -> None:
    """Check that there is one row an environment, of the space's structure and shapes."""
    rows = Batching(space).leaves(rows)
    leaf_spaces = _tree_of(space)
    structure = Structure.of(leaf_spaces)
    columns = structure.names(name), structure.flatten(rows, name), structure.flatten(leaf_spaces)
    for where, leaf, leaf_space in zip(*columns, strict=True):
        # A Text or Sequence space has no shape.
        if leaf_space.shape is not None and np.shape(leaf) != (num_envs, *leaf_space.shape):
            raise ShapeError(
                f"{where}: expected shape {(num_envs, *leaf_space.shape)}, {num_envs} environments with the space "
                f"{leaf_space}, got {np.shape(leaf)}"
            )


def _tree_of(space: gym.Space[Any]) -> Any:
    """Dict and Tuple spaces as dicts and tuples of spaces."""
    if isinstance(space, spaces.Dict):
        return {key: _tree_of(child) for key, child in space.spaces.items()}
    return tuple(map(_tree_of, space.spaces)) if isinstance(space, spaces.Tuple) else space
