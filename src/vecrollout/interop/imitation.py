"""Convert trajectories, transitions and observations to imitation's classes and back.

imitation's algorithms accept instances of imitation's own classes only. The objects that
`vecrollout.compat.imitation` returns are such instances already.

    trajectories, _ = venv.pop_trajectories()
    BC(demonstrations=to_imitation(trajectories), ...)
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from vecrollout.data.fields import read_only, scalar_rewards
from vecrollout.data.trajectory import Trajectory, TrajectoryWithRew
from vecrollout.data.transitions import Transitions, TransitionsMinimal, TransitionsWithRew
from vecrollout.data.trees import DictObs, TupleObs
from vecrollout.errors import MissingDependencyError, OptionError, StructureError

# imitation's classes have the same names. Subclasses come before their base classes.
_CLASSES = (TrajectoryWithRew, Trajectory, TransitionsWithRew, Transitions, TransitionsMinimal)


def to_imitation(x: Any) -> Any:
    """Convert to imitation's own class.

    Fields that imitation does not have are left out: `terminated` and `truncated`, and a trajectory's `episode`.

    Args:
        x: A `Trajectory`, `TrajectoryWithRew`, `TransitionsMinimal`, `Transitions`, `TransitionsWithRew` or `DictObs`,
            or a sequence of these.

    Returns:
        imitation's object of the same name, or a list of them. Its arrays are read-only views of the arrays of `x`.
        The arrays of `x` stay writable where they were (imitation itself makes them read-only).

    Raises:
        MissingDependencyError: If imitation is not installed.
        StructureError: If observations are tuples or nested, which imitation does not support.
        ShapeError: If rewards are vectors, which imitation does not support.
        OptionError: If `x` has another type.
    """
    theirs = _imitation_types()
    if isinstance(x, DictObs | TupleObs):
        return _value_to_imitation(x)
    for ours in _CLASSES:
        if isinstance(x, ours):
            cls = getattr(theirs, ours.__name__)
            scalar_rewards(getattr(x, "rews", None), "imitation")
            return cls(**{each.name: _value_to_imitation(getattr(x, each.name)) for each in dataclasses.fields(cls)})
    if isinstance(x, Sequence) and not isinstance(x, str | bytes):
        return [to_imitation(each) for each in x]
    raise OptionError(f"x: expected trajectories, transitions or a DictObs, got {type(x).__name__}")


def from_imitation(x: Any) -> Any:
    """Convert from imitation's class to the class of the same name in this package.

    Args:
        x: imitation's `Trajectory`, `TrajectoryWithRew`, `TransitionsMinimal`, `Transitions`, `TransitionsWithRew` or
            `DictObs`, or a sequence of these, such as imitation loads from disk.

    Returns:
        Our object of the same name, or a list of them. Its arrays are read-only views of the arrays of `x`. An
        episode's end counts as truncated if the step's info says so (`"TimeLimit.truncated"`, which Stable-Baselines3
        writes), else as terminated. An object that is of our class too, as those of `vecrollout.compat.imitation` are,
        is returned unchanged.

    Raises:
        MissingDependencyError: If imitation is not installed.
        OptionError: If `x` has another type.
    """
    theirs = _imitation_types()
    if isinstance(x, (*_CLASSES, DictObs)):
        return x
    if isinstance(x, theirs.DictObs):
        return _value_from_imitation(x)
    for ours in _CLASSES:
        cls = getattr(theirs, ours.__name__)
        if isinstance(x, cls):
            kept = {each.name: _value_from_imitation(getattr(x, each.name)) for each in dataclasses.fields(cls)}
            return ours(**kept, **_flags(kept))
    if isinstance(x, Sequence) and not isinstance(x, str | bytes):
        return [from_imitation(each) for each in x]
    raise OptionError(f"x: expected imitation's trajectories, transitions or DictObs, got {type(x).__name__}")


def _imitation_types() -> Any:
    try:
        return importlib.import_module("imitation.data.types")
    except ImportError as error:
        raise MissingDependencyError(
            "vecrollout.interop.imitation needs imitation: pip install imitation==1.0.1, in an environment of its own, "
            "as it asks for gymnasium 0.29 and stable-baselines3 2.2"
        ) from error


def _value_to_imitation(value: Any) -> Any:
    if isinstance(value, DictObs):
        plain = value.unwrap()
        nested = sorted(key for key, entry in plain.items() if isinstance(entry, dict | tuple))
        if nested:
            raise StructureError(
                f"obs: expected a dict of arrays, as imitation supports no nesting, got {nested} nested"
            )
        return _imitation_types().DictObs(read_only(value).unwrap())
    if isinstance(value, TupleObs):
        raise StructureError("obs: expected an array or a dict of arrays, as imitation supports no tuples, got a tuple")
    return read_only(value)


def _value_from_imitation(value: Any) -> Any:
    if isinstance(value, _imitation_types().DictObs):
        value = DictObs(dict(value.items()))
    return read_only(value)


def _flags(fields: dict[str, Any]) -> dict[str, Any]:
    """Our `truncated`, from the infos; `terminated` follows from it."""
    infos = fields["infos"]
    if "terminal" in fields:
        return {"truncated": bool(fields["terminal"]) and infos is not None and _says_truncated(infos[-1])}
    if "dones" in fields:
        truncated = np.zeros(len(fields["dones"]), dtype=bool)
        for i in np.flatnonzero(fields["dones"]):
            truncated[i] = _says_truncated(infos[i])
        return {"truncated": truncated}
    return {}


def _says_truncated(info: Any) -> bool:
    return bool(info.get("TimeLimit.truncated", False))
