"""Make transitions from trajectories."""

from __future__ import annotations

from collections.abc import Iterable

from vecrollout.data.columns import joined_columns
from vecrollout.data.trajectory import Trajectory, TrajectoryWithRew
from vecrollout.data.transitions import Transitions, TransitionsWithRew
from vecrollout.errors import ArgumentTypeError


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
    return joined_columns(list(trajectories), keeps_rews=False).transitions()


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
    for i, each in enumerate(listed):
        if not isinstance(each, TrajectoryWithRew):
            raise ArgumentTypeError(f"trajectory {i}: expected a TrajectoryWithRew, got a {type(each).__name__}")
    return joined_columns(listed).transitions()  # type: ignore[return-value]  # all have rewards
