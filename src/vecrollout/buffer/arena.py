"""The memory that a buffer writes to: the current block, and which block comes next."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from vecrollout._typing import Array
from vecrollout.buffer.blocks import Block, Column, ColumnSpec
from vecrollout.data.fields import as_rewards
from vecrollout.data.structures import Spec as Structure
from vecrollout.data.structures import flatten, leaf_names, structure_of
from vecrollout.data.trees import Tree
from vecrollout.errors import ShapeError, StructureError

_FIRST_BLOCK_ROWS = 1024
_FEWEST_ROWS = 16
# From this size on, an environment's row is large.
_LARGE_ROW_BYTES = 1024
# The first block for large rows: reserved at once, but taking up memory only as it is written. Episodes then lie in one
# piece. Where trajectories leave at once, it is smaller.
_RESERVED_BYTES = 1 << 30
_RESERVED_BYTES_WITH_SINK = 1 << 26
# Rows worth less than this are rather left unused than another block looked for.
_SMALL_PERIOD_BYTES = 1 << 20
_MOST_SPARES = 2
# Staged steps: not so many that they fall out of the processor's cache.
_STAGED_BYTES = 1 << 19
_FEWEST_STAGED, _MOST_STAGED = 16, 256


class Layout(NamedTuple):
    """Which columns are what, and how their items make up observations and actions; widths of 0: not known yet."""

    obs: Structure
    acts: Structure
    obs_width: int
    """Number of observation leaves: the first columns."""
    act_width: int
    """Number of action leaves: the columns behind them. The one after those holds rewards."""
    keeps_infos: bool


# Lane, its dtype (None: the column's own), shape of a row and dtype of the column; for a step, lane, shape and dtype of
# rewards behind them.
PlainActs: TypeAlias = tuple[Array, "np.dtype[Any] | None", tuple[int, ...], np.dtype[Any]]
PlainStep: TypeAlias = tuple[
    Array, "np.dtype[Any] | None", tuple[int, ...], np.dtype[Any], Array, tuple[int, ...], np.dtype[Any]
]


class Arena:
    """Rows of E environments: what kind of data they take, and where the next ones go.

    The kind of observations, actions and rewards is that of the first data; it stays while anything is held.
    """

    def __init__(self, num_envs: int, keeps_infos: bool, leaves_at_once: bool, most_steps: int | None) -> None:
        self.num_envs = num_envs
        self.layout = Layout(obs=None, acts=None, obs_width=0, act_width=0, keeps_infos=keeps_infos)
        self.specs: list[ColumnSpec] = []
        self.block = Block(num_envs, 0)
        self.obs_columns: list[Column] = []
        self.act_columns: list[Column] = []
        self.rew_column: Column | None = None
        # Where plain arrays go, for steps that need nothing looked up: the columns' lanes with the shapes and dtypes
        # that fit. None where there is no one column of the kind.
        self.plain_acts: PlainActs | None = None
        self.plain_step: PlainStep | None = None
        # Whether steps are small enough to be staged, and how many of them.
        self.is_staged = False
        self.staged_steps = 0
        # Row of each environment's current observation. The array is never altered, but replaced: a step counts as
        # recorded from then on.
        self.row: Array = np.zeros(num_envs, dtype=np.int64)
        self._first = self.row
        self.one = np.ones(num_envs, dtype=np.int64)
        self._rows_before = 0  # rows used in earlier blocks since nothing was held
        self._reserved_bytes = _RESERVED_BYTES_WITH_SINK if leaves_at_once else _RESERVED_BYTES
        self._most_steps = most_steps
        self._spares: list[Block] = []

    def free_rows(self) -> int:
        """Rows left in the block for every environment."""
        return self.block.capacity - 1 - self._used_rows()

    def is_full(self) -> bool:
        """Whether no step fits in the block, which may take two rows, or so few that staging them would not pay."""
        few = min(self.staged_steps // 16, self.block.capacity // 64) if self.is_staged else 0
        return self.free_rows() < max(2, few)

    def _used_rows(self) -> int:
        return int((self.row - self._first).max())

    # Which data fits

    def obs_leaves(self, obs: Tree, where: str = "obs") -> list[Array]:
        """Leaves of observations of the known kind."""
        return [np.asarray(leaf) for leaf in flatten(obs, self.layout.obs, where)]

    def known_acts(self, acts: Tree) -> list[Array] | None:
        """Leaves of actions, if they have the known structure."""
        if type(acts) is np.ndarray and self.layout.acts is None:
            return [acts]
        try:
            return [np.asarray(leaf) for leaf in flatten(acts, self.layout.acts, "acts")]
        except StructureError:
            return None

    def check(self, columns: Sequence[Column], leaves: Sequence[Array], rows: Array) -> None:
        """Check arrays of shape `(len(rows), ...)`; raises `ShapeError` or `DtypeError` if one does not fit."""
        for column, leaf in zip(columns, leaves, strict=True):
            column.spec.check(leaf, (len(rows), *column.spec.shape))

    def fit_obs(self, obs: Tree, rows: Array, is_fixed: bool) -> list[Array]:
        """Leaves of first observations for these rows; unless the kind of data is fixed, another one is taken on."""
        if is_fixed:
            leaves = self.obs_leaves(obs)
            self.check(self.obs_columns, leaves, rows)
            return leaves
        structure, leaves, specs = self._kind_of("obs", obs, len(rows))
        if structure != self.layout.obs or specs != self.specs[: self.layout.obs_width]:
            self.adopt(self.layout._replace(obs=structure, obs_width=len(specs), acts=None, act_width=0), specs)
        return leaves

    def fit_acts(self, acts: Tree, rows: Array, is_fixed: bool) -> list[Array]:
        """Leaves of actions for these rows; unless the kind of data is fixed, another one is taken on."""
        if is_fixed:
            leaves = [np.asarray(leaf) for leaf in flatten(acts, self.layout.acts, "acts")]
            self.check(self.act_columns, leaves, rows)
            return leaves
        structure, leaves, specs = self._kind_of("acts", acts, len(rows))
        if structure != self.layout.acts or specs != [column.spec for column in self.act_columns]:
            layout = self.layout._replace(acts=structure, act_width=len(specs))
            self._replace(layout, layout.obs_width, specs)
        return leaves

    def fit_rews(self, rews: Any, rows: Array, is_fixed: bool) -> Array:
        """Rewards for these rows; integers become floats. Unless the kind of data is fixed, another one is taken on.

        Where it is fixed, it is widened: environments in subprocesses hand over each reward as it is, and one may be a
        Python number at one step and of single precision at another.

        Raises:
            ShapeError: If there is not one reward an environment.
        """
        array: Array = as_rewards(rews)
        if array.shape != (len(rows),):
            raise ShapeError(f"rews: expected shape ({len(rows)},), one an environment, got {array.shape}")
        column = self.rew_column
        dtype = array.dtype if column is None or not is_fixed else np.promote_types(column.dtype, array.dtype)
        if column is None or column.dtype != dtype:
            wider = [ColumnSpec("rews", (), dtype)]
            position = self.layout.obs_width + self.layout.act_width
            self._replace(self.layout, position, wider, [column] if column and is_fixed else [])
        return array.astype(dtype, copy=False)

    def adopt(self, layout: Layout, specs: list[ColumnSpec]) -> None:
        """Nothing is held: take data of this kind from here on."""
        self.layout, self.specs = layout, specs
        self._spares = []
        self._enter(self._new_block(self._first_capacity()))

    def _kind_of(self, name: str, tree: Tree, rows: int) -> tuple[Structure, list[Array], list[ColumnSpec]]:
        structure = structure_of(tree)
        leaves = [np.asarray(leaf) for leaf in flatten(tree, structure)]
        names = leaf_names(structure, name)
        specs = [ColumnSpec.of(each, leaf, rows) for each, leaf in zip(names, leaves, strict=True)]
        return structure, leaves, specs

    def _replace(self, layout: Layout, position: int, specs: list[ColumnSpec], contents: Sequence[Column] = ()) -> None:
        try:
            self.block.replace(position, specs, contents)
            # Not before: an interrupt leaves the layout of the columns that there are.
            self.layout, self.specs = layout, self.specs[:position] + specs
        finally:
            self._use(self.block, self._first, self.row)

    # Which block

    def roll(self, needed: Collection[Block], grow: bool) -> None:
        """The block is full: go on in another one.

        Args:
            needed: The blocks that hold data.
            grow: Whether the next block should be larger.
        """
        self._rows_before += self._used_rows()
        self._move(self._free_block(self.block.capacity * (2 if grow else 1), needed))

    def start_over(self) -> None:
        """Nothing is held: go on in memory that is warm, or in a block of the size that was needed lately."""
        rows = (self._rows_before + self._used_rows()) * 5 // 4 + _FEWEST_ROWS
        self._rows_before = 0
        for spare in self._spares:
            spare.infos.clear()
        if not self.block.is_shared():
            self._move(self.block if rows <= self.block.capacity else self._free_block(rows, ()))
        elif rows * self.num_envs * self.block.row_bytes > _SMALL_PERIOD_BYTES or self.free_rows() < rows:
            self._move(self._free_block(rows, ()))
        else:
            self.block.infos.clear()

    def _move(self, block: Block) -> None:
        """Go on in another block, or anew in this one, with the current observations, and actions that wait."""
        current = [column.rows[self.row] for column in self.obs_columns + self.act_columns]
        if block is not self.block:
            self._spares = [*self._spares, self.block][-_MOST_SPARES:]
        self._enter(block)
        for column, leaf in zip(self.obs_columns + self.act_columns, current, strict=True):
            column.write(self.row, leaf)

    def _enter(self, block: Block) -> None:
        """Go on in the first rows of a block that holds nothing."""
        block.infos.clear()
        first = np.arange(self.num_envs, dtype=np.int64) * block.capacity
        self._use(block, first, first)

    def _use(self, block: Block, first: Array, row: Array) -> None:
        # No calls in here: an interrupt cannot come between.
        self.block = block
        self._first = first
        self.row = row
        obs_width, act_width = self.layout.obs_width, self.layout.act_width
        self.obs_columns = block.columns[:obs_width]
        self.act_columns = block.columns[obs_width : obs_width + act_width]
        behind = block.columns[obs_width + act_width :]
        self.rew_column = behind[0] if behind else None
        self.plain_acts = self.plain_step = None
        self.is_staged = False
        if self.layout.acts is None and act_width == 1:
            column = self.act_columns[0]
            self.plain_acts = (column.lane, column.lane_dtype, column.row_shape, column.dtype)
        if self.layout.obs is None and obs_width == 1 and self.rew_column is not None:
            column, rews = self.obs_columns[0], self.rew_column
            self.plain_step = (
                *(column.lane, column.lane_dtype, column.row_shape, column.dtype),
                *(rews.lane, rews.row_shape, rews.dtype),
            )
            step_bytes = block.row_bytes * self.num_envs
            is_small = 0 < block.row_bytes < _LARGE_ROW_BYTES and self.plain_acts is not None
            self.is_staged = is_small and all(each.is_scattered for each in block.columns)
            self.staged_steps = max(_FEWEST_STAGED, min(_MOST_STAGED, _STAGED_BYTES // max(step_bytes, 1)))

    def _first_capacity(self) -> int:
        row_bytes = sum(spec.item_bytes for spec in self.specs)
        capacity = _FIRST_BLOCK_ROWS
        if row_bytes >= _LARGE_ROW_BYTES:
            capacity = self._reserved_bytes // (row_bytes * self.num_envs)
        if self._most_steps is not None:
            capacity = min(capacity, 2 * self._most_steps)
        return max(capacity, _FEWEST_ROWS)

    def _free_block(self, capacity: int, needed: Collection[Block]) -> Block:
        for i, spare in enumerate(self._spares):
            fits = capacity <= spare.capacity and spare.specs == self.specs
            if fits and spare not in needed and not spare.is_shared():
                self._spares = self._spares[:i] + self._spares[i + 1 :]
                return spare
        return self._new_block(capacity)

    def _new_block(self, capacity: int) -> Block:
        while True:
            try:
                # An odd capacity: the environments' rows then do not fall on the same lines of the cache.
                return Block(self.num_envs, capacity | 1, self.specs)
            except MemoryError:
                if capacity <= _FEWEST_ROWS:
                    raise
                # Not the largest that fits, which would leave too little for everybody else.
                capacity //= 8
