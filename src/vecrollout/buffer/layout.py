"""What the columns of a log are made of, and which data fits them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from vecrollout._typing import Array
from vecrollout.buffer.casting import cast_exactly, common_dtype
from vecrollout.data.fields import as_rewards
from vecrollout.data.foreign import as_array
from vecrollout.data.kinds import Item, Kind, Part
from vecrollout.data.trees import Tree
from vecrollout.errors import DtypeError, ShapeError

_ndarray = np.ndarray

LARGE_ROW_BYTES = 1024
"""From this size on, observations of one environment lie in lanes, and trajectories are views of them."""

_CURE = "what was recorded before can still be popped; pop it and reset to record data of another kind"
_DTYPE_CURE = f'{_CURE}, or pass cast="space" to the recorder to cast all data to the dtypes of the spaces'


@dataclass(frozen=True)
class Layout:
    """The leaves of observations, actions and rewards of E environments."""

    num_envs: int
    obs: Part
    acts: Part | None = None
    """None: not known before the first actions."""
    rews: np.dtype[Any] | None = None
    """None: not known before the first step."""
    rew_shape: tuple[int, ...] = ()
    """Shape of each reward; `()` unless the environments return vectors."""

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
        rews = Item(self.rews or np.dtype(np.float32), self.rew_shape)
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
        return Kind(self.obs, self.acts or self.obs, self.rews, self.rew_shape)

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
        """Rewards as an array with a float (or a vector of floats) an environment, and the layout that takes them.

        A fixed dtype is widened: environments in subprocesses hand over each reward as it is, a Python number at one
        step and one of single precision at another.
        """
        array: Array = as_rewards(as_array(rews, "rews"))
        shape = self.rew_shape if is_fixed and self.rews is not None else array.shape[1:]
        if array.shape != (rows, *shape) or len(shape) > 1 or shape == (1,):
            expected = (rows, *shape) if len(shape) == 1 and shape != (1,) else (rows,)
            raise ShapeError(f"rews: expected shape {expected}, one an environment, got {array.shape}")
        dtype = array.dtype if self.rews is None or not is_fixed else np.promote_types(self.rews, array.dtype)
        layout = self if shape == self.rew_shape else replace(self, rew_shape=shape)
        return layout.with_dtype_of_rewards(dtype), array.astype(dtype, copy=False)


def fitted(
    part: Part, tree: Tree, rows: int, where: str, is_cast: bool = False, is_held: bool = False
) -> tuple[Part, Sequence[Array]]:
    """The leaves of a tree in the dtypes of a part, and the part; it is widened where a leaf needs that.

    Args:
        part: What the tree is expected to be made of.
        tree: The tree, with a row an environment.
        rows: Number of environments.
        where: Name of the tree in an error.
        is_cast: Whether to cast to the part's dtypes, also with a loss of precision.
        is_held: Whether rows of the part are held, whose values are not looked at again.
    """
    if part.structure.is_leaf and type(tree) is tuple:
        tree = as_array(tree, where)  # a value an environment
    leaves = [leaf if type(leaf) is _ndarray else as_array(leaf, where) for leaf in part.structure.flatten(tree, where)]
    items: list[Item] | None = None
    for i, (leaf, item) in enumerate(zip(leaves, part.items, strict=True)):
        if leaf.dtype == item.dtype and leaf.shape == (rows, *item.shape):
            continue
        name = part.structure.names(where)[i]
        check_shape(leaf, (rows, *item.shape), name)
        if leaf.dtype != item.dtype:
            dtype = item.dtype if is_cast else common_dtype(item.dtype, leaf.dtype, is_held)
            cast = None if dtype is None else cast_exactly(leaf, dtype, is_cast)
            if dtype is None or cast is None:
                if is_cast:
                    wanted = f"values that {item.dtype}, the dtype of the space, can hold"
                    raise DtypeError(f"{name}: expected {wanted}, got {leaf.dtype}")
                raise _another_dtype(name, item.dtype, leaf.dtype)
            leaves[i] = cast
            if dtype != item.dtype:
                items = items or [*part.items]
                items[i] = Item(dtype, item.shape)
    return part if items is None else replace(part, items=tuple(items)), leaves


def part_of(tree: Tree, rows: int, where: str, dtypes: Any = None) -> Part:
    """What a tree of NumPy arrays with a row an environment is made of; in other dtypes if a tree of them is given."""
    part = Part.of(tree)
    names = part.structure.names(where)
    for name, leaf in zip(names, part.structure.flatten(tree), strict=True):
        if np.ndim(leaf) == 0 or len(leaf) != rows:
            raise ShapeError(f"{name}: expected {rows} rows, one an environment, got shape {np.shape(leaf)}")
    if dtypes is None:
        return part
    pairs = zip(part.items, part.structure.flatten(dtypes, where), strict=True)
    return replace(part, items=tuple(Item(dtype or item.dtype, item.shape) for item, dtype in pairs))


def widened(part: Part, leaves: Sequence[Array], where: str) -> Sequence[Array]:
    """Leaves in the wider dtypes of a part."""
    wide = [
        leaf if leaf.dtype == item.dtype else cast_exactly(leaf, item.dtype)
        for leaf, item in zip(leaves, part.items, strict=True)
    ]
    for leaf, item, found in zip(leaves, part.items, wide, strict=True):
        if found is None:
            raise _another_dtype(where, leaf.dtype, item.dtype)
    return wide  # type: ignore[return-value]


def _another_dtype(name: str, expected: np.dtype[Any], got: np.dtype[Any]) -> DtypeError:
    return DtypeError(f"{name}: expected dtype {expected} as recorded before, got {got}; {_DTYPE_CURE}")


def check_shape(leaf: Array, shape: tuple[int, ...], name: str) -> None:
    """Refuse an array of another shape."""
    if leaf.shape != shape:
        raise ShapeError(f"{name}: expected shape {shape} as recorded before, got {leaf.shape}; {_CURE}")
