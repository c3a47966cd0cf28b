"""The loop in which a policy acts in environments until there is enough."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from vecrollout.collecting.collectable import Collectable
from vecrollout.collecting.policy import PolicyCallable
from vecrollout.collecting.stop import Collected, SampleUntil
from vecrollout.data.structures import flatten, leaf_names, structure_of
from vecrollout.data.trajectory import TrajectoryWithRew
from vecrollout.errors import PolicyError, ShapeError
from vecrollout.recording.batching import Batching


class Collection(NamedTuple):
    """What a collection ended with."""

    finished: Collected
    """The whole episodes that count, in the order of their ends."""
    running: list[TrajectoryWithRew]
    """Fragments of the episodes that would have counted, had they ended, by environment index."""
    enough: bool
    """Whether `sample_until` said so."""
    complete: bool
    """Whether there is enough and nothing that would have counted is running."""


def collect(
    envs: Collectable,
    single_spaces: tuple[gym.Space[Any], gym.Space[Any]],
    act: PolicyCallable,
    sample_until: SampleUntil,
    max_steps: int | None,
    show: Callable[[Collected], None],
) -> Collection:
    """Let a policy act until each environment brought the episode to its end in which there was enough.

    Args:
        envs: The environments; nothing was recorded yet.
        single_spaces: Observation and action space of each single one of them.
        act: The policy.
        sample_until: Says whether the finished trajectories are enough.
        max_steps: After how many steps of all environments to stop in any case; None: no limit.
        show: Told of the finished trajectories when there are more of them.

    Raises:
        PolicyError: If the policy does not return actions and states.
        ShapeError: If observations or actions do not have the shape that the environments' spaces say.
        StructureError: If they have other keys than the spaces.
    """
    observation_space, action_space = single_spaces
    recorder = envs.recorder
    finished = Collected()
    enough = False
    # Environments whose current episode counts.
    active = np.ones(envs.num_envs, dtype=bool)
    starts, states = np.ones(envs.num_envs, dtype=bool), None
    obs = envs.reset()
    _check_fit("obs", obs, observation_space, envs.num_envs)
    for step in itertools.count() if max_steps is None else range(max_steps):
        acts, states = _decision(act(obs, states, starts))
        if step == 0:
            # The recorder sees to it that later ones are like the first.
            _check_fit("acts", acts, action_space, envs.num_envs)
        obs, ended, starts = envs.step(acts)
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
    """What a policy returned, if it is actions and states.

    Raises:
        PolicyError: If not. Unpacking would split the actions of two environments.
    """
    if isinstance(decided, tuple) and len(decided) == 2:
        return decided
    raise PolicyError(f"policy: expected it to return a tuple (actions, states), got {type(decided).__name__}")


def _check_fit(name: str, rows: Any, space: gym.Space[Any], num_envs: int) -> None:
    """Check that there is one row an environment, of the structure and shapes that a space says.

    Raises:
        ShapeError: If a shape is another.
        StructureError: If there are other keys.
    """
    rows = Batching(space).leaves(rows)
    leaf_spaces = _tree_of(space)
    structure = structure_of(leaf_spaces)
    columns = leaf_names(structure, name), flatten(rows, structure, name), flatten(leaf_spaces, structure)
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
