"""Transitions: B independent steps, for learners that shuffle them."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar, overload

import numpy as np
import numpy.typing as npt

from vecrollout._typing import Array
from vecrollout.data.fields import (
    as_batch,
    checked_flags,
    checked_rewards,
    copied,
    info_array,
    infos_or_empty,
    read_only,
    rows,
    summary,
    trusted,
)
from vecrollout.data.trees import Observation, equal, stack, unwrap
from vecrollout.errors import ArgumentTypeError, DtypeError, FlagError, MissingDependencyError, ShapeError

TransitionsT = TypeVar("TransitionsT", bound="TransitionsMinimal")


@dataclass(frozen=True, eq=False, repr=False)
class TransitionsMinimal(Sequence[Mapping[str, Any]]):
    """A batch of B observation-action pairs: a sequence, and a dataset for torch's `DataLoader`.

    An integer index returns one step as a dict from field name to a copy of the value. A slice returns the same class
    with read-only views. An array or list of indices, or a mask, returns it with copies. Given arrays are neither
    copied nor altered. Lists become arrays, dicts and tuples of arrays become `DictObs` and `TupleObs`.

    Examples:
        >>> transitions = TransitionsMinimal(obs=np.zeros((4, 2)), acts=np.arange(4), infos=None)
        >>> len(transitions[1:3]), transitions[2]["acts"].item(), transitions[transitions.acts > 1].acts
        (2, 2, array([2, 3]))

    Raises:
        ShapeError: If a field does not have one row a step.
        DtypeError: If `infos` is an array, but not of objects.
        ArgumentTypeError: If a field cannot become an array.

    Source:
        Fields and their meaning as in `imitation.data.types.TransitionsMinimal` (imitation 1.0.1).
    """

    # Without it `array == transitions` would compare element by element.
    __array_ufunc__ = None

    obs: Observation
    """Observations, shape `(B, *obs_shape)`; `obs[i]` was seen before `acts[i]`."""

    acts: Array
    """Actions, shape `(B, *act_shape)`; `DictObs` or `TupleObs` for Dict and Tuple action spaces."""

    infos: npt.NDArray[np.object_]
    """Info dicts, shape `(B,)`, dtype object; `infos[i]` came from the step that took `acts[i]`. None becomes empty
    dicts."""

    def __post_init__(self) -> None:
        """Check that every field has one row a step."""
        settle = object.__setattr__
        settle(self, "obs", as_batch("obs", self.obs))
        settle(self, "acts", as_batch("acts", self.acts))
        steps, observations = rows("acts", self.acts), rows("obs", self.obs)
        if observations != steps:
            raise ShapeError(
                f"obs: obs and acts must have same number of timesteps: expected {steps} rows (acts has {steps} "
                f"steps), got {observations}"
            )
        given: Any = self.infos
        settle(self, "infos", infos_or_empty(None, steps) if given is None else info_array(given))
        if self.infos.shape != (steps,):
            raise ShapeError(
                f"infos: obs and infos must have same number of timesteps: expected shape ({steps},), "
                f"got {self.infos.shape}"
            )

    def __len__(self) -> int:
        """Number of steps, B."""
        return len(self.acts)

    @overload
    def __getitem__(self, key: int | np.integer[Any]) -> dict[str, Any]: ...

    @overload
    def __getitem__(self: TransitionsT, key: slice | Array | Sequence[int]) -> TransitionsT: ...

    def __getitem__(self: TransitionsT, key: Any) -> dict[str, Any] | TransitionsT:
        """One step as a dict (integer of any type), or several as the same class (slice, integers, mask).

        Raises:
            IndexError: If an index is out of range, or a mask has another length.
            ArgumentTypeError: If the key has another type.
        """
        if isinstance(key, slice):
            return trusted(type(self), {name: read_only(value[key]) for name, value in vars(self).items()})
        index = _integer(key)
        if index is not None:
            return {name: copied(value[index]) for name, value in vars(self).items()}
        selection = _selection(key)
        return trusted(type(self), {name: value[selection] for name, value in vars(self).items()})

    def __getitems__(self, keys: Sequence[int]) -> list[dict[str, Any]]:
        """Steps as dicts of plain values, for torch's `DataLoader`, which does not know `DictObs` and `TupleObs`."""
        columns = vars(self[_selection(keys)])
        return [dict(zip(columns, map(unwrap, step), strict=True)) for step in zip(*columns.values(), strict=True)]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """One dict a step."""
        return (self[i] for i in range(len(self)))

    def __eq__(self, other: object) -> bool:
        """Whether class and all data are equal; never raises.

        Arrays are equal if shapes and values are: dtypes may differ, and NaN differs from NaN.
        """
        if not isinstance(other, TransitionsMinimal) or type(other) is not type(self):
            return False
        return all(equal(value, getattr(other, name)) for name, value in vars(self).items())

    __hash__ = None  # type: ignore[assignment]  # holds arrays, which are not hashable

    def __repr__(self) -> str:
        """One line: shapes and dtypes."""
        return f"<{summary(self, ('obs', 'acts', 'next_obs', 'rews'))}>"


@dataclass(frozen=True, eq=False, repr=False)
class Transitions(TransitionsMinimal):
    """A batch of B steps with the observation that followed each.

    Raises:
        ShapeError: If a field does not have one row a step, or the shapes of `next_obs` and `obs` differ.
        DtypeError: If the dtypes of `next_obs` and `obs` differ, a flag is not boolean, or `infos` is an array, but not
            of objects.
        ArgumentTypeError: If a field cannot become an array.
        FlagError: If `dones` is not `terminated | truncated`.

    Source:
        `imitation.data.types.Transitions` (imitation 1.0.1). `terminated` and `truncated` are additions.
    """

    next_obs: Observation
    """Observations after the actions, shape `(B, *obs_shape)`, dtypes as `obs`. If an episode ended, its true
    last observation, never the next episode's first."""

    dones: npt.NDArray[np.bool_]
    """Whether the episode ended with step i, for either reason, shape `(B,)`, bool."""

    terminated: npt.NDArray[np.bool_] = field(default=None, kw_only=True)  # type: ignore[arg-type]  # __post_init__
    """Whether step i reached a terminal state of the MDP, shape `(B,)`, bool. Default: `dones & ~truncated`, or `dones`
    without `truncated`."""

    truncated: npt.NDArray[np.bool_] = field(default=None, kw_only=True)  # type: ignore[arg-type]
    """Whether the episode was cut short at step i, shape `(B,)`, bool. Default: `dones & ~terminated`."""

    def __post_init__(self) -> None:
        """Check the other fields too."""
        super().__post_init__()
        settle = object.__setattr__
        settle(self, "next_obs", as_batch("next_obs", self.next_obs))
        if self.obs.shape != self.next_obs.shape:
            raise ShapeError(
                f"next_obs: obs and next_obs must have same shape: expected {self.obs.shape}, got {self.next_obs.shape}"
            )
        if self.obs.dtype != self.next_obs.dtype:
            raise DtypeError(
                f"next_obs: obs and next_obs must have the same dtype: expected {self.obs.dtype}, "
                f"got {self.next_obs.dtype}"
            )
        for name in ("dones", "terminated", "truncated"):
            if name == "dones" or getattr(self, name) is not None:
                settle(self, name, checked_flags(name, getattr(self, name), len(self)))
        # A new array, even if it equals `dones`: two fields must not share memory.
        if self.terminated is None:
            settle(self, "terminated", self.dones.copy() if self.truncated is None else self.dones & ~self.truncated)
        if self.truncated is None:
            settle(self, "truncated", self.dones & ~self.terminated)
        wrong = np.flatnonzero(self.dones != (self.terminated | self.truncated))
        if len(wrong):
            raise FlagError(
                f"dones: expected terminated | truncated, got something else at {len(wrong)} steps, first at "
                f"{wrong[0]}; pass terminated= and truncated= with it, or None to derive them"
            )


@dataclass(frozen=True, eq=False, repr=False)
class TransitionsWithRew(Transitions):
    """`Transitions` with rewards.

    Raises:
        ShapeError: If a field does not have one row a step, or the shapes of `next_obs` and `obs` differ.
        DtypeError: If the rewards are not floats, the dtypes of `next_obs` and `obs` differ, a flag is not boolean, or
            `infos` is an array, but not of objects.
        ArgumentTypeError: If a field cannot become an array.
        FlagError: If `dones` is not `terminated | truncated`.

    Source:
        `imitation.data.types.TransitionsWithRew` (imitation 1.0.1).
    """

    rews: npt.NDArray[np.floating[Any]]
    """Rewards, shape `(B,)`, any float dtype; `rews[i]` came from the step that took `acts[i]`. Vectors have shape
    `(B, K)`."""

    def __post_init__(self) -> None:
        """Check the rewards too."""
        super().__post_init__()
        object.__setattr__(self, "rews", checked_rewards(self.rews, len(self)))


def collate_transitions(batch: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Make one batch of tensors from single steps: a `collate_fn` for torch's `DataLoader`.

    torch's own function cannot join infos whose keys differ between steps.

    Args:
        batch: B steps, as an integer index into transitions returns them.

    Returns:
        A dict with the same keys: tensors of shape `(B, ...)`, dicts or tuples of tensors for Dict and Tuple
        observations, and `"infos"` as a list of B dicts. The tensors have the dtypes of the arrays.

    Raises:
        MissingDependencyError: If torch is not installed.
    """
    try:
        import torch
    except ImportError as error:
        raise MissingDependencyError("collate_transitions needs torch: pip install torch") from error

    def to_tensors(tree: Any) -> Any:
        if isinstance(tree, dict):
            return {key: to_tensors(value) for key, value in tree.items()}
        return tuple(map(to_tensors, tree)) if isinstance(tree, tuple) else torch.as_tensor(tree)

    def joined(name: str) -> Any:
        values = [step[name] for step in batch]
        return values if name == "infos" else to_tensors(unwrap(stack(values, name)))

    return {name: joined(name) for name in batch[0]}


def _integer(key: Any) -> int | None:
    """The key as an integer, if it is one: of Python, NumPy, torch, or an array without dimensions."""
    if type(key) is int:
        return key
    # True as an index would silently be step 1.
    dimensions: int = getattr(key, "ndim", 0)
    if dimensions or isinstance(key, (bool, np.bool_)):
        return None
    try:
        return operator.index(key)
    except TypeError:
        return None


def _selection(key: Any) -> Array:
    """The key as an array of indices or a mask."""
    try:
        array = np.asarray(None if isinstance(key, tuple) else key)
    except ValueError:
        array = np.asarray(None)
    if array.ndim == 1 and array.dtype.kind in "iub":
        return array
    if array.shape == (0,) and not isinstance(key, np.ndarray):
        return array.astype(np.intp)  # an empty list, which NumPy takes for floats
    raise ArgumentTypeError(
        f"expected an integer, a slice, or a list or 1D array of integers or bools as index, got {key!r}"
    )
