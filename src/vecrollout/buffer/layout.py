"""What the columns of a log are made of, and which data fits them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from vecrollout._typing import Array
from vecrollout.data.fields import as_rewards
from vecrollout.data.kinds import Item, Kind, Part
from vecrollout.data.trees import Tree
from vecrollout.errors import DtypeError, ShapeError

LARGE_ROW_BYTES = 1024
"""From this size on, observations of one environment lie in lanes, and trajectories are views of them."""

_CURE = "what was recorded before can still be popped; pop it and reset to record data of another kind"


@dataclass(frozen=True)
class Layout:
    """The leaves of observations, actions and rewards of E environments."""

    num_envs: int
    obs: Part
    acts: Part | None = None
    """None: not known before the first actions."""
    rews: np.dtype[Any] | None = None
    """None: not known before the first step."""

    @cached_property
    def large(self) -> tuple[int, ...]:
        """Numbers of the leaves of observations that lie in lanes."""
        items = enumerate(self.obs.items)
        return tuple(i for i, item in items if item.nbytes >= LARGE_ROW_BYTES and not item.dtype.hasobject)

    def item(self, leaf: int) -> Item:
        """A leaf as records have them: -1 is rewards, then come observations, then actions."""
        return self.items[leaf + 1]

    @cached_property
    def items(self) -> list[Item]:
        """Rewards, then the leaves of observations, then those of actions."""
        rews = Item(self.rews or np.dtype(np.float32), ())
        return [rews, *self.obs.items, *(self.acts.items if self.acts else ())]

    @cached_property
    def step_bytes(self) -> int:
        """Memory of the small leaves of a step of all environments."""
        items = [item for i, item in enumerate(self.obs.items) if i not in self.large]
        items += self.acts.items if self.acts else ()
        return self.num_envs * (8 + sum(item.nbytes for item in items))

    @cached_property
    def kind(self) -> Kind:
        """The same for trajectories."""
        return Kind(self.obs, self.acts or self.obs, self.rews)

    def with_dtype_of_rewards(self, dtype: np.dtype[Any]) -> Layout:
        """The layout with rewards of another precision."""
        # `dtype("float64") == None` is true.
        return self if self.rews is not None and dtype == self.rews else replace(self, rews=dtype)

    def plain(self, part: Part | None) -> tuple[np.dtype[Any] | None, tuple[int, ...]]:
        """Dtype and shape of the arrays of a part that is one array, not of objects; None otherwise."""
        if part is None or not part.structure.is_leaf:
            return None, ()
        (item,) = part.items
        return (item.dtype, (self.num_envs, *item.shape)) if item.is_bytes else (None, ())

    def with_rewards(self, rews: Any, rows: int, is_fixed: bool) -> tuple[Layout, Array]:
        """Rewards as an array with a float an environment, and the layout that takes them.

        A fixed dtype is widened: environments in subprocesses hand over each reward as it is, a Python number at one
        step and one of single precision at another.
        """
        array: Array = as_rewards(rews)
        if array.shape != (rows,):
            raise ShapeError(f"rews: expected shape ({rows},), one an environment, got {array.shape}")
        dtype = array.dtype if self.rews is None or not is_fixed else np.promote_types(self.rews, array.dtype)
        return self.with_dtype_of_rewards(dtype), array.astype(dtype, copy=False)


def leaves_of(part: Part, tree: Tree, rows: int, where: str) -> Sequence[Array]:
    """The leaves of a tree of known kind, checked."""
    leaves = [np.asarray(leaf) for leaf in part.structure.flatten(tree, where)]
    for i, (leaf, item) in enumerate(zip(leaves, part.items, strict=True)):
        if leaf.shape != (rows, *item.shape) or leaf.dtype != item.dtype:
            check(item, leaf, (rows, *item.shape), part.structure.names(where)[i])
    return leaves


def part_of(tree: Tree, rows: int, where: str) -> Part:
    """What a tree with a row an environment is made of."""
    part = Part.of(tree)
    names = part.structure.names(where)
    for name, leaf in zip(names, part.structure.flatten(tree), strict=True):
        if np.ndim(leaf) == 0 or len(leaf) != rows:
            raise ShapeError(f"{name}: expected {rows} rows, one an environment, got shape {np.shape(leaf)}")
    return part


def check(item: Item, leaf: Array, shape: tuple[int, ...], name: str) -> None:
    """Refuse an array of another shape or dtype."""
    if leaf.shape != shape:
        raise ShapeError(f"{name}: expected shape {shape} as recorded before, got {leaf.shape}; {_CURE}")
    if leaf.dtype != item.dtype:
        raise DtypeError(f"{name}: expected dtype {item.dtype} as recorded before, got {leaf.dtype}; {_CURE}")
