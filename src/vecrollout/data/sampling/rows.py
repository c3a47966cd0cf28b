"""Rows of columns by number: the protocol, and columns that lie in memory."""

from __future__ import annotations

from functools import cached_property
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from vecrollout._typing import Array
from vecrollout.data.columns import Columns
from vecrollout.data.kinds import Item, Kind
from vecrollout.data.structures import Structure

RowNumbers = npt.NDArray[np.int64]


class Rows(Protocol):
    """Where the rows of trajectories lie. Rows do not change."""

    @property
    def kind(self) -> Kind:
        """Structures, dtypes and shapes."""

    def take(self, name: str, rows: RowNumbers) -> Any:
        """A copy of some rows, shape `(n, *shape)` each leaf, of `obs`, `acts` or `rews`."""

    def infos(self, rows: RowNumbers) -> npt.NDArray[np.object_] | None:
        """Info dicts of some steps, shape `(n,)`; None where they were not kept."""


class Leaf:
    """One array in memory, whose rows are moved in one piece."""

    def __init__(self, array: Array) -> None:
        self._item = Item(array.dtype, array.shape[1:]) if array.flags.c_contiguous and array.size else None
        self._rows = array if self._item is None else self._item.closed(array)

    def take(self, rows: RowNumbers) -> Array:
        """A copy of some rows."""
        found: Array = self._rows.take(rows, axis=0)
        return found if self._item is None else self._item.opened(found)


class ArrayRows:
    """Columns that lie in memory.

    Args:
        columns: The columns, of which infos are read when they are first asked for.
        obs: Observations of the columns.
        acts: Actions.
        rews: Rewards, or None.
    """

    def __init__(self, columns: Columns, obs: Any, acts: Any, rews: Any) -> None:
        self.kind = columns.kind
        self._columns = columns
        self._parts: dict[str, tuple[Structure, list[Leaf]]] = {}
        for name, tree in (("obs", obs), ("acts", acts), ("rews", rews)):
            if tree is not None:
                structure = self.kind.part(name).structure
                self._parts[name] = structure, [Leaf(np.asarray(leaf)) for leaf in structure.flatten(tree, name)]

    def take(self, name: str, rows: RowNumbers) -> Any:
        """A copy of some rows."""
        structure, leaves = self._parts[name]
        if structure.is_leaf:
            return leaves[0].take(rows)
        return structure.unflatten([leaf.take(rows) for leaf in leaves])

    def infos(self, rows: RowNumbers) -> npt.NDArray[np.object_] | None:
        """Info dicts of some steps."""
        infos = self._infos
        return None if infos is None else infos[rows]

    @cached_property
    def _infos(self) -> npt.NDArray[np.object_] | None:
        infos: npt.NDArray[np.object_] | None = self._columns.column("infos")
        return infos
