"""Records of the log, joined to columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from vecrollout._typing import Array
from vecrollout.buffer.layout import Layout

Record: TypeAlias = tuple[Any, ...]
"""What a step appended: the entries below, then the leaves of observations, then those of actions."""

TOTAL, WAITING, NOTES, INFOS, PLACE, REWS, LEAVES = range(7)


@dataclass(slots=True, eq=False)  # a named tuple would take twice as long to make
class Place:
    """Where the rows of a record are, if not all environments stepped or some columns lie in lanes."""

    envs: npt.NDArray[np.int64] | None
    """The environments that the record has rows of, in its order; None: all."""
    clock: npt.NDArray[np.int64] | None
    """Row of each environment after this record, shape `(E,)`; None: the record's own number."""
    at: npt.NDArray[np.int64] | None
    """Row in the lanes of each environment's current observation, shape `(E,)`; None: no lanes."""

    def of(self, env: int, record: int) -> tuple[int, int]:
        """An environment's row after the record of this number, and its row in the lanes; 0 where there are none."""
        row = record if self.clock is None else int(self.clock[env])
        return row, 0 if self.at is None else int(self.at[env])


class Table:
    """Records behind one another as columns of small items: opaque elements, or rows where they hold objects.

    Columns of observations have the rows of all records. Those of actions, rewards and infos begin with the second
    record, which answers to the observations of the first one.

    Args:
        layout: What the records are made of.
        records: The records.
        begin: Number of the first one in its chunk.
        is_ragged: Whether a record may not have all environments; `begin` is 0 then.
        has_gaps: Whether a record may have no actions or rewards.
    """

    def __init__(self, layout: Layout, records: Sequence[Record], begin: int, is_ragged: bool, has_gaps: bool) -> None:
        self.layout = layout
        """What the records are made of."""
        self._num_envs = layout.num_envs
        self._begin = begin
        self._has_gaps = has_gaps
        self._records = records
        self._columns: dict[int, Array] = {}
        # Of vector environments; they are split into dicts when these are asked for.
        self._batched_infos: Array | None = None
        # In which order the rows of each environment come, and where each environment's begin in this order.
        self._order = self._order_of(records) if is_ragged else None

    @classmethod
    def of_columns(cls, layout: Layout, columns: dict[int, Array]) -> Table:
        """Columns of one environment, by entry of the records."""
        table = cls(layout, (), 0, False, False)
        table._columns = columns
        return table

    @property
    def is_ragged(self) -> bool:
        """Whether a record may not have all environments."""
        return self._order is not None

    def column(self, leaf: int) -> Array:
        """A column.

        Args:
            leaf: Entry of the records.
        """
        column = self._columns.get(leaf)
        if column is None:
            column = self._columns[leaf] = self._joined(leaf)
        return column

    def join(self) -> None:
        """Join all columns, and let go of the records, which are many small objects."""
        layout, last = self.layout, self._records[-1]
        for i in range(len(layout.items) - 1):
            if i not in layout.large:
                self.column(LEAVES + i)
        self.column(REWS)
        # The garbage collector looks into lists and tuples again and again, but not into arrays.
        if type(last[INFOS]) is tuple:
            self.column(INFOS)
        else:  # of vector environments, or annotated: split when they are asked for
            steps = len(self._records) - 1
            self._batched_infos = np.fromiter((record[INFOS] for record in self._records[1:]), object, steps)
        self._records = ()

    def rows(self, env: int, row: int, count: int) -> Any:
        """Where the observations of an environment are, from a row of the chunk on."""
        if self._order is not None:
            order, firsts = self._order
            first = firsts[env] + row
            return order[first : first + count]
        first = (row - self._begin) * self._num_envs
        return slice(first + env, first + count * self._num_envs, self._num_envs)

    def steps(self, env: int, row: int, count: int) -> Any:
        """Where its steps are, from the one on that follows the observation in this row."""
        if self._order is not None:
            return self.rows(env, row + 1, count) - self._num_envs
        return self.rows(env, row, count)

    def row_numbers(self, envs: Array, rows: Array, counts: Array) -> Array:
        """Where the observations of environments are: so many of each, from these rows of the chunk on."""
        numbers: Array = np.arange(int(counts.sum()))
        before = np.cumsum(counts) - counts
        if self._order is not None:
            order, firsts = self._order
            numbers += np.repeat(firsts.take(envs) + rows - before, counts)
            return order.take(numbers, mode="clip")
        numbers *= self._num_envs
        numbers += np.repeat((rows - self._begin - before) * self._num_envs + envs, counts)
        return numbers

    def step_numbers(self, envs: Array, rows: Array, counts: Array) -> Array:
        """Where the steps that follow them are; of a row that none follows, anything."""
        if self._order is not None:
            return self.row_numbers(envs, rows + 1, counts) - self._num_envs
        return self.row_numbers(envs, rows, counts)

    def _joined(self, leaf: int) -> Array:
        is_obs = LEAVES <= leaf < LEAVES + len(self.layout.obs.items)
        records = self._records if is_obs else self._records[1:]
        if leaf == INFOS:
            batched = self._batched_infos
            infos: Any = [record[INFOS] for record in records] if batched is None else batched
            # NumPy takes half the time if it is told how many there are.
            return np.fromiter(chain.from_iterable(infos), object, sum(map(len, infos)))
        item = self.layout.item(leaf - LEAVES)
        values: list[Any]
        try:
            values = [record[leaf] for record in records]
        except IndexError:  # records of resets before any action was known
            values = [record[leaf] if len(record) > leaf else None for record in records]
        if self._has_gaps:
            for i in [i for i, value in enumerate(values) if value is None]:
                values[i] = item.filler(self._width(records[i]))
        if item.is_bytes:
            return np.frombuffer(b"".join(values), item.void)
        return np.concatenate([item.filler(0), *values])

    def _width(self, record: Record) -> int:
        place = record[PLACE]
        return self._num_envs if place is None or place.envs is None else len(place.envs)

    def _order_of(self, records: Sequence[Record]) -> tuple[Array, Array]:
        everybody = np.arange(self._num_envs)
        places = [record[PLACE] for record in records]
        envs = np.concatenate([everybody if place is None or place.envs is None else place.envs for place in places])
        counts = np.bincount(envs, minlength=len(everybody))
        return np.argsort(envs, kind="stable"), np.cumsum(counts) - counts
