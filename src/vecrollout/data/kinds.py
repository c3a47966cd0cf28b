"""What the columns of trajectories are made of: structures, dtypes and shapes of rows."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from vecrollout.data.foreign import as_array
from vecrollout.data.structures import Structure
from vecrollout.data.trees import Tree

_LEAF = Structure(None)


@dataclass(frozen=True)
class Item:
    """A row of one leaf."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    @cached_property
    def nbytes(self) -> int:
        """Bytes of memory of a row."""
        return self.dtype.itemsize * int(np.prod(self.shape, dtype=np.int64))

    @cached_property
    def is_bytes(self) -> bool:
        """Whether a log keeps rows as bytes; rows of objects and of nothing are kept as arrays."""
        return not self.dtype.hasobject and self.nbytes > 0

    @cached_property
    def void(self) -> np.dtype[Any]:
        """A row as one opaque value, which NumPy moves in one piece; the dtype itself where that gains nothing."""
        return np.dtype((np.void, self.nbytes)) if self.is_bytes and self.shape else self.dtype

    @cached_property
    def _row(self) -> np.dtype[Any]:
        return np.dtype((self.dtype, self.shape))

    def opened(self, rows: Any) -> Any:
        """Opaque rows, shape `(n,)`, as rows of this dtype and shape."""
        return rows if self.void is self.dtype else rows.view(self._row)

    def closed(self, rows: Any) -> Any:
        """Rows in one piece of memory as opaque elements: the inverse of `opened`."""
        return rows if self.void is self.dtype else rows.reshape(len(rows), -1).view(self.void)[:, 0]

    def filler(self, rows: int) -> Any:
        """Rows that mean nothing, as a log keeps them: bytes, or an array of objects."""
        if not self.is_bytes:
            return np.empty((rows, *self.shape), self.dtype)
        return bytes(rows * self.nbytes)

    def kept(self, rows: Any) -> Any:
        """A copy of rows, as a log keeps them."""
        return rows.tobytes() if self.is_bytes else rows.copy()


@dataclass(frozen=True)
class Part:
    """Observations or actions: a tree, and the row of each leaf in the tree's order."""

    structure: Structure
    items: tuple[Item, ...]

    @classmethod
    def of(cls, tree: Tree) -> Part:
        """The part that a column of rows is."""
        structure = Structure.of(tree)
        leaves = map(as_array, structure.flatten(tree))
        return cls(structure, tuple(Item(leaf.dtype, leaf.shape[1:]) for leaf in leaves))

    @property
    def family(self) -> Hashable:
        """Equal for parts that differ in the length of their texts only."""
        dtypes = [item.dtype.kind if item.dtype.kind in "US" else item.dtype for item in self.items]
        return self.structure, tuple((dtype, item.shape) for dtype, item in zip(dtypes, self.items, strict=True))


@dataclass(frozen=True, eq=False)
class Kind:
    """Observations, actions and rewards of trajectories that can lie in one batch."""

    obs: Part
    acts: Part
    rews: np.dtype[Any] | None
    """None where there are no rewards."""
    rew_shape: tuple[int, ...] = ()
    """Shape of each reward; `()` unless rewards are vectors."""

    def __eq__(self, other: object) -> bool:
        """Whether all parts are equal; NumPy alone takes None for float64."""
        if not isinstance(other, Kind) or (self.rews is None) != (other.rews is None):
            return False
        return vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash((self.obs, self.acts))

    def part(self, name: str) -> Part:
        """Observations, actions or rewards, of which there are some, by name."""
        if name == "rews" and self.rews is not None:
            return Part(_LEAF, (Item(self.rews, self.rew_shape),))
        part: Part = getattr(self, name)
        return part

    @property
    def family(self) -> Hashable:
        """Equal for kinds whose rows fit into one array: text may differ in length, and rewards in precision."""
        return self.obs.family, self.acts.family, self.rews is None, self.rew_shape

    def __str__(self) -> str:
        """Such as "obs float32 (4,), acts int64 (), rews float32 ()"."""
        parts = {"obs": self.obs, "acts": self.acts}
        texts = [
            f"{leaf} {item.dtype} {item.shape}"
            for name, part in parts.items()
            for leaf, item in zip(part.structure.names(name), part.items, strict=True)
        ]
        return ", ".join([*texts, "no rews" if self.rews is None else f"rews {self.rews} {self.rew_shape}"])

    @classmethod
    def of(cls, obs: Tree, acts: Tree, rews: Any) -> Kind:
        """The kind of some columns."""
        return cls(Part.of(obs), Part.of(acts), *(None, ()) if rews is None else (rews.dtype, rews.shape[1:]))
