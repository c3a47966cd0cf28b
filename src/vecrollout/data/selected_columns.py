"""Some trajectories of a batch, in any order, as columns that are gathered when they are first asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from vecrollout.data.choosing import Numbers
from vecrollout.data.columns import COLUMNS, ArrayColumns, Columns
from vecrollout.data.fields import read_only
from vecrollout.data.identities import Identities
from vecrollout.data.kinds import Kind
from vecrollout.data.trajectory import Episode, Trajectory
from vecrollout.data.transitions import Transitions
from vecrollout.data.trees import map_leaves


class SelectedColumns:
    """Trajectories of other columns by number.

    Args:
        columns: The other columns.
        gathered: Gives a column of theirs by name, and gathers it once.
        numbers: Which trajectories.
    """

    def __init__(self, columns: Columns, gathered: Callable[[str], Any], numbers: Numbers) -> None:
        self._columns, self._gathered, self._numbers = columns, gathered, numbers
        self.lengths = columns.lengths[numbers]
        """Steps of each trajectory."""
        self.terminated, self.truncated = columns.terminated[numbers], columns.truncated[numbers]
        self.kind: Kind = columns.kind
        """Structures, dtypes and shapes."""
        self.is_recorded = columns.is_recorded
        """As that of the other columns."""

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def total_steps(self) -> int:
        """Steps of all trajectories together."""
        return int(self.lengths.sum())

    @property
    def has_infos(self) -> bool:
        """Whether infos were kept."""
        return self._columns.has_infos

    @cached_property
    def episodes(self) -> Sequence[Episode]:
        """Identity of each trajectory."""
        episodes = self._columns.episodes
        return [episodes[i] for i in self._numbers.tolist()]

    @property
    def identities(self) -> Identities:
        """Identity of each trajectory, field by field."""
        return Identities.of(self.episodes)

    def column(self, name: str) -> Any:
        """One of `COLUMNS`."""
        column = self._gathered(name)
        if column is None:
            return None
        more = int(name == "obs")
        counts = self._columns.lengths + more
        begins = (np.cumsum(counts) - counts)[self._numbers]
        mine = self.lengths + more
        rows = np.repeat(begins - (np.cumsum(mine) - mine), mine) + np.arange(mine.sum())
        return read_only(map_leaves(lambda leaf: np.asarray(leaf)[rows], column))

    def aligned(self, name: str) -> Any:
        """Nothing is gained."""
        return None

    def trajectory(self, i: int) -> Trajectory:
        """One trajectory."""
        return self._columns.trajectory(self._numbers.item(i))

    def transitions(self) -> Transitions:
        """The steps of all trajectories."""
        obs, acts, rews, infos = (self.column(name) for name in COLUMNS)
        flags = self.lengths, self.terminated, self.truncated
        return ArrayColumns(obs, acts, rews, infos, *flags, self.episodes).transitions()

    def joined(self, others: Sequence[Any]) -> Columns | None:
        """Nothing is gained."""
        return None

    def part(self, begin: int, end: int) -> Columns:
        """Some of the trajectories."""
        return SelectedColumns(self._columns, self._gathered, self._numbers[begin:end])
