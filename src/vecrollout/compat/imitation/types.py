"""`imitation.data.types` (imitation 1.0.1): trajectories, transitions, and functions for dict observations."""

from __future__ import annotations

import dataclasses
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, TypedDict, TypeVar, overload

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import default_collate

from vecrollout.compat.imitation._classes import (
    DictObs,
    Trajectory,
    TrajectoryWithRew,
    Transitions,
    TransitionsMinimal,
    TransitionsWithRew,
)
from vecrollout.compat.imitation._joined import adopt
from vecrollout.data import trajectory
from vecrollout.data.array_tree import ArrayTree
from vecrollout.data.trees import TupleObs, stack
from vecrollout.errors import ShapeError, StructureError

__all__ = [
    "AnyPath",
    "AnyTensor",
    "DictObs",
    "ObsVar",
    "Observation",
    "Pair",
    "T",
    "TensorVar",
    "Trajectory",
    "TrajectoryPair",
    "TrajectoryWithRew",
    "TrajectoryWithRewPair",
    "TransitionMapping",
    "TransitionMappingNoNextObs",
    "Transitions",
    "TransitionsMinimal",
    "TransitionsMinimalSelf",
    "TransitionsWithRew",
    "assert_not_dictobs",
    "concatenate_maybe_dictobs",
    "dataclass_quick_asdict",
    "map_maybe_dict",
    "maybe_unwrap_dictobs",
    "maybe_wrap_in_dictobs",
    "stack_maybe_dictobs",
    "transitions_collate_fn",
]

if TYPE_CHECKING:
    _Array: TypeAlias = npt.NDArray[Any]
    _PathLike: TypeAlias = os.PathLike[Any]
else:
    # Without subscripts, so that isinstance accepts the aliases below.
    _Array, _PathLike = np.ndarray, os.PathLike

T = TypeVar("T")

AnyPath: TypeAlias = str | bytes | _PathLike
"""A path that `os.fspath` accepts."""

AnyTensor: TypeAlias = _Array | torch.Tensor
"""A NumPy array or a torch tensor."""

Observation: TypeAlias = _Array | DictObs | TupleObs
"""Observations; the first dimension counts steps or environments."""

Pair: TypeAlias = tuple[T, T]
"""Two values of one type."""

TrajectoryPair: TypeAlias = Pair[Trajectory]
"""Two trajectories to compare."""

TrajectoryWithRewPair: TypeAlias = Pair[TrajectoryWithRew]
"""Two trajectories with rewards to compare."""

TensorVar = TypeVar("TensorVar", _Array, torch.Tensor)
ObsVar = TypeVar("ObsVar", _Array, DictObs)
TransitionsMinimalSelf = TypeVar("TransitionsMinimalSelf", bound=TransitionsMinimal)

# Fields that imitation's trajectories do not have. Programs written for imitation rebuild a trajectory from its fields
# and alter some. The new trajectory derives its flags from `terminal`, and has no identity.
_OWN_FIELDS = frozenset({"terminated", "truncated", "episode"})


class DictObsError(StructureError, AssertionError):
    """Observations are a dict or tuple of arrays, but an array is needed. imitation raises AssertionError."""


class TransitionMappingNoNextObs(TypedDict):
    """A batch of B observation-action pairs."""

    obs: Observation | torch.Tensor
    """Observations, shape `(B, *obs_shape)`."""

    acts: AnyTensor
    """Actions, shape `(B, *act_shape)`."""


class TransitionMapping(TransitionMappingNoNextObs, total=False):
    """A batch of B steps; only observations and actions are required."""

    next_obs: Observation | torch.Tensor
    """Observations after the actions, shape `(B, *obs_shape)`."""

    dones: AnyTensor
    """Whether the episode ended with the step, shape `(B,)`, bool."""

    rew: AnyTensor
    """Rewards, shape `(B,)`, float."""


def assert_not_dictobs(x: Observation) -> npt.NDArray[Any]:
    """Return the observations if they are an array.

    Args:
        x: Observations.

    Returns:
        `x`.

    Raises:
        DictObsError: If they are a dict or tuple of arrays.
    """
    x = adopt(x)
    if isinstance(x, ArrayTree):
        raise DictObsError(f"x: expected an array, got a {type(x).__name__}")
    return x


def concatenate_maybe_dictobs(arrs: list[ObsVar]) -> ObsVar:
    """Join observations along their first dimension.

    Args:
        arrs: At least one; all arrays, or all `DictObs` with the same keys.

    Returns:
        One array or `DictObs`.

    Raises:
        ShapeError: If the list is empty.
    """
    combined: ObsVar = _combine(arrs, np.concatenate, "concatenate")
    return combined


def stack_maybe_dictobs(arrs: list[ObsVar]) -> ObsVar:
    """Stack observations along a new first dimension.

    Args:
        arrs: At least one; all arrays, or all `DictObs` with the same keys. Anything else, such as dicts, becomes an
            element of an object array.

    Returns:
        One array or `DictObs`.

    Raises:
        ShapeError: If the list is empty.
    """
    combined: ObsVar = _combine(arrs, np.stack, "stack")
    return combined


def _combine(arrs: Sequence[Any], combine: Callable[[Sequence[Any]], Any], method: str) -> Any:
    if not len(arrs):
        raise ShapeError("arrs: expected at least one, got none")
    arrs = [adopt(each) for each in arrs]
    kind = type(arrs[0])
    return getattr(kind, method)(arrs) if issubclass(kind, ArrayTree) else combine(arrs)


@overload
def maybe_unwrap_dictobs(maybe_dictobs: DictObs) -> dict[str, Any]: ...


@overload
def maybe_unwrap_dictobs(maybe_dictobs: T) -> T: ...


def maybe_unwrap_dictobs(maybe_dictobs: Any) -> Any:
    """The plain dict (or tuple) in a `DictObs` (or `TupleObs`); anything else as it is.

    Args:
        maybe_dictobs: Observations, wrapped or not. Anything that is no observation causes a warning.

    Returns:
        The observations without the wrapper. Arrays are not copied.
    """
    maybe_dictobs = adopt(maybe_dictobs)
    if isinstance(maybe_dictobs, ArrayTree):
        return maybe_dictobs.unwrap()
    if not isinstance(maybe_dictobs, np.ndarray | np.generic | torch.Tensor | int | float):
        warnings.warn(f"expected an observation to unwrap, got {type(maybe_dictobs).__name__}", stacklevel=2)
    return maybe_dictobs


@overload
def maybe_wrap_in_dictobs(obs: dict[str, npt.NDArray[Any]] | DictObs) -> DictObs: ...


@overload
def maybe_wrap_in_dictobs(obs: npt.NDArray[Any]) -> npt.NDArray[Any]: ...


def maybe_wrap_in_dictobs(obs: Any) -> Any:
    """A dict as `DictObs`; anything else as it is.

    Args:
        obs: Observations, a dict or not. Anything that is no observation causes a warning.

    Returns:
        The observations, wrapped if they are a dict. Arrays are not copied.
    """
    obs = DictObs(obs) if isinstance(obs, dict) else adopt(obs)
    if not isinstance(obs, np.ndarray | np.generic | ArrayTree | int | float):
        warnings.warn(f"expected an observation to wrap, got {type(obs).__name__}", stacklevel=2)
    return obs


def map_maybe_dict(fn: Callable[[Any], Any], maybe_dict: Any) -> Any:
    """Apply a function to a value, or to each value of a dict.

    Args:
        fn: Takes one argument.
        maybe_dict: The value or the dict.

    Returns:
        The result of `fn`, or a dict of results.
    """
    if isinstance(maybe_dict, dict):
        return {key: fn(value) for key, value in maybe_dict.items()}
    return fn(maybe_dict)


def dataclass_quick_asdict(obj: Any) -> dict[str, Any]:
    """The fields of a dataclass instance as a dict, without copying their values as `dataclasses.asdict` does.

    Args:
        obj: Instance of a dataclass.

    Returns:
        Value by field name. A trajectory's dict has only the fields that imitation's trajectories have. The dict of
        transitions has `terminated` and `truncated` too.
    """
    left_out = _OWN_FIELDS if isinstance(obj, trajectory.Trajectory) else frozenset()
    return {each.name: getattr(obj, each.name) for each in dataclasses.fields(obj) if each.name not in left_out}


def transitions_collate_fn(batch: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Make one batch out of single steps: a `collate_fn` for torch's `DataLoader`.

    Args:
        batch: B steps, as integer indices into transitions give them.

    Returns:
        A dict with the same keys: observations as a NumPy array (or `DictObs`) of shape `(B, *obs_shape)`, infos as a
        list of B dicts, and all other fields as tensors of shape `(B, ...)`. `vecrollout.collate_transitions` makes
        tensors of observations too.
    """
    gathered = {key: [step[key] for step in batch] for key in batch[0]}
    return {
        key: values
        if key == "infos"
        else stack(values, key)
        if key in ("obs", "next_obs")
        else default_collate(list(map(np.array, values)))  # copies: torch warns of read-only arrays
        for key, values in gathered.items()
    }
