"""Where recorded rows lie: chunks of records, and lanes for large rows.

A chunk begins with a record of the environments' current observations. Each further record holds what a step appended:
the actions taken, the rewards paid, the observations that followed, and the infos. Small arrays are kept as bytes, all
environments side by side; appending the record is the one assignment that commits a step. Rows of large observations
lie in `Lanes`.

Row `r` of an environment is its r-th observation in the chunk; action and reward `r` led to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from vecrollout._typing import Array
from vecrollout.buffer.infos import BatchedInfos
from vecrollout.buffer.layout import Layout
from vecrollout.data.kinds import Item

Record: TypeAlias = tuple[Any, ...]
"""What a step appended: the entries below, then the leaves of observations, then those of actions."""

TOTAL, WAITING, NOTES, INFOS, PLACE, REWS, LEAVES = range(7)
# Of the columns of a chunk: in which order they have the rows, if a record has not all environments.
_ORDER = -1

_CHUNK_BYTES = 1 << 21
_FEWEST_STEPS, _MOST_STEPS = 32, 1024
# Virtual memory of the lanes of a chunk, which takes up memory as it is written; less where trajectories leave at once.
_LANE_BYTES = 1 << 30
_LANE_BYTES_WITH_SINK = 1 << 26
_FEWEST_ROWS = 16


class Place(NamedTuple):
    """Where the rows of a record are, if not all environments stepped or some columns lie in lanes."""

    envs: npt.NDArray[np.int64] | None
    """The environments that the record has rows of, in its order; None: all."""
    clock: npt.NDArray[np.int64] | None
    """Row of each environment after this record, shape `(E,)`; None: the record's own number."""
    at: npt.NDArray[np.int64] | None
    """Row in the lanes of each environment's current observation, shape `(E,)`; None: no lanes."""


class Lanes:
    """Large rows: one lane an environment, in which an episode's observations lie behind one another.

    An episode's last observation has a row of its own. Row r of environment e is row `e * capacity + r` of `rows`.
    """

    def __init__(self, items: Sequence[Item], num_envs: int, capacity: int) -> None:
        self.capacity = capacity
        self.first = np.arange(num_envs, dtype=np.int64) * capacity
        self.rows = [np.empty((num_envs * capacity, *item.shape), item.dtype) for item in items]
        # NumPy scatters opaque elements several times faster than rows.
        self._voids = [item.closed(rows) for rows, item in zip(self.rows, items, strict=True)]
        self.is_shared = False
        """Whether somebody may have views of the rows, so that they must not be written again."""

    def write(self, at: npt.NDArray[np.int64], leaves: Sequence[Array]) -> None:
        """Copy a row an environment. Nobody looks at these rows before a record says so."""
        for void, leaf in zip(self._voids, leaves, strict=True):
            void[at] = leaf.ravel().view(void.dtype)

    @classmethod
    def of(cls, layout: Layout, has_sink: bool, most_steps: int | None) -> Lanes | None:
        """Lanes for the large leaves of a layout, if there are any."""
        items = [layout.obs.items[i] for i in layout.large]
        if not items:
            return None
        row_bytes = layout.num_envs * sum(item.nbytes for item in items)
        capacity = (_LANE_BYTES_WITH_SINK if has_sink else _LANE_BYTES) // row_bytes
        if most_steps is not None:
            capacity = min(capacity, 2 * most_steps)
        capacity = max(capacity, _FEWEST_ROWS)
        while True:
            try:
                # An odd capacity: the environments' rows then do not fall on the same lines of the cache.
                return cls(items, layout.num_envs, capacity | 1)
            except MemoryError:
                if capacity <= _FEWEST_ROWS:
                    raise
                capacity //= 8  # the largest that fits would leave too little for everybody else


class Chunk:
    """A stretch of the log; the chunks are numbered in order."""

    __slots__ = (
        "_columns",
        "_steps",
        "act_dtype",
        "act_shape",
        "append",
        "capacity",
        "has_gaps",
        "is_ragged",
        "lanes",
        "layout",
        "number",
        "obs_dtype",
        "obs_shape",
        "records",
        "rew_dtype",
        "rew_shape",
    )

    def __init__(self, layout: Layout, number: int, lanes: Lanes | None, opening: Record) -> None:
        self.number = number
        self.lanes = lanes
        self.records: list[Record] = [opening]
        self.append = self.records.append
        self.is_ragged = opening[PLACE] is not None and opening[PLACE].clock is not None
        """Whether a record has not all environments; set before such a record is appended."""
        self.has_gaps = False
        """Whether a record has no actions; set before such a record is appended."""
        # What `seal` makes of the records, and the number of steps then.
        self._columns: dict[int, Any] = {}
        self._steps: int | None = None
        self.know(layout)

    def know(self, layout: Layout) -> None:
        """Set the layout; later only for actions and rewards that become known."""
        self.layout = layout
        self.obs_dtype, self.obs_shape = (None, ()) if self.is_ragged else layout.plain(layout.obs)
        self.act_dtype, self.act_shape = layout.plain(layout.acts)
        self.rew_dtype, self.rew_shape = layout.rews, (layout.num_envs,)
        steps = _CHUNK_BYTES // max(layout.step_bytes, 1)
        self.capacity = max(_FEWEST_STEPS, min(_MOST_STEPS, steps))
        """Steps after which the next chunk begins, unless the lanes say when they are full."""

    def row(self, record: int, env: int) -> int:
        """Row of an environment's current observation after a record; -1 is the last record."""
        place = self.records[record][PLACE]
        if place is not None and place.clock is not None:
            return int(place.clock[env])
        return record if record >= 0 else self.steps

    def lane_row(self, record: int, env: int) -> int:
        """The same in the lanes; 0 where there are none."""
        place = self.records[record][PLACE]
        return 0 if place is None or place.at is None else int(place.at[env])

    @property
    def steps(self) -> int:
        """Records behind the first one."""
        return len(self.records) - 1 if self._steps is None else self._steps

    def has_steps(self) -> bool:
        """Whether a record is of a step; the others are of resets."""
        return any(record[REWS] is not None for record in self.records)

    def free_steps(self) -> int:
        """Steps that still fit, if in each an episode ends."""
        if self.lanes is None:
            return self.capacity + 1 - len(self.records)
        used = int((self.records[-1][PLACE].at - self.lanes.first).max())
        return (self.lanes.capacity - 1 - used) // 2

    def column(self, leaf: int, begin: int, end: int) -> tuple[Array, int]:
        """A column of small items, each as one opaque element, and the row that it begins with.

        Args:
            leaf: Entry of the records.
            begin: The first row that is needed, of any environment; of actions, rewards and infos that of the
                observation they led to.
            end: The row behind the last one.
        """
        records, columns = self.records, self._columns  # in this order: `seal` sets them in the other one
        first = 0 if LEAVES <= leaf < LEAVES + len(self.layout.obs.items) else 1
        if not columns:
            # Of a chunk that still grows, no more is joined than needed.
            first, stop = (first, None) if self.is_ragged else (max(begin, first), end)
            return self._joined(leaf, self._values(leaf, records[first:stop])), first
        if type(columns[leaf]) is list:
            columns[leaf] = self._joined(leaf, columns[leaf])
        return columns[leaf], first

    def rows(self, column: Array, first: int, env: int, begin: int, end: int) -> Any:
        """Rows `[begin, end)` of an environment in a column that begins with row `first`."""
        num_envs = self.layout.num_envs
        if self.is_ragged:
            return column.take(self.numbers(env, np.arange(begin, end)) - first * num_envs, axis=0)
        return column[(begin - first) * num_envs + env : (end - first) * num_envs : num_envs]

    def numbers(self, envs: Any, rows: Array) -> Array:
        """Where rows of environments are in a column that begins with row 0."""
        if not self.is_ragged:
            return rows * self.layout.num_envs + envs
        records, columns = self.records, self._columns
        order, firsts = columns.get(_ORDER) or self._order(records)
        numbers: Array = order.take(firsts.take(envs) + rows)
        return numbers

    @classmethod
    def of_columns(cls, layout: Layout, columns: dict[int, Array]) -> Chunk:
        """Rows of one environment that were copied out of the log, by entry of the records."""
        chunk = cls(layout, -1, None, (0, frozenset(), None, None, None))
        chunk._columns = columns
        return chunk

    def whole(self, leaf: int) -> Array:
        """A whole column of a sealed chunk."""
        return self.column(leaf, 0, 0)[0]

    @property
    def is_sealed(self) -> bool:
        """Whether the chunk's columns were joined."""
        return bool(self._columns)

    def current(self, leaf: int) -> Array:
        """One leaf of the environments' current observations, shape `(E, *item)`, as a copy."""
        layout = self.layout
        if leaf - LEAVES in layout.large and self.lanes is not None:
            lane: Array = self.lanes.rows[layout.large.index(leaf - LEAVES)]
            rows: Array = lane.take(self.records[-1][PLACE].at, axis=0)
            return rows
        last = self.steps
        column, first = self.column(leaf, last, last + 1)
        rows = np.array([self.row(-1, env) for env in range(layout.num_envs)] if self.is_ragged else last)
        taken = column.take(self.numbers(np.arange(layout.num_envs), rows) - first * layout.num_envs, axis=0)
        current: Array = layout.obs.items[leaf - LEAVES].opened(taken)
        return current

    def seal(self) -> None:
        """Join the records of a complete chunk whose notes were read, which frees many small objects."""
        layout, records = self.layout, self.records
        if self._columns or layout.acts is None or layout.rews is None:
            return
        columns: dict[int, Any] = {}
        for i in range(len(layout.obs.items)):
            if i not in layout.large:
                columns[LEAVES + i] = self._joined(LEAVES + i, self._values(LEAVES + i, records))
        for leaf in (INFOS, REWS, *range(LEAVES + len(layout.obs.items), LEAVES + len(layout.items) - 1)):
            values = self._values(leaf, records[1:])
            # Infos of vector environments are split into dicts when they are asked for.
            is_split = leaf != INFOS or not values or type(values[-1]) is not BatchedInfos
            columns[leaf] = self._joined(leaf, values) if is_split else values
        if self.is_ragged:
            columns[_ORDER] = self._order(records)
        self._columns, self._steps = columns, len(records) - 1
        # Of the first and the last record their places are looked at.
        self.records = [records[0][: PLACE + 1], records[-1][: PLACE + 1]]
        self.append = self.records.append  # the other list goes with its method

    def _values(self, leaf: int, records: Sequence[Record]) -> list[Any]:
        """An entry of some records, with what fills the gaps."""
        if not self.has_gaps:
            return [record[leaf] for record in records]
        has = [len(record) > leaf and record[leaf] is not None for record in records]
        return [
            record[leaf] if is_there else self.layout.item(leaf - LEAVES).filler(self._width(record))
            for record, is_there in zip(records, has, strict=True)
        ]

    def _joined(self, leaf: int, values: Sequence[Any]) -> Array:
        """A column of entries."""
        if leaf == INFOS:
            return np.fromiter(chain.from_iterable(values), object)
        item = self.layout.item(leaf - LEAVES)
        if item.is_bytes:
            return np.frombuffer(b"".join(values), item.void)
        return np.concatenate([item.filler(0), *values])

    def _width(self, record: Record) -> int:
        place = record[PLACE]
        return self.layout.num_envs if place is None or place.envs is None else len(place.envs)

    def _order(self, records: Sequence[Record]) -> tuple[Array, Array]:
        """Of a ragged chunk: the numbers of each environment's rows, behind one another, and where each's begin."""
        everybody = np.arange(self.layout.num_envs)
        places = [record[PLACE] for record in records]
        envs = np.concatenate([everybody if place is None or place.envs is None else place.envs for place in places])
        counts = np.bincount(envs, minlength=len(everybody))
        return np.argsort(envs, kind="stable"), np.cumsum(counts) - counts
