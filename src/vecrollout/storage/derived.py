"""Trajectories derived from others when they are read: with other rewards, or joined from fragments."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vecrollout.data.batch import TrajectoryBatch
from vecrollout.data.choosing import Numbers
from vecrollout.data.grouping import grouped
from vecrollout.data.relabeling import Rewards, relabeled
from vecrollout.data.sampling.joined_rows import SequencedRows
from vecrollout.data.sampling.step_index import StepIndex
from vecrollout.data.stitching import stitch
from vecrollout.data.trajectory import Episode, Trajectory, TrajectoryWithRew, cut
from vecrollout.storage.arrow import pa
from vecrollout.storage.episode_table import episode_keys, with_columns
from vecrollout.storage.stored import StoredTrajectories


class Relabeled:
    """The trajectories of a data set with other rewards.

    Args:
        base: The data set.
        rewards: Makes the rewards of a trajectory.
    """

    def __init__(self, base: StoredTrajectories, rewards: Rewards) -> None:
        self._base, self._rewards = base, rewards
        self.paths: tuple[Path | str, ...] = base.order.paths
        """Directories and URLs of the files."""

    @property
    def lengths(self) -> Numbers:
        """Steps of each trajectory."""
        return self._base.order.lengths

    @property
    def episode_numbers(self) -> Numbers:
        """Number of each trajectory's episode."""
        return self._base.order.episode_numbers

    @property
    def writers(self) -> Numbers:
        """Number of each trajectory's writer."""
        return self._base.order.writers

    @property
    def nbytes(self) -> npt.NDArray[np.float64]:
        """Bytes on disk of each trajectory."""
        return self._base.order.sizes

    def trajectory(self, number: int, start: int, stop: int) -> Trajectory:
        """Some steps of a trajectory."""
        whole = self._base.order.trajectory(number, 0, self.lengths.item(number))
        return cut(self._relabeled(whole), start, stop)

    def trajectories(self, numbers: Numbers) -> Iterator[TrajectoryWithRew]:
        """Whole trajectories."""
        return map(self._relabeled, self._base.order.select(numbers).trajectories())

    def batches(self) -> Iterator[TrajectoryBatch]:
        """All trajectories as columns."""
        return grouped(self.trajectories(np.arange(len(self.lengths))))

    def columns(self, number: int, names: Sequence[str], start: int, stop: int) -> dict[str, Any]:
        """Some fields."""
        if "rews" in names:
            part = self.trajectory(number, start, stop)
            return {name: getattr(part, name) for name in names}
        return self._base.order.columns(number, names, start, stop)

    def step_index(self, numbers: Numbers) -> StepIndex:
        """Where each step of some trajectories lies."""
        index = self._base.order.select(numbers).step_index
        rews = [np.empty(0), *(each.rews for each in self.trajectories(numbers))]
        rows = SequencedRows(index, np.ones(len(numbers), bool), np.concatenate(rews if len(rews) == 1 else rews[1:]))
        return replace(index, rows=rows, obs_rows=rows.obs_rows, step_rows=rows.step_rows)

    @cached_property
    def table(self) -> Any:
        """The episode table."""
        rewards = (each.rews for each in self.trajectories(np.arange(len(self.lengths))))
        returns = [float(rews.sum(dtype=np.float64)) if rews.ndim == 1 else None for rews in rewards]
        return with_columns(self._base.table, {"return_": pa.array(returns, pa.float64())})

    def identity(self, number: int) -> Episode:
        """Identity of a trajectory."""
        return self._base.order.identity(number)

    def metadata(self, number: int) -> dict[str, Any]:
        """The user's metadata of a trajectory."""
        return self._base.order.metadata(number)

    def about(self, number: int) -> dict[str, Any]:
        """What is known of the trace that a trajectory is in."""
        return self._base.order.about(number)

    def __reduce__(self) -> tuple[Any, ...]:
        return Relabeled, (self._base, self._rewards)

    def _relabeled(self, trajectory: Trajectory) -> TrajectoryWithRew:
        return relabeled(trajectory, self._rewards)


class Joined:
    """Trajectories of a data set joined where they follow one another in an episode.

    Args:
        base: The data set.
        runs: Numbers of the fragments of each trajectory, in the episode's order.
    """

    def __init__(self, base: StoredTrajectories, runs: Sequence[Sequence[int]]) -> None:
        self._base, self._runs = base, runs
        self.paths: tuple[Path | str, ...] = base.order.paths
        """Directories and URLs of the files."""
        self._fragments = np.array([number for run in runs for number in run], np.int64)
        self._counts = np.array(list(map(len, runs)), np.int64)
        # Where in the fragments each trajectory's begin.
        self._begins = np.cumsum(self._counts) - self._counts

    @classmethod
    def of(cls, base: StoredTrajectories) -> Joined:
        """All trajectories, joined wherever one goes on where another of its episode stopped."""
        starts, lengths, ended_by = (
            base.table.column(name).to_pylist() for name in ("start_step", "length", "ended_by")
        )
        of_episode: dict[Any, list[int]] = {}
        for number, key in enumerate(episode_keys(base.order, base.table)):
            of_episode.setdefault(key, []).append(number)
        runs: list[list[int]] = []
        for numbers in of_episode.values():
            numbers.sort(key=starts.__getitem__)
            runs.append(numbers[:1])
            for left, right in pairwise(numbers):
                if ended_by[left] is None and starts[left] + lengths[left] == starts[right]:
                    runs[-1].append(right)
                else:
                    runs.append([right])
        return cls(base, runs)

    @cached_property
    def lengths(self) -> Numbers:
        """Steps of each trajectory."""
        lengths: Numbers = self._summed(self._base.order.lengths)
        return lengths

    @property
    def episode_numbers(self) -> Numbers:
        """Number of each trajectory's episode."""
        numbers: Numbers = self._base.order.episode_numbers[self._fragments[self._begins]]
        return numbers

    @property
    def writers(self) -> Numbers:
        """Number of the writer of each trajectory's first fragment."""
        numbers: Numbers = self._base.order.writers[self._fragments[self._begins]]
        return numbers

    @cached_property
    def nbytes(self) -> npt.NDArray[np.float64]:
        """Bytes on disk of each trajectory."""
        nbytes: npt.NDArray[np.float64] = self._summed(self._base.order.sizes)
        return nbytes

    def trajectory(self, number: int, start: int, stop: int) -> Trajectory:
        """Some steps of a trajectory."""
        order = self._base.order
        whole = stitch([order.trajectory(each, 0, order.lengths.item(each)) for each in self._runs[number]])
        return cut(whole, start, stop)

    def trajectories(self, numbers: Numbers) -> Iterator[Trajectory]:
        """Whole trajectories."""
        return (self.trajectory(each, 0, self.lengths.item(each)) for each in numbers.tolist())

    def batches(self) -> Iterator[TrajectoryBatch]:
        """All trajectories as columns."""
        return grouped(self.trajectories(np.arange(len(self._runs))))

    def columns(self, number: int, names: Sequence[str], start: int, stop: int) -> dict[str, Any]:
        """Some fields."""
        if len(self._runs[number]) == 1:
            return self._base.order.columns(self._runs[number][0], names, start, stop)
        part = self.trajectory(number, start, stop)
        return {name: getattr(part, name, None) for name in names}

    def step_index(self, numbers: Numbers) -> StepIndex:
        """Where each step of some trajectories lies."""
        counts = self._counts[numbers]
        last = np.cumsum(counts) - 1
        first = last - counts + 1
        fragments = self._fragments[np.repeat(self._begins[numbers] - first, counts) + np.arange(int(counts.sum()))]
        index = self._base.order.select(fragments).step_index
        is_last = np.zeros(len(fragments), bool)
        is_last[last] = True
        rows = SequencedRows(index, is_last, None)
        flags = index.terminated[last], index.truncated[last]
        starts = rows.obs_rows[first], rows.step_rows[first], index.start_steps[first]
        return StepIndex(rows, self.lengths[numbers], *flags, *starts)

    @cached_property
    def table(self) -> Any:
        """The episode table."""
        table = self._base.table.take(pa.array(self._fragments))
        returns = self._summed_here(table.column("return_").to_numpy())
        has_none = self._summed_here(table.column("return_").is_null().to_numpy().astype(int)) > 0
        last = table.take(pa.array(self._begins + self._counts - 1))
        changed = {name: last.column(name).combine_chunks() for name in ("terminated", "truncated", "ended_by")}
        changed |= {"length": self.lengths, "return_": pa.array(returns, mask=has_none)}
        return with_columns(table.take(pa.array(self._begins)), changed)

    def identity(self, number: int) -> Episode:
        """Identity of a trajectory."""
        run = self._runs[number]
        first, last = self._base.order.identity(run[0]), self._base.order.identity(run[-1])
        return first if len(run) == 1 else replace(first, ended_by=last.ended_by)

    def metadata(self, number: int) -> dict[str, Any]:
        """The user's metadata of a trajectory's fragments; of equal keys, the first fragment's counts."""
        found: dict[str, Any] = {}
        for each in self._runs[number]:
            found = {**self._base.order.metadata(each), **found}
        return found

    def about(self, number: int) -> dict[str, Any]:
        """What is known of the trace that a trajectory begins in."""
        return self._base.order.about(self._runs[number][0])

    def __reduce__(self) -> tuple[Any, ...]:
        return Joined, (self._base, self._runs)

    def _summed(self, values: Any) -> Any:
        """Sums over the fragments of each trajectory, of values of all of the data set's."""
        return self._summed_here(values[self._fragments])

    def _summed_here(self, values: Any) -> Any:
        return np.add.reduceat(values, self._begins) if len(values) else values
