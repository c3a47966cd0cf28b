"""Where recorded rows lie in memory.

A block holds `capacity` rows for each of its E environments, environment after environment, so that a run of one
environment's steps is a slice. Row r keeps an observation, the action taken on it and the reward paid for that; an
episode's last observation has a row of its own, whose action and reward mean nothing. All columns of a block are
addressed by the same row numbers: row r of environment e is `e * capacity + r`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from vecrollout._typing import Array
from vecrollout.buffer.infos import InfoColumn
from vecrollout.errors import DtypeError, ShapeError

# PyPy has no reference counts: there a block is always taken for shared, and just not recycled.
_references: Callable[[object], int] = getattr(sys, "getrefcount", lambda _: -1)


@dataclass(frozen=True)
class ColumnSpec:
    """Name, item shape and dtype of one column."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @classmethod
    def of(cls, name: str, array: Array, rows: int) -> ColumnSpec:
        """The spec of a column for arrays like this one, which has one row an environment.

        Raises:
            ShapeError: If it has not.
        """
        if array.ndim == 0 or len(array) != rows:
            raise ShapeError(f"{name}: expected {rows} rows, one an environment, got shape {array.shape}")
        return cls(name, array.shape[1:], array.dtype)

    @property
    def item_bytes(self) -> int:
        """Bytes of one environment's item."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize

    def check(self, array: Array, shape: tuple[int, ...], where: str = "") -> None:
        """Check that an array is like those recorded so far.

        Raises:
            ShapeError: If its shape is another.
            DtypeError: If its dtype is another.
        """
        cure = "what was recorded before can still be popped; pop it and reset to record data of another kind"
        if array.shape != shape:
            raise ShapeError(
                f"{self.name}{where}: expected shape {shape} as recorded before, got {array.shape}; {cure}"
            )
        if array.dtype != self.dtype:
            raise DtypeError(
                f"{self.name}{where}: expected dtype {self.dtype} as recorded before, got {array.dtype}; {cure}"
            )


class Column:
    """One column's rows in a block, and the quick ways to get at them.

    NumPy scatters into a one-dimensional array several times faster than along the first axis of a wider one, so rows
    are written through `lane`, in which an item is one opaque element.
    """

    __slots__ = ("base", "dtype", "frozen", "lane", "lane_dtype", "row_shape", "rows", "spec")

    def __init__(self, spec: ColumnSpec, num_envs: int, capacity: int) -> None:
        self.spec = spec
        self.dtype = spec.dtype
        self.row_shape = (num_envs, *spec.shape)
        self.base = np.empty((num_envs * capacity, *spec.shape), spec.dtype)
        self.rows = self.base[:]
        # Slices of `frozen` are read-only: what is handed out must not change what is still to be popped.
        self.frozen = self.base[:]
        self.frozen.setflags(write=False)
        self.lane_dtype: np.dtype[Any] | None = None
        self.lane = self.rows
        if spec.shape and spec.item_bytes and not spec.dtype.hasobject:
            self.lane_dtype = np.dtype((np.void, spec.item_bytes))
            self.lane = self.base.reshape(-1).view(self.lane_dtype)

    @property
    def is_scattered(self) -> bool:
        """Whether items are the elements of a one-dimensional array, and plain bytes."""
        return self.lane.ndim == 1 and not self.dtype.hasobject

    def write(self, rows: Array, array: Array) -> bool:
        """Copy an array, shape `(len(rows), *item)`, into these rows; False, and nothing done, if it does not fit."""
        if array.shape != (self.row_shape if len(rows) == self.row_shape[0] else (len(rows), *self.spec.shape)):
            return False
        if array.dtype is not self.dtype and array.dtype != self.dtype:
            return False
        self.lane[rows] = array if self.lane_dtype is None else array.ravel().view(self.lane_dtype)
        return True

    def takes_item(self, item: Array) -> bool:
        """Whether an array fits as one environment's item."""
        return item.dtype == self.dtype and item.shape == self.spec.shape


class Piece(NamedTuple):
    """A run of `steps` steps in one block: `steps + 1` observations, from `row` on."""

    block: Block
    row: int
    steps: int

    def infos(self) -> npt.NDArray[np.object_]:
        """The steps' infos, shape `(steps,)`: a view, to be copied."""
        return self.block.infos.take(self.row, self.steps)


class Block:
    """Columns of one capacity, infos among them."""

    def __init__(self, num_envs: int, capacity: int, specs: Sequence[ColumnSpec] = ()) -> None:
        self.num_envs = num_envs
        self.capacity = capacity
        self.columns: list[Column] = []
        self.infos = InfoColumn(num_envs * capacity)
        self._unshared: list[int] = []  # reference counts of the columns' memory while nobody else holds a view of it
        self.replace(0, specs)

    @property
    def specs(self) -> list[ColumnSpec]:
        """Specs of the columns."""
        return [column.spec for column in self.columns]

    @property
    def row_bytes(self) -> int:
        """Bytes of one environment's row, all columns together."""
        return sum(column.spec.item_bytes for column in self.columns)

    def replace(self, position: int, specs: Sequence[ColumnSpec], contents: Sequence[Column] = ()) -> None:
        """Put new columns in the place of those from `position` on, with these columns' values if any are given."""
        made = [Column(spec, self.num_envs, self.capacity) for spec in specs]
        with np.errstate(all="ignore"):  # rows that were not written yet may hold anything
            for column, content in zip(made, contents, strict=False):
                column.rows[...] = content.rows
        self.columns = self.columns[:position] + made
        self._unshared = self._unshared[:position] + [_references(column.base) for column in made]

    def is_shared(self) -> bool:
        """Whether somebody else holds a view of any column.

        A view's `base` is always the array that owns the memory, so that array's reference count tells.
        """
        counts = [_references(column.base) for column in self.columns]
        return counts != self._unshared or -1 in counts
