"""The classes of the objects that these modules return.

imitation's algorithms accept only instances of imitation's classes. Where imitation is installed, the classes here
inherit from imitation's classes and from ours. Elsewhere they are ours.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vecrollout.compat.imitation import _joined
from vecrollout.data.trajectory import Trajectory, TrajectoryWithRew
from vecrollout.data.transitions import Transitions, TransitionsMinimal, TransitionsWithRew
from vecrollout.data.trees import DictObs

__all__ = ["DictObs", "Trajectory", "TrajectoryWithRew", "Transitions", "TransitionsMinimal", "TransitionsWithRew"]

if not TYPE_CHECKING and _joined.INSTALLED:
    from vecrollout.compat.imitation._joined import (
        DictObs,
        Trajectory,
        TrajectoryWithRew,
        Transitions,
        TransitionsMinimal,
        TransitionsWithRew,
    )
