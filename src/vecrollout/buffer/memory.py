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
        self._voids = [
            rows.reshape(len(rows), -1).view(item.void)[:, 0] for rows, item in zip(self.rows, items, strict=True)
        ]
        self.is_shared = False
        """Whether somebody may have views of the rows, so that they must not be written again."""

    def write(self, at: npt.NDArray[np.int64], leaves: Sequence[Array]) -> None:
        """Copy a row an environment. Nobody looks at these rows before a record says so."""
        for void, leaf in zip(self._voids, leaves, strict=True):
            void[at] = np.ascontiguousarray(leaf).reshape(len(leaf), -1).view(void.dtype)[:, 0]

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
        self._columns: dict[Any, Any] = {}
        self.know(layout)

    def know(self, layout: Layout) -> None:
        """Set the layout; later only for actions and rewards that become known."""
        self.layout = layout
        self.obs_dtype, self.obs_shape = layout.plain(layout.obs)
        self.act_dtype, self.act_shape = layout.plain(layout.acts)
        self.rew_dtype, self.rew_shape = layout.rews, (layout.num_envs, *layout.rew_shape)
        steps = _CHUNK_BYTES // max(layout.step_bytes, 1)
        self.capacity = max(_FEWEST_STEPS, min(_MOST_STEPS, steps))
        """Steps after which the next chunk begins, unless the lanes say when they are full."""

    def row(self, record: int, env: int) -> int:
        """Row of an environment's current observation after a record; -1 is the last record."""
        place = self.records[record][PLACE]
        if place is not None and place.clock is not None:
            return int(place.clock[env])
        return record if record >= 0 else len(self.records) + record

    def lane_row(self, record: int, env: int) -> int:
        """The same in the lanes; 0 where there are none."""
        place = self.records[record][PLACE]
        return 0 if place is None or place.at is None else int(place.at[env])

    @property
    def steps(self) -> int:
        """Records behind the first one."""
        return len(self.records) - 1

    def has_steps(self) -> bool:
        """Whether a record is of a step; the others are of resets."""
        return any(record[REWS] is not None for record in self.records)

    def free_steps(self) -> int:
        """Steps that still fit, if in each an episode ends."""
        if self.lanes is None:
            return self.capacity + 1 - len(self.records)
        used = int((self.records[-1][PLACE].at - self.lanes.first).max())
        return (self.lanes.capacity - 1 - used) // 2

    def numbers(self, envs: Array, rows: Array) -> Array:
        """Number in the flat columns of an environment's row; that of an observation, E more than of its action."""
        if not self.is_ragged:
            return rows * self.layout.num_envs + envs
        table, first = self._columns.get("table") or self._table()
        return table.take(first.take(envs) + rows)

    def take(self, leaf: int, numbers: Array, begin: int, end: int) -> Array:
        """Rows of a column of small items: each as one opaque element, or of shape `item.shape` where it holds objects.

        Args:
            leaf: Entry of the records.
            numbers: Which rows, from `numbers`; of actions, rewards and infos those of the observations they led to.
            begin: The first row of any environment among them.
            end: The row behind the last one.
        """
        records, column = self.records, self._columns.get(leaf)  # in this order: `seal` sets them in the other one
        first = 0 if LEAVES <= leaf < LEAVES + len(self.layout.obs.items) else 1
        if column is None and self._columns:
            column = self._columns[leaf] = self._joined(leaf, records[first:])
        elif column is None:
            # Of a chunk that still grows, no more is joined than needed.
            first, end = (first, len(records)) if self.is_ragged else (max(begin, first), end)
            column = self._joined(leaf, records[first:end])
        return column.take(numbers - first * self.layout.num_envs, axis=0)

    @classmethod
    def of_columns(cls, layout: Layout, columns: dict[int, Array]) -> Chunk:
        """Rows of one environment that were copied out of the log, by entry of the records."""
        chunk = cls(layout, -1, None, (0, frozenset(), None, None, None))
        chunk._columns = columns
        return chunk

    def whole(self, leaf: int) -> Array:
        """A whole column of a sealed chunk."""
        column: Array = self._columns[leaf]
        return column

    def current(self, leaf: int) -> Array:
        """One leaf of the environments' current observations, shape `(E, *item)`, as a copy."""
        layout = self.layout
        if leaf - LEAVES in layout.large and self.lanes is not None:
            lane: Array = self.lanes.rows[layout.large.index(leaf - LEAVES)]
            rows: Array = lane.take(self.records[-1][PLACE].at, axis=0)
            return rows
        envs = np.arange(layout.num_envs)
        last = len(self.records) - 1
        row_of = np.array([self.row(-1, env) for env in range(layout.num_envs)]) if self.is_ragged else envs * 0 + last
        taken = self.take(leaf, self.numbers(envs, row_of), last, last + 1)
        current: Array = layout.obs.items[leaf - LEAVES].opened(taken)
        return current

    def seal(self) -> None:
        """Join the records of a complete chunk, which frees many small objects. Their notes stay."""
        layout = self.layout
        if layout.acts is None or layout.rews is None:
            return
        obs = [LEAVES + i for i in range(len(layout.obs.items)) if i not in layout.large]
        acts = [LEAVES + len(layout.obs.items) + i for i in range(len(layout.acts.items))]
        columns: dict[Any, Any] = {leaf: self._joined(leaf, self.records) for leaf in obs}
        # Infos of vector environments are split into dicts when they are asked for.
        kept = INFOS + 1 if type(self.records[-1][INFOS]) is BatchedInfos else INFOS
        for leaf in (REWS, *acts) if kept > INFOS else (INFOS, REWS, *acts):
            columns[leaf] = self._joined(leaf, self.records[1:])
        if self.is_ragged:
            columns["table"] = self._table()
        self._columns = columns
        self.records = [(*record[:kept], *[None] * (PLACE - kept), record[PLACE]) for record in self.records]
        self.append = self.records.append  # the other list goes with its method

    def _joined(self, leaf: int, records: Sequence[Record]) -> Array:
        """A column of some records."""
        if leaf == INFOS:
            return np.fromiter(chain.from_iterable(record[INFOS] for record in records), object)
        item = self.layout.item(leaf - LEAVES)
        values: list[Any] = [record[leaf] if len(record) > leaf else None for record in records]
        if self.has_gaps:
            values = [
                item.filler(self._width(record)) if value is None else value
                for value, record in zip(values, records, strict=True)
            ]
        if item.dtype.hasobject or not item.nbytes:
            return np.concatenate([item.filler(0), *values])
        return np.frombuffer(b"".join(values), item.void)

    def _width(self, record: Record) -> int:
        place = record[PLACE]
        return self.layout.num_envs if place is None or place.envs is None else len(place.envs)

    def _table(self) -> tuple[Array, Array]:
        """Of a ragged chunk: the numbers of each environment's rows, behind one another, and where each's begin."""
        everybody = np.arange(self.layout.num_envs)
        places = [record[PLACE] for record in self.records]
        envs = np.concatenate([everybody if place is None or place.envs is None else place.envs for place in places])
        counts = np.bincount(envs, minlength=len(everybody))
        return np.argsort(envs, kind="stable"), np.cumsum(counts) - counts
