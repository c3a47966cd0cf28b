"""Trajectories derived from others when they are read: with other rewards, or joined from fragments."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vecrollout.data.batch import TrajectoryBatch
from vecrollout.data.choosing import Numbers
from vecrollout.data.curating import Rewards, relabeled
from vecrollout.data.grouping import grouped
from vecrollout.data.sampling.joined_rows import SequencedRows
from vecrollout.data.sampling.step_index import StepIndex
from vecrollout.data.stitching import stitch
from vecrollout.data.trajectory import Episode, Trajectory, cut
from vecrollout.storage.arrow import pa
from vecrollout.storage.order import Order, check_counts
from vecrollout.storage.reading.table import with_columns


class Derived:
    """Trajectories of an order, joined from fragments or with other rewards.

    Args:
        base: Which trajectories these are made of.
        fragments: Numbers of the fragments, those of one trajectory behind another in the episode's order.
        counts: Number of each trajectory's fragments.
        rewards: Makes the rewards of trajectories, each of which is one fragment; None: they stay.
    """

    def __init__(self, base: Order, fragments: Numbers, counts: Numbers, rewards: Rewards | None = None) -> None:
        # Other numbers where these were pickled, and the trace has grown since.
        check_counts([len(fragments)], [len(base)])
        self._base, self._fragments, self._counts, self._rewards = base, fragments, counts, rewards
        # Where in the fragments each trajectory's begin.
        self._begins = np.cumsum(counts) - counts
        self.paths: tuple[Path | str, ...] = base.paths
        """Directories and URLs of the files."""

    @classmethod
    def relabeled(cls, base: Order, rewards: Rewards) -> Derived:
        """All trajectories, with other rewards."""
        return cls(base, np.arange(len(base)), np.ones(len(base), np.int64), rewards)

    @classmethod
    def joined(cls, base: Order) -> Derived:
        """All trajectories, joined wherever one goes on where another of its episode stopped."""
        starts, lengths, ended_by = (
            base.table.column(name).to_pylist() for name in ("start_step", "length", "ended_by")
        )
        of_episode: dict[Any, list[int]] = {}
        for number, key in enumerate(base.episode_keys()):
            of_episode.setdefault(key, []).append(number)
        fragments: list[int] = []
        counts: list[int] = []
        for numbers in of_episode.values():
            numbers.sort(key=starts.__getitem__)
            fragments += numbers
            counts.append(1)
            for left, right in pairwise(numbers):
                if ended_by[left] is None and starts[left] + lengths[left] == starts[right]:
                    counts[-1] += 1
                else:
                    counts.append(1)
        return cls(base, np.array(fragments, np.int64), np.array(counts, np.int64))

    @cached_property
    def lengths(self) -> Numbers:
        """Steps of each trajectory."""
        lengths: Numbers = self._summed(self._base.lengths[self._fragments])
        return lengths

    @property
    def episode_numbers(self) -> Numbers:
        """Number of each trajectory's episode."""
        numbers: Numbers = self._base.episode_numbers[self._fragments[self._begins]]
        return numbers

    @property
    def writers(self) -> Numbers:
        """Number of the writer of each trajectory's first fragment."""
        numbers: Numbers = self._base.writers[self._fragments[self._begins]]
        return numbers

    @cached_property
    def nbytes(self) -> npt.NDArray[np.float64]:
        """Bytes on disk of each trajectory."""
        nbytes: npt.NDArray[np.float64] = self._summed(self._base.sizes[self._fragments])
        return nbytes

    def trajectory(self, number: int, start: int, stop: int) -> Trajectory:
        """Some steps of a trajectory."""
        whole: Trajectory = next(self.trajectories(np.array([number])))
        return cut(whole, start, stop)

    def trajectories(self, numbers: Numbers) -> Iterator[Any]:
        """Whole trajectories."""
        fragments = self._base.select(self._fragments_of(numbers)).trajectories()
        if self._rewards is not None:
            return (relabeled(each, self._rewards) for each in fragments)
        return (stitch(islice(fragments, count)) for count in self._counts[numbers].tolist())

    def batches(self) -> Iterator[TrajectoryBatch]:
        """All trajectories as columns."""
        return grouped(self.trajectories(np.arange(len(self._counts))))

    def columns(self, number: int, names: Sequence[str], start: int, stop: int) -> dict[str, Any]:
        """Some fields."""
        if self._counts[number] == 1 and (self._rewards is None or "rews" not in names):
            return self._base.columns(self._run(number)[0], names, start, stop)
        part = self.trajectory(number, start, stop)
        return {name: getattr(part, name, None) for name in names}

    def step_index(self, numbers: Numbers) -> StepIndex:
        """Where each step of some trajectories lies."""
        counts = self._counts[numbers]
        last = np.cumsum(counts) - 1
        first = last - counts + 1
        index = self._base.select(self._fragments_of(numbers)).step_index
        is_last = np.zeros(len(index.lengths), bool)
        is_last[last] = True
        rews = None
        if self._rewards is not None:
            rews = np.concatenate([each.rews for each in self.trajectories(numbers)] or [np.empty(0)])
        rows = SequencedRows(index, is_last, rews)
        flags = index.terminated[last], index.truncated[last]
        starts = rows.obs_rows[first], rows.step_rows[first], index.start_steps[first]
        return StepIndex(rows, self.lengths[numbers], *flags, *starts)

    @cached_property
    def table(self) -> Any:
        """The episode table."""
        table = self._base.table.take(pa.array(self._fragments))
        last = table.take(pa.array(self._begins + self._counts - 1))
        changed = {name: last.column(name).combine_chunks() for name in ("terminated", "truncated", "ended_by")}
        changed |= {"length": self.lengths, "return_": self._returns(table)}
        return with_columns(table.take(pa.array(self._begins)), changed)

    def identity(self, number: int) -> Episode:
        """Identity of a trajectory."""
        run = self._run(number)
        first, last = self._base.identity(run[0]), self._base.identity(run[-1])
        return first if len(run) == 1 else replace(first, ended_by=last.ended_by)

    def metadata(self, number: int) -> dict[str, Any]:
        """The user's metadata of a trajectory's fragments; of equal keys, the first fragment's counts."""
        found: dict[str, Any] = {}
        for each in self._run(number):
            found = {**self._base.metadata(each), **found}
        return found

    def about(self, number: int) -> dict[str, Any]:
        """What is known of the trace that a trajectory begins in."""
        return self._base.about(self._run(number)[0])

    def __reduce__(self) -> tuple[Any, ...]:
        if self._rewards is not None:
            return Derived.relabeled, (self._base, self._rewards)
        return Derived, (self._base, self._fragments, self._counts)

    def _run(self, number: int) -> list[int]:
        """Numbers of a trajectory's fragments."""
        begin = self._begins.item(number)
        run: list[int] = self._fragments[begin : begin + self._counts.item(number)].tolist()
        return run

    def _fragments_of(self, numbers: Numbers) -> Numbers:
        """Numbers of the fragments of some trajectories."""
        counts = self._counts[numbers]
        shifts = self._begins[numbers] - (np.cumsum(counts) - counts)
        fragments: Numbers = self._fragments[np.repeat(shifts, counts) + np.arange(int(counts.sum()))]
        return fragments

    def _returns(self, fragments: Any) -> Any:
        """The returns of all trajectories; `fragments` is the table of their fragments."""
        if self._rewards is not None:
            rewards = (each.rews for each in self.trajectories(np.arange(len(self._counts))))
            returns = [float(rews.sum(dtype=np.float64)) if rews.ndim == 1 else None for rews in rewards]
            return pa.array(returns, pa.float64())
        column = fragments.column("return_")
        has_none = self._summed(column.is_null().to_numpy().astype(int)) > 0
        return pa.array(self._summed(column.to_numpy()), mask=has_none)

    def _summed(self, values: Any) -> Any:
        """Sums over the fragments of each trajectory."""
        return np.add.reduceat(values, self._begins) if len(values) else values
