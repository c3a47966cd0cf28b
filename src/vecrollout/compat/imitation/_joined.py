"""Classes that inherit from this package's classes and from imitation's, for imitation's algorithms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from vecrollout.data import trajectory, transitions, trees
from vecrollout.data.fields import trusted
from vecrollout.interop.imitation import from_imitation

try:
    from imitation.data.types import DictObs as TheirDictObs
    from imitation.data.types import Trajectory as TheirTrajectory
    from imitation.data.types import TrajectoryWithRew as TheirTrajectoryWithRew
    from imitation.data.types import Transitions as TheirTransitions
    from imitation.data.types import TransitionsMinimal as TheirTransitionsMinimal
    from imitation.data.types import TransitionsWithRew as TheirTransitionsWithRew
except ImportError:
    # imitation is not installed, or `types` of this package is being imported in the place of imitation's.
    TheirDictObs = TheirTrajectory = TheirTrajectoryWithRew = object
    TheirTransitionsMinimal = TheirTransitions = TheirTransitionsWithRew = object

INSTALLED = TheirTrajectory is not object
"""Whether the classes here inherit from imitation's."""

T = TypeVar("T")


class DictObs(trees.DictObs, TheirDictObs):  # type: ignore[misc]  # imitation may be missing
    """`vecrollout.DictObs`, which is imitation's `DictObs` too."""

    def __eq__(self, other: object) -> bool:
        return super().__eq__(adopt(other))

    __hash__ = None  # type: ignore[assignment]  # as in the base classes


class Trajectory(trajectory.Trajectory, TheirTrajectory):  # type: ignore[misc]
    """`vecrollout.Trajectory`, which is imitation's `Trajectory` too."""

    def __post_init__(self) -> None:
        _adopt_fields(self)
        super().__post_init__()
        _adopt_fields(self)

    def __eq__(self, other: object) -> bool:
        return super().__eq__(adopt(other))

    __hash__ = None


class TrajectoryWithRew(trajectory.TrajectoryWithRew, Trajectory, TheirTrajectoryWithRew):  # type: ignore[misc]
    """`vecrollout.TrajectoryWithRew`, which is imitation's `TrajectoryWithRew` too."""


class TransitionsMinimal(transitions.TransitionsMinimal, TheirTransitionsMinimal):  # type: ignore[misc]
    """`vecrollout.TransitionsMinimal`, which is imitation's `TransitionsMinimal` too."""

    def __post_init__(self) -> None:
        _adopt_fields(self)
        super().__post_init__()
        _adopt_fields(self)

    def __getitems__(self, keys: Sequence[int]) -> list[dict[str, Any]]:
        # imitation's transitions_collate_fn takes DictObs, not dicts.
        return [self[i] for i in keys]

    def __eq__(self, other: object) -> bool:
        return super().__eq__(adopt(other))

    __hash__ = None


class Transitions(transitions.Transitions, TransitionsMinimal, TheirTransitions):  # type: ignore[misc]
    """`vecrollout.Transitions`, which is imitation's `Transitions` too."""


class TransitionsWithRew(transitions.TransitionsWithRew, Transitions, TheirTransitionsWithRew):  # type: ignore[misc]
    """`vecrollout.TransitionsWithRew`, which is imitation's `TransitionsWithRew` too."""


# Subclasses come before their base classes.
_CLASSES = (TrajectoryWithRew, Trajectory, TransitionsWithRew, Transitions, TransitionsMinimal, DictObs)
_OURS = {cls.__bases__[0]: cls for cls in _CLASSES}
_THEIRS = tuple(cls.__bases__[-1] for cls in _CLASSES)


def adopt(value: T) -> T:
    """Convert to the classes of these modules, where imitation is installed.

    Args:
        value: An object of a class of this package or of imitation, or a list of such objects.

    Returns:
        The object or objects with the same data. Anything else unchanged.
    """
    return _adopted(value) if INSTALLED else value


def _adopted(value: Any) -> Any:
    if isinstance(value, _CLASSES):
        return value
    if isinstance(value, list):
        return [_adopted(each) for each in value]
    if isinstance(value, _THEIRS):
        value = from_imitation(value)
    for ours, joined in _OURS.items():
        if isinstance(value, ours):
            return trusted(joined, {name: _adopted(each) for name, each in vars(value).items()})
    return value


def _adopt_fields(instance: Any) -> None:
    for name, value in vars(instance).items():
        if isinstance(value, trees.DictObs | TheirDictObs):
            object.__setattr__(instance, name, _adopted(value))
