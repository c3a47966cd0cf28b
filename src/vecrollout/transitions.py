"""Transitions: B steps that are independent of each other, for learners that shuffle them."""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar, overload

import numpy as np
import numpy.typing as npt

from vecrollout.errors import DtypeError, FlagError, MissingDependencyError, ShapeError
from vecrollout.trajectory import Trajectory, TrajectoryWithRew, check_rewards, info_array, infos_or_empty, rows, same_payload
from vecrollout.trees import Array, Observation, concatenate, equal, stack, unwrap, wrap

TransitionsT = TypeVar("TransitionsT", bound="TransitionsMinimal")


@dataclass(frozen=True, eq=False)
class TransitionsMinimal(Sequence[Mapping[str, Any]]):
    """A batch of B observation-action pairs: a sequence, and a data set that a torch `DataLoader` takes.

    An integer index gives one step as a dict from field name to value; a slice (or an array of indices, or a mask)
    gives the same class. Arrays handed in are kept as they are: neither copied nor altered.

    Source:
        Fields and their meaning as in `imitation.data.types.TransitionsMinimal` (imitation 1.0.1).
    """

    obs: Observation
    """Observations, shape `(B, *obs_shape)`; `obs[i]` was seen before `acts[i]`."""

    acts: Array
    """Actions, shape `(B, *act_shape)`."""

    infos: npt.NDArray[np.object_]
    """Info dicts, shape `(B,)`, dtype object; `infos[i]` came back from the step that took `acts[i]`."""

    def __post_init__(self) -> None:
        """Check that every field has one row a step.

        Raises:
            ShapeError: If not.
        """
        settle = object.__setattr__
        settle(self, "obs", wrap(self.obs))
        settle(self, "infos", info_array(self.infos))
        steps = rows("acts", self.acts)
        if rows("obs", self.obs) != steps:
            raise ShapeError(f"obs and acts must have same number of timesteps: obs has {len(self.obs)}, acts has {steps}")
        if rows("infos", self.infos) != steps:
            raise ShapeError(
                f"obs and infos must have same number of timesteps: obs has {steps}, infos has {len(self.infos)}"
            )

    def __len__(self) -> int:
        """Number of steps, B."""
        return len(self.acts)

    @overload
    def __getitem__(self, key: int | np.integer[Any]) -> dict[str, Any]: ...  # type: ignore[overload-overlap]

    @overload
    def __getitem__(self: TransitionsT, key: slice | Array | Sequence[int]) -> TransitionsT: ...

    def __getitem__(self: TransitionsT, key: Any) -> dict[str, Any] | TransitionsT:
        """One step as a dict (integer of any type), or several as the same class (slice, integer array, mask).

        Raises:
            IndexError: If an index is out of range.
        """
        if not isinstance(key, slice) and not (isinstance(key, np.ndarray) and key.ndim) and not isinstance(key, list):
            key = operator.index(key)
        item = {each.name: getattr(self, each.name)[key] for each in dataclasses.fields(self)}
        return item if isinstance(key, int) else dataclasses.replace(self, **item)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """One dict a step."""
        return (self[i] for i in range(len(self)))

    def __eq__(self, other: object) -> bool:
        """Whether class and all data are equal."""
        if type(other) is not type(self) or len(self) != len(other):
            return False
        return all(
            all(map(same_payload, value, other.infos)) if name == "infos" else equal(value, getattr(other, name))
            for name, value in vars(self).items()
        )

    __hash__ = None  # type: ignore[assignment]  # holds arrays, which are not hashable


@dataclass(frozen=True, eq=False)
class Transitions(TransitionsMinimal):
    """A batch of B steps with what followed each.

    Source:
        `imitation.data.types.Transitions` (imitation 1.0.1); `terminated` and `truncated` are ours.
    """

    next_obs: Observation
    """Observations after the actions, shape `(B, *obs_shape)`, dtypes as `obs`; the true last observation where an
    episode ended, never the next episode's first."""

    dones: npt.NDArray[np.bool_]
    """Whether the episode ended with step i, for either reason, shape `(B,)`, bool."""

    terminated: npt.NDArray[np.bool_] = field(default=None, kw_only=True)  # type: ignore[assignment]  # __post_init__
    """Whether step i reached a terminal state of the MDP, shape `(B,)`, bool; where not given: `dones`, without what
    was given as `truncated`."""

    truncated: npt.NDArray[np.bool_] = field(default=None, kw_only=True)  # type: ignore[assignment]
    """Whether the episode was cut short at step i, shape `(B,)`, bool; where not given: `dones` without `terminated`."""

    def __post_init__(self) -> None:
        """Check the other fields too.

        Raises:
            ShapeError: If a field has not one row a step, or `next_obs` another shape than `obs`.
            DtypeError: If `next_obs` has another dtype than `obs`, or a flag is not boolean.
            FlagError: If `dones` is not `terminated | truncated`.
        """
        super().__post_init__()
        settle = object.__setattr__
        settle(self, "next_obs", wrap(self.next_obs))
        if self.obs.shape != self.next_obs.shape:
            raise ShapeError(f"obs and next_obs must have same shape: {self.obs.shape} and {self.next_obs.shape}")
        if self.obs.dtype != self.next_obs.dtype:
            raise DtypeError(f"obs and next_obs must have the same dtype: {self.obs.dtype} and {self.next_obs.dtype}")
        _check_flag("dones", self.dones, len(self))
        if self.terminated is None:
            settle(self, "terminated", self.dones if self.truncated is None else self.dones & ~self.truncated)
        if self.truncated is None:
            settle(self, "truncated", self.dones & ~self.terminated)
        _check_flag("terminated", self.terminated, len(self))
        _check_flag("truncated", self.truncated, len(self))
        wrong = np.flatnonzero(self.dones != (self.terminated | self.truncated))
        if len(wrong):
            raise FlagError(
                f"dones: expected terminated | truncated, which it is not at {len(wrong)} steps, first at {wrong[0]}; "
                "pass terminated= and truncated= with it, or None to derive them"
            )


@dataclass(frozen=True, eq=False)
class TransitionsWithRew(Transitions):
    """`Transitions` with rewards.

    Source:
        `imitation.data.types.TransitionsWithRew` (imitation 1.0.1).
    """

    rews: npt.NDArray[np.floating[Any]]
    """Rewards, shape `(B,)`, any float dtype; `rews[i]` was paid for `acts[i]`."""

    def __post_init__(self) -> None:
        """Check the rewards too.

        Raises:
            ShapeError: If a field has not one row a step.
            DtypeError: If the rewards are not floats.
        """
        super().__post_init__()
        check_rewards(self.rews, len(self))


def _check_flag(name: str, flag: Any, steps: int) -> None:
    if np.shape(flag) != (steps,):
        raise ShapeError(f"{name}: {name} must be 1D array, one for each step: expected ({steps},), got {np.shape(flag)}")
    if flag.dtype != bool:
        raise DtypeError(f"{name}: {name} must be boolean, got {flag.dtype}")


def flatten_trajectories(trajectories: Iterable[Trajectory]) -> Transitions:
    """The steps of all trajectories, one after another.

    Args:
        trajectories: At least one; their observations must be alike in structure and shape.

    Returns:
        Transitions with copies of the data; steps without infos get empty dicts.

    Raises:
        ShapeError: If there is no trajectory.
        StructureError: If their observations have different structures.

    Source:
        `imitation.data.rollout.flatten_trajectories` (imitation 1.0.1).
    """
    return Transitions(**_flat_fields(list(trajectories)))


def flatten_trajectories_with_rew(trajectories: Iterable[TrajectoryWithRew]) -> TransitionsWithRew:
    """`flatten_trajectories`, with rewards.

    Args:
        trajectories: At least one; their observations must be alike in structure and shape.

    Returns:
        Transitions with copies of the data; steps without infos get empty dicts.

    Raises:
        ShapeError: If there is no trajectory.
        StructureError: If their observations have different structures.
    """
    listed = list(trajectories)
    return TransitionsWithRew(**_flat_fields(listed), rews=np.concatenate([each.rews for each in listed]))


def _flat_fields(trajectories: list[Any]) -> dict[str, Any]:
    if not trajectories:
        raise ShapeError("trajectories: expected at least one, got none")
    last = np.cumsum([len(each) for each in trajectories]) - 1
    flags = np.zeros((3, last[-1] + 1), dtype=bool)
    for flag, name in zip(flags, ("terminal", "terminated", "truncated"), strict=True):
        flag[last] = [bool(getattr(each, name)) for each in trajectories]
    return dict(
        obs=concatenate([each.obs[:-1] for each in trajectories]),
        next_obs=concatenate([each.obs[1:] for each in trajectories]),
        acts=np.concatenate([each.acts for each in trajectories]),
        infos=np.concatenate([infos_or_empty(each.infos, len(each)) for each in trajectories]),
        dones=flags[0],
        terminated=flags[1],
        truncated=flags[2],
    )


def collate_transitions(batch: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Make one batch of tensors out of single steps: a `collate_fn` for torch's `DataLoader`.

    torch's own cannot join `DictObs`, nor infos whose keys differ from step to step.

    Args:
        batch: B steps, as integer indices into transitions give them.

    Returns:
        A dict with the same keys: tensors of shape `(B, ...)`, dicts or tuples of tensors for Dict and Tuple
        observations, and `"infos"` as a list of B dicts.

    Raises:
        MissingDependencyError: If torch is not installed.
    """
    try:
        import torch
    except ImportError as error:  # pragma: no cover  # SB3 brings torch
        raise MissingDependencyError("collate_transitions needs torch: pip install torch") from error

    def to_tensors(tree: Any) -> Any:
        if isinstance(tree, dict):
            return {key: to_tensors(value) for key, value in tree.items()}
        return tuple(map(to_tensors, tree)) if isinstance(tree, tuple) else torch.as_tensor(tree)

    return {
        key: [step[key] for step in batch] if key == "infos" else to_tensors(unwrap(stack([step[key] for step in batch])))
        for key in batch[0]
    }
