"""The loop in which a policy acts in environments."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from vecrollout.collecting.extras import Extras
from vecrollout.collecting.policy import PolicyCallable
from vecrollout.collecting.stop import Collected, SampleUntil
from vecrollout.data.structures import Structure
from vecrollout.data.trajectory import TrajectoryWithRew
from vecrollout.errors import PolicyError, ShapeError
from vecrollout.recording.batching import Batching
from vecrollout.recording.recorder import Recorder


class Collection(NamedTuple):
    """The result of a collection."""

    finished: Collected
    """The whole episodes that count, in the order of their ends."""
    running: list[TrajectoryWithRew]
    """Fragments of unfinished episodes that would have counted, by environment index."""
    enough: bool
    """Whether `sample_until` said so."""
    complete: bool
    """Whether there is enough, and no running episode would have counted."""


def collect(
    recorder: Recorder,
    num_envs: int,
    single_spaces: tuple[gym.Space[Any], gym.Space[Any]],
    act: PolicyCallable,
    sample_until: SampleUntil,
    max_steps: int | None,
    show: Callable[[Collected], None],
    extras: Extras,
) -> Collection:
    """Let a policy act until each environment has finished the episode in which there was enough."""
    observation_space, action_space = single_spaces
    finished = Collected()
    enough = False
    # Environments whose current episode counts.
    active = np.ones(num_envs, dtype=bool)
    starts, states = np.ones(num_envs, dtype=bool), None
    obs = recorder.restart()
    _check_fit("obs", obs, observation_space, num_envs)
    for step in itertools.count() if max_steps is None else range(max_steps):
        acts, next_states = _decision(act(obs, states, starts))
        if step == 0:
            # The recorder checks that later actions are like the first.
            _check_fit("acts", acts, action_space, num_envs)
        if extras:
            recorder.annotate(**extras.of_step(states, next_states, starts))
        states = next_states
        obs, ended, starts = recorder.advance(acts)
        if ended.any():
            finished.extend(_of(active, recorder.pop_finished_trajectories()[0]))
            show(finished)
        enough = sample_until(finished)
        if enough:
            active = active & ~ended
            if not active.any():
                return Collection(finished, [], enough=True, complete=True)
    return Collection(finished, _of(active, recorder.pop_trajectories()[0]), enough, complete=False)


def _of(active: npt.NDArray[np.bool_], trajectories: Iterable[TrajectoryWithRew]) -> list[TrajectoryWithRew]:
    """The trajectories of the active environments."""
    return [each for each in trajectories if active[each.episode.env_index]]


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
