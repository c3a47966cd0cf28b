"""Make transitions from trajectories."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from vecrollout.data.fields import infos_or_empty
from vecrollout.data.trajectory import Trajectory, TrajectoryWithRew
from vecrollout.data.transitions import Transitions, TransitionsWithRew
from vecrollout.data.trees import concatenate
from vecrollout.errors import ArgumentTypeError, ShapeError


def flatten_trajectories(trajectories: Iterable[Trajectory]) -> Transitions:
    """Make transitions of the steps of all trajectories, one after another.

    Examples:
        >>> trajectory = Trajectory(obs=np.arange(4.0), acts=np.arange(3), infos=None, terminal=True)
        >>> flatten_trajectories([trajectory, trajectory]).dones
        array([False, False,  True, False, False,  True])

    Args:
        trajectories: At least one, all with the same structure and shapes of observations and actions.

    Returns:
        Transitions with copies of the data. Steps without infos get empty dicts.

    Raises:
        ShapeError: If there is no trajectory, or the shapes of observations or actions differ.
        StructureError: If the structures of observations or actions differ.

    Source:
        `imitation.data.rollout.flatten_trajectories` (imitation 1.0.1).
    """
    return Transitions(**_columns(list(trajectories)))


def flatten_trajectories_with_rew(trajectories: Iterable[TrajectoryWithRew]) -> TransitionsWithRew:
    """`flatten_trajectories`, with rewards.

    Args:
        trajectories: At least one, all with the same structure and shapes of observations and actions.

    Returns:
        Transitions with copies of the data. Steps without infos get empty dicts.

    Raises:
        ShapeError: If there is no trajectory, or the shapes of observations or actions differ.
        StructureError: If the structures of observations or actions differ.
        ArgumentTypeError: If a trajectory has no rewards.

    Source:
        `imitation.data.rollout.flatten_trajectories_with_rew` (imitation 1.0.1).
    """
    listed = list(trajectories)
    columns = _columns(listed)
    for i, each in enumerate(listed):
        if not isinstance(each, TrajectoryWithRew):
            raise ArgumentTypeError(f"trajectory {i}: expected a TrajectoryWithRew, got a {type(each).__name__}")
    return TransitionsWithRew(**columns, rews=concatenate([each.rews for each in listed], "rews"))


def _columns(trajectories: Sequence[Trajectory]) -> dict[str, Any]:
    if not trajectories:
        raise ShapeError("trajectories: expected at least one, got none")
    last = np.cumsum([len(each) for each in trajectories]) - 1
    flags = np.zeros((3, last[-1] + 1), dtype=bool)
    for flag, name in zip(flags, ("terminal", "terminated", "truncated"), strict=True):
        flag[last] = [bool(getattr(each, name)) for each in trajectories]
    return {
        "obs": concatenate([each.obs[:-1] for each in trajectories], "obs"),
        "next_obs": concatenate([each.obs[1:] for each in trajectories], "obs"),
        "acts": concatenate([each.acts for each in trajectories], "acts"),
        "infos": np.concatenate([infos_or_empty(each.infos, len(each)) for each in trajectories]),
        "dones": flags[0],
        "terminated": flags[1],
        "truncated": flags[2],
    }
