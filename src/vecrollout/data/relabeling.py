"""Trajectories with other rewards."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from vecrollout.data.fields import checked_rewards, trusted
from vecrollout.data.trajectory import Trajectory, TrajectoryWithRew

Rewards: TypeAlias = Callable[[Trajectory], Any]
"""Rewards of a trajectory, shape `(T,)`."""


def relabeled(trajectory: Trajectory, rewards: Rewards) -> TrajectoryWithRew:
    """A trajectory with the rewards that a function gives it, as a copy."""
    rews = np.array(checked_rewards(rewards(trajectory), len(trajectory)))
    rews.flags.writeable = False
    return trusted(TrajectoryWithRew, {**vars(trajectory), "rews": rews})
