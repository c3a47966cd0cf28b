"""The classes of the objects that these modules return.

imitation's algorithms accept only instances of imitation's classes. Where imitation is installed, the classes here
inherit from imitation's classes and from ours. Elsewhere they are ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

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


def trajectory_of(**fields: Any) -> Trajectory:
    """A trajectory of imitation's fields; `truncated` if the last info says so (`"TimeLimit.truncated"`)."""
    infos, terminal = fields["infos"], bool(fields["terminal"])
    last: Any = infos[-1] if infos is not None and len(infos) else None
    truncated = terminal and isinstance(last, Mapping) and bool(last.get("TimeLimit.truncated", False))
    fields = {"truncated": truncated, **fields, "terminal": terminal}
    return TrajectoryWithRew(**fields) if "rews" in fields else Trajectory(**fields)
