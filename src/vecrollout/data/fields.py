"""The fields of trajectories and transitions: conversion to arrays, and checks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from vecrollout._typing import Array
from vecrollout.data.array_tree import ArrayTree, described
from vecrollout.data.trees import map_leaves, stack, wrap
from vecrollout.errors import ArgumentTypeError, DtypeError, LengthError, ShapeError

T = TypeVar("T")


def trusted(cls: type[T], fields: dict[str, Any]) -> T:
    """An instance of a dataclass that takes over fields in final form; checks would cost more than the views."""
    instance = object.__new__(cls)
    object.__setattr__(instance, "__dict__", fields)
    return instance


def as_batch(name: str, value: Any) -> Any:
    """A field with one row a step: an array, or a `DictObs` or `TupleObs`."""
    if isinstance(value, np.ndarray):
        return value
    wrapped = wrap(value)
    if isinstance(wrapped, ArrayTree):
        return wrapped
    if isinstance(value, list) and value and isinstance(value[0], Mapping | ArrayTree):
        return stack(value, name)
    try:
        return np.asarray(value)
    except ValueError as error:
        raise ShapeError(f"{name}: expected rows of one shape, got {type(value).__name__}: {error}") from error
    except (TypeError, RuntimeError) as error:
        raise ArgumentTypeError(f"{name}: expected an array, got {type(value).__name__}: {error}") from error


def rows(name: str, value: Any) -> int:
    """Length of a field's first dimension."""
    try:
        return len(value)
    except (TypeError, LengthError) as error:
        raise ShapeError(f"{name}: expected one row a step, got no rows: {error}") from error


def as_rewards(rews: Any) -> npt.NDArray[np.floating[Any]]:
    """Rewards as an array: floats in their own dtype, integers and bools as float64."""
    array = np.asarray(rews)
    if array.dtype.kind == "f":
        return array
    try:
        if array.dtype.kind in "biuO":
            return array.astype(np.float64)
    except (TypeError, ValueError):
        pass
    raise DtypeError(f"rews: expected real numbers, got dtype {array.dtype}")


def checked_rewards(rews: Any, steps: int) -> npt.NDArray[np.floating[Any]]:
    """Rewards as an array, one float a step, or a vector of floats."""
    array = np.asarray(rews)
    if array.shape[:1] != (steps,) or array.ndim > 2 or array.shape[1:] == (1,):
        raise ShapeError(f"rews: rewards must be 1D array, one a step: expected shape ({steps},), got {array.shape}")
    if array.dtype.kind != "f":
        raise DtypeError(f"rews: rewards dtype {array.dtype} not a float; convert with rews.astype(np.float64)")
    return array


def scalar_rewards(rews: Any, needs: str) -> Any:
    """The rewards, if they are one number a step; `needs` names what needs that."""
    if np.ndim(rews) > 1:
        raise ShapeError(
            f"rews: expected one reward a step for {needs}, got shape {np.shape(rews)}; choose or weigh the entries "
            "first: dataclasses.replace(trajectory, rews=trajectory.rews @ weights)"
        )
    return rews


def checked_flags(name: str, flags: Any, steps: int) -> npt.NDArray[np.bool_]:
    """Flags as an array, one bool a step."""
    array = np.asarray(flags)
    if array.shape != (steps,):
        raise ShapeError(f"{name}: {name} must be 1D array, one a step: expected shape ({steps},), got {array.shape}")
    if array.dtype != bool:
        if steps or isinstance(flags, np.ndarray):
            raise DtypeError(f"{name}: {name} must be boolean, got {array.dtype}")
        array = array.astype(bool)  # an empty list, which NumPy takes for floats
    return array


def info_array(infos: Sequence[Any] | Array) -> npt.NDArray[np.object_]:
    """Info dicts as an object array of shape `(T,)`."""
    if isinstance(infos, np.ndarray):
        if infos.dtype == object:
            return infos
        if infos.size:
            raise DtypeError(f"infos: expected an array of dicts, dtype object, got dtype {infos.dtype}")
        return infos.astype(object)  # np.array([]) holds floats, as many as dicts
    if isinstance(infos, Mapping) or not hasattr(infos, "__len__"):
        raise ArgumentTypeError(f"infos: expected one dict a step, got a {type(infos).__name__}")
    # np.array would look into the dicts' elements.
    return np.fromiter(infos, dtype=object, count=len(infos))


def infos_or_empty(infos: npt.NDArray[np.object_] | None, steps: int) -> npt.NDArray[np.object_]:
    """The infos, or an empty dict for each step."""
    return info_array([{} for _ in range(steps)]) if infos is None else infos


def read_only(batch: Any) -> Any:
    """Read-only views of the arrays, which do not change."""
    return map_leaves(_read_only_view, batch)


def copied(batch: Any) -> Any:
    """Copies of the arrays; anything else unchanged."""
    return map_leaves(_copy, batch)


def _copy(leaf: Any) -> Any:
    return leaf.copy() if isinstance(leaf, np.ndarray) else leaf


def _read_only_view(leaf: Any) -> Any:
    if not isinstance(leaf, np.ndarray):
        return leaf
    view = leaf.view()
    view.flags.writeable = False
    return view


def summary(instance: Any, names: Sequence[str]) -> str:
    """Class, length, and dtype and shape of some fields, in one line."""
    parts = [f"{name} {described(value)}" for name in names if (value := getattr(instance, name, None)) is not None]
    return f"{type(instance).__name__} of {len(instance)} steps: {', '.join(parts)}"
