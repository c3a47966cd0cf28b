"""Where recorded rows lie: chunks of records, and lanes for large rows.

A chunk begins with a record of the environments' current observations. Each further record holds what a step appended:
the actions taken, the rewards paid, the observations that followed, and the infos. Small arrays are kept as bytes, all
environments side by side; appending the record is the one assignment that commits a step. Rows of large observations
lie in `Lanes`.

Row `r` of an environment is its r-th observation in the chunk; action and reward `r` led to it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from vecrollout._typing import Array
from vecrollout.buffer.layout import Layout
from vecrollout.buffer.table import LEAVES, PLACE, REWS, Record, Table
from vecrollout.data.kinds import Item

# The more environments, the larger a chunk, so that not every episode lies in several.
_CHUNK_BYTES, _CHUNK_BYTES_AN_ENV = 1 << 21, 1 << 13
_FEWEST_STEPS, _MOST_STEPS = 32, 1024
# Virtual memory of the lanes of a chunk, which takes up memory as it is written; less where trajectories leave at once.
_LANE_BYTES = 1 << 30
_LANE_BYTES_WITH_SINK = 1 << 26
_FEWEST_ROWS = 16


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
        "_sealed",
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
        self._sealed: Table | None = None
        self._steps: int | None = None
        self.know(layout)

    def know(self, layout: Layout) -> None:
        """Set the layout; later only for actions and rewards that become known."""
        self.layout = layout
        self.obs_dtype, self.obs_shape = (None, ()) if self.is_ragged else layout.plain(layout.obs)
        self.act_dtype, self.act_shape = layout.plain(layout.acts)
        self.rew_dtype, self.rew_shape = layout.rews, (layout.num_envs, *layout.rew_shape)
        steps = max(_CHUNK_BYTES, _CHUNK_BYTES_AN_ENV * layout.num_envs) // max(layout.step_bytes, 1)
        self.capacity = max(_FEWEST_STEPS, min(_MOST_STEPS, steps))
        """Steps after which the next chunk begins, unless the lanes say when they are full."""

    def row(self, record: int, env: int) -> int:
        """Row of an environment's current observation after a record; -1 is the last record."""
        place, number = self.records[record][PLACE], record if record >= 0 else self.steps
        return number if place is None else place.of(env, number)[0]

    def lane_row(self, record: int, env: int) -> int:
        """The same in the lanes; 0 where there are none."""
        place = self.records[record][PLACE]
        return 0 if place is None else place.of(env, record)[1]

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

    @classmethod
    def of_columns(cls, layout: Layout, columns: dict[int, Array]) -> Chunk:
        """Rows of one environment that were copied out of the log, by entry of the records."""
        chunk = cls(layout, -1, None, (0, frozenset(), None, None, None))
        chunk._sealed = Table.of_columns(layout, columns)
        return chunk

    @property
    def is_sealed(self) -> bool:
        """Whether the records were joined to columns."""
        return self._sealed is not None

    def table(self, begin: int = 0, end: int | None = None) -> Table:
        """The records as columns, or the records with rows `[begin, end)` of all environments."""
        records, sealed = self.records, self._sealed  # in this order: `seal` sets them in the other one
        if sealed is not None:
            return sealed
        # Of a chunk that still grows, no more is joined than needed.
        begin, end = (0, None) if self.is_ragged else (begin, end)
        return Table(self.layout, records[begin:end], begin, self.is_ragged, self.has_gaps)

    def seal(self) -> None:
        """Join the records of a complete chunk whose notes were read, which frees many small objects."""
        records = self.records
        if self._sealed is not None or self.layout.acts is None or self.layout.rews is None:
            return
        table = self.table()
        table.join()
        self._steps, self._sealed = len(records) - 1, table
        # Of the first and the last record their places are looked at.
        self.records = [records[0][: PLACE + 1], records[-1][: PLACE + 1]]
        self.append = self.records.append  # the other list goes with its method

    def current(self, leaf: int) -> Array:
        """One leaf of the environments' current observations, shape `(E, *item)`, as a copy."""
        layout, last = self.layout, self.steps
        if leaf - LEAVES in layout.large and self.lanes is not None:
            lane: Array = self.lanes.rows[layout.large.index(leaf - LEAVES)]
            rows: Array = lane.take(self.records[-1][PLACE].at, axis=0)
            return rows
        table = self.table(last, last + 1)
        envs = np.arange(layout.num_envs)
        row_of = np.array([self.row(-1, env) for env in range(layout.num_envs)])
        taken = table.column(leaf).take(table.row_numbers(envs, row_of, np.ones_like(envs)), axis=0)
        current: Array = layout.obs.items[leaf - LEAVES].opened(taken)
        return current
