"""What the columns of trajectories are made of: structures, dtypes and shapes of rows."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from vecrollout.data.structures import Structure
from vecrollout.data.trees import Tree


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
    def void(self) -> np.dtype[Any]:
        """A row as one opaque value, which NumPy moves in one piece; the dtype itself where it holds objects."""
        return self.dtype if self.dtype.hasobject or not self.nbytes else np.dtype((np.void, self.nbytes))


@dataclass(frozen=True)
class Part:
    """Observations or actions: a tree, and the row of each leaf in the tree's order."""

    structure: Structure
    items: tuple[Item, ...]

    @classmethod
    def of(cls, tree: Tree) -> Part:
        """The part that a column of rows is."""
        structure = Structure.of(tree)
        leaves = map(np.asarray, structure.flatten(tree))
        return cls(structure, tuple(Item(leaf.dtype, leaf.shape[1:]) for leaf in leaves))


@dataclass(frozen=True)
class Kind:
    """Observations, actions and rewards of trajectories that can lie in one batch."""

    obs: Part
    acts: Part
    rews: np.dtype[Any] | None
    """None where there are no rewards."""

    @classmethod
    def of(cls, obs: Tree, acts: Tree, rews: Any) -> Kind:
        """The kind of some columns."""
        return cls(Part.of(obs), Part.of(acts), None if rews is None else rews.dtype)
