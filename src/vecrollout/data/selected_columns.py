"""Some trajectories of a batch, or parts of them, in any order, as columns that are gathered when asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from vecrollout.data.choosing import Numbers
from vecrollout.data.columns import COLUMNS, ArrayColumns, Columns, PlainColumns
from vecrollout.data.fields import read_only
from vecrollout.data.kinds import Kind
from vecrollout.data.trajectory import Episode, Trajectory, cut, part_of_episode
from vecrollout.data.transitions import Transitions
from vecrollout.data.trees import map_leaves


class SelectedColumns(PlainColumns):
    """Parts of the trajectories of other columns, by number.

    Args:
        columns: The other columns.
        gathered: Gives a column of theirs by name, and gathers it once.
        numbers: Which trajectories.
        begins: First step of each.
        ends: The step behind the last of each.
    """

    def __init__(
        self, columns: Columns, gathered: Callable[[str], Any], numbers: Numbers, begins: Numbers, ends: Numbers
    ) -> None:
        self._columns, self._gathered = columns, gathered
        self._numbers, self._begins, self._ends = numbers, begins, ends
        self.lengths = ends - begins
        """Steps of each trajectory."""
        self._reaches_end = ends == columns.lengths[numbers]
        self.terminated, self.truncated = (
            flags[numbers] & self._reaches_end for flags in (columns.terminated, columns.truncated)
        )
        self.kind: Kind = columns.kind
        """Structures, dtypes and shapes."""
        self.is_recorded = columns.is_recorded
        """As that of the other columns."""

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def has_infos(self) -> bool:
        """Whether infos were kept."""
        return self._columns.has_infos

    @cached_property
    def episodes(self) -> Sequence[Episode]:
        """Identity of each trajectory."""
        episodes = self._columns.episodes
        parts = zip(self._numbers.tolist(), self._begins.tolist(), self._reaches_end.tolist(), strict=True)
        return [part_of_episode(episodes[i], begin, reaches_end) for i, begin, reaches_end in parts]

    def column(self, name: str) -> Any:
        """One of `COLUMNS`."""
        column = self._gathered(name)
        if column is None:
            return None
        more = int(name == "obs")
        counts = self._columns.lengths + more
        firsts = (np.cumsum(counts) - counts)[self._numbers] + self._begins
        mine = self.lengths + more
        rows = np.repeat(firsts - (np.cumsum(mine) - mine), mine) + np.arange(mine.sum())
        return read_only(map_leaves(lambda leaf: np.asarray(leaf)[rows], column))

    def trajectory(self, i: int) -> Trajectory:
        """One trajectory."""
        return cut(self._columns.trajectory(self._numbers.item(i)), self._begins.item(i), self._ends.item(i))

    def transitions(self) -> Transitions:
        """The steps of all trajectories."""
        obs, acts, rews, infos = (self.column(name) for name in COLUMNS)
        flags = self.lengths, self.terminated, self.truncated
        return ArrayColumns(obs, acts, rews, infos, *flags, self.episodes).transitions()

    def part(self, begin: int, end: int) -> Columns:
        """Some of the trajectories."""
        chosen = self._numbers[begin:end], self._begins[begin:end], self._ends[begin:end]
        return SelectedColumns(self._columns, self._gathered, *chosen)

    def parts(self, numbers: Numbers, begins: Numbers, ends: Numbers) -> SelectedColumns:
        """Parts of these parts, which are gathered from the other columns at once."""
        first = self._begins[numbers]
        return SelectedColumns(self._columns, self._gathered, self._numbers[numbers], first + begins, first + ends)
