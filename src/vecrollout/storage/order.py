"""The order of a data set: which trajectories of which sources, which steps of each, and what is known of them."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from vecrollout.data.batch import TrajectoryBatch
from vecrollout.data.checks import whole_number
from vecrollout.data.choosing import Numbers, chosen
from vecrollout.data.sampling.joined_rows import index_in_parts
from vecrollout.data.sampling.step_index import StepIndex
from vecrollout.data.trajectory import Episode, Trajectory, part_of_episode
from vecrollout.errors import OptionError, StateError
from vecrollout.storage.arrow import pa
from vecrollout.storage.files.objects import shown
from vecrollout.storage.reading.table import joined_tables, with_columns


class Source(Protocol):
    """N trajectories by number, in `[0, N)`: those of a directory, or derived ones."""

    @property
    def lengths(self) -> Numbers:
        """Steps of each trajectory, shape `(N,)`."""

    @property
    def episode_numbers(self) -> Numbers:
        """Number of each trajectory's episode, shape `(N,)`."""

    @property
    def writers(self) -> Numbers:
        """Number of each trajectory's writer, shape `(N,)`."""

    @property
    def nbytes(self) -> npt.NDArray[np.float64]:
        """Bytes on disk of each trajectory, shape `(N,)`."""

    @property
    def table(self) -> Any:
        """The episode table, a `pyarrow.Table` with a row a trajectory."""

    def step_index(self, numbers: Numbers) -> StepIndex:
        """Where each step of some trajectories lies; these are of one kind."""

    def trajectory(self, number: int, start: int, stop: int) -> Trajectory:
        """The steps `[start, stop)` of a trajectory."""

    def trajectories(self, numbers: Numbers) -> Iterator[Trajectory]:
        """Whole trajectories, one after another."""

    def batches(self) -> Iterator[TrajectoryBatch]:
        """All trajectories as columns, in any order."""

    def columns(self, number: int, names: Sequence[str], start: int, stop: int) -> dict[str, Any]:
        """Some fields of the steps `[start, stop)` of a trajectory."""

    def identity(self, number: int) -> Episode:
        """Identity of a trajectory."""

    def metadata(self, number: int) -> dict[str, Any]:
        """The user's metadata of a trajectory."""

    def about(self, number: int) -> dict[str, Any]:
        """What is known of the trace that a trajectory is in."""

    @property
    def paths(self) -> tuple[Path | str, ...]:
        """Directories and URLs of the files."""


@dataclass(frozen=True, eq=False)
class Order:
    """Parts of trajectories of sources; all arrays have shape `(N,)`."""

    sources: tuple[Source, ...]
    source: Numbers
    """Number of each trajectory's source."""
    number: Numbers
    """Number of each trajectory in its source."""
    start: Numbers
    """First step."""
    stop: Numbers
    """The step behind the last."""

    @classmethod
    def of(cls, *sources: Source) -> Order:
        """All of some sources."""
        lengths = [np.empty(0, np.int64), *(source.lengths for source in sources)]
        counts = [len(each) for each in lengths[1:]]
        numbers = [np.empty(0, np.int64), *map(np.arange, counts)]
        stop = np.concatenate(lengths)
        return cls(
            sources,
            np.repeat(np.arange(len(sources)), counts),
            np.concatenate(numbers).astype(np.int64),
            np.zeros_like(stop),
            stop,
        )

    def __len__(self) -> int:
        return len(self.number)

    @property
    def paths(self) -> tuple[Path | str, ...]:
        """Directories and URLs of the files, each once."""
        return tuple(dict.fromkeys(path for source in self.sources for path in source.paths))

    @cached_property
    def lengths(self) -> Numbers:
        """Steps of each trajectory; read-only, as it is handed out."""
        lengths: Numbers = self.stop - self.start
        lengths.flags.writeable = False
        return lengths

    @cached_property
    def source_lengths(self) -> Numbers:
        """Steps that each trajectory has in its source."""
        lengths: Numbers = self._of_sources([source.lengths for source in self.sources])
        return lengths

    @cached_property
    def is_whole(self) -> npt.NDArray[np.bool_]:
        """Whether no steps of each trajectory are left out."""
        is_whole: npt.NDArray[np.bool_] = self.lengths == self.source_lengths
        return is_whole

    @cached_property
    def is_all(self) -> bool:
        """Whether these are all trajectories of all sources, in their order."""
        everything = Order.of(*self.sources)
        return all(np.array_equal(getattr(self, name), getattr(everything, name)) for name in _ARRAYS)

    def numbers(self, key: Any, name: str) -> Numbers:
        """Numbers that a key chooses, shape `()` for a single one."""
        try:
            return chosen(key, len(self), of="trajectories", name=name)
        except IndexError as error:
            raise IndexError(f"{', '.join(map(shown, self.paths))}: {error}") from None

    def at(self, number: int) -> int:
        """A number of a trajectory, counted from the first one."""
        if type(number) is int and 0 <= number < len(self):
            return number
        return int(self.numbers(whole_number("number", number), "number"))

    def range(self, at: int, start: int, stop: int | None) -> tuple[int, int]:
        """Which steps of a trajectory a slice chooses; at least one."""
        steps = self.lengths.item(at)
        start = whole_number("start", start)
        stop = None if stop is None else whole_number("stop", stop)
        begin, end, _ = slice(start, stop).indices(steps)
        if begin >= end:
            raise OptionError(f"start, stop: expected a range within {steps} steps, got {start} to {stop}")
        return begin, end

    def select(self, numbers: Any) -> Order:
        """Some of the trajectories."""
        return Order(self.sources, *(getattr(self, name)[numbers] for name in _ARRAYS))

    def parts(self, numbers: Numbers, begins: Numbers, ends: Numbers) -> Order:
        """The steps `[begin, end)` of some of the trajectories."""
        first = self.start[numbers]
        return Order(self.sources, self.source[numbers], self.number[numbers], first + begins, first + ends)

    def followed_by(self, others: Sequence[Order]) -> Order:
        """These trajectories, and then those of others."""
        orders = [self, *others]
        places: dict[int, int] = {}
        sources: list[Source] = []
        for source in (each for order in orders for each in order.sources):
            if id(source) not in places:
                places[id(source)] = len(sources)
                sources.append(source)
        renumbered = [
            np.array([places[id(each)] for each in order.sources], np.int64)[order.source] for order in orders
        ]
        arrays = [np.concatenate([getattr(order, name) for order in orders]) for name in _ARRAYS[1:]]
        return Order(tuple(sources), np.concatenate(renumbered), *arrays)

    def trajectory(self, at: int, start: int, stop: int) -> Trajectory:
        """Some steps of a trajectory, counted from its first one."""
        first = self.start.item(at)
        return self.sources[self.source.item(at)].trajectory(self.number.item(at), first + start, first + stop)

    def columns(self, at: int, names: Sequence[str], start: int, stop: int) -> dict[str, Any]:
        """Some fields of such steps."""
        source, first = self.sources[self.source.item(at)], self.start.item(at)
        return source.columns(self.number.item(at), names, first + start, first + stop)

    def metadata(self, at: int) -> dict[str, Any]:
        """The user's metadata of a trajectory."""
        return self.sources[self.source.item(at)].metadata(self.number.item(at))

    def about(self, at: int) -> dict[str, Any]:
        """What is known of the trace that a trajectory is in."""
        return self.sources[self.source.item(at)].about(self.number.item(at))

    def identity(self, at: int) -> Episode:
        """Identity of a trajectory's part."""
        episode = self.sources[self.source.item(at)].identity(self.number.item(at))
        return part_of_episode(episode, self.start.item(at), self.stop.item(at) == self.source_lengths.item(at))

    def trajectories(self) -> Iterator[Trajectory]:
        """All trajectories, in order."""
        changes = np.flatnonzero((np.diff(self.source) != 0) | (np.diff(self.is_whole) != 0)) + 1
        for begin, end in pairwise([0, *changes.tolist(), len(self)] if len(self) else []):
            if self.is_whole[begin]:
                yield from self.sources[self.source.item(begin)].trajectories(self.number[begin:end])
            else:
                yield from (self.trajectory(at, 0, self.lengths.item(at)) for at in range(begin, end))

    @cached_property
    def step_index(self) -> StepIndex:
        """Where each step lies."""
        index = index_in_parts(self.source, lambda each, at: self.sources[each].step_index(self.number[at]))
        return index.select(slice(None), self.start, self.stop)

    @cached_property
    def sizes(self) -> npt.NDArray[np.float64]:
        """Bytes on disk of each trajectory."""
        sizes: npt.NDArray[np.float64] = self._of_sources([source.nbytes for source in self.sources])
        return sizes * self.lengths / self.source_lengths

    @cached_property
    def episode_numbers(self) -> Numbers:
        """A number for each trajectory that the fragments of one episode of a writer have in common."""
        return self._distinct([source.episode_numbers for source in self.sources])

    @cached_property
    def abouts(self) -> dict[int, dict[str, Any]]:
        """What is known of the traces that the trajectories are in, by number of the writer."""
        writers, firsts = np.unique(self.writers, return_index=True)
        return {writer: self.about(at) for writer, at in zip(writers.tolist(), firsts.tolist(), strict=True)}

    @cached_property
    def writers(self) -> Numbers:
        """A number for each trajectory that those of one writer have in common."""
        return self._distinct([source.writers for source in self.sources])

    @cached_property
    def table(self) -> Any:
        """The episode table, a `pyarrow.Table` with a row a trajectory."""
        table = joined_tables([source.table for source in self.sources]).take(pa.array(self.positions()))
        (cut,) = np.nonzero(~self.is_whole)
        if not len(cut):
            return table
        reaches_end = self.stop == self.source_lengths
        returns = table.column("return_").to_pylist()
        for at in cut.tolist():
            if returns[at] is not None:
                rews = self.columns(at, ("rews",), 0, self.lengths.item(at))["rews"]
                returns[at] = float(rews.sum(dtype=np.float64))
        endings = zip(table.column("ended_by").to_pylist(), reaches_end.tolist(), strict=True)
        changed = {
            "return_": pa.array(returns, pa.float64()),
            "length": self.lengths,
            "start_step": table.column("start_step").to_numpy() + self.start,
            "terminated": table.column("terminated").to_numpy() & reaches_end,
            "truncated": table.column("truncated").to_numpy() & reaches_end,
            "ended_by": pa.array([ended_by if reaches else None for ended_by, reaches in endings], pa.string()),
        }
        return with_columns(table, changed)

    def episode_keys(self) -> list[Hashable]:
        """One value a trajectory, equal for the fragments of one episode, whichever writers wrote them."""
        identities = [self.table.column(name).to_pylist() for name in ("recording", "id", "env")]
        return [
            number if recording is None or id_ is None else (recording, id_, env)
            for number, recording, id_, env in zip(self.episode_numbers.tolist(), *identities, strict=True)
        ]

    def __reduce__(self) -> tuple[Any, ...]:
        # Without cached values. Numbers have a meaning only while the sources have as many trajectories.
        if self.is_all:
            return Order.of, self.sources
        counts = [len(source.lengths) for source in self.sources]
        return _reopened, (self.sources, counts, *(getattr(self, name) for name in _ARRAYS))

    def positions(self) -> Numbers:
        """Number of each trajectory among those of all sources, one source behind another."""
        counts = np.cumsum([0, *(len(source.lengths) for source in self.sources)])
        positions: Numbers = counts[self.source] + self.number
        return positions

    def _distinct(self, numbers: Sequence[Numbers]) -> Numbers:
        """Numbers of the trajectories, out of those of all trajectories of each source, which become distinct."""
        sizes = [0, *(int(each.max(initial=-1)) + 1 for each in numbers)]
        found: Numbers = self._of_sources(numbers) + np.cumsum(sizes)[self.source]
        return found

    def _of_sources(self, arrays: Sequence[Any]) -> Any:
        """The values of the trajectories, out of arrays with those of all trajectories of each source."""
        return np.concatenate([np.empty(0, np.int64), *arrays])[self.positions()]


def check_counts(expected: list[int], now: list[int]) -> None:
    """Refuse traces that have grown since a view of them was pickled."""
    if now != expected:
        raise StateError(
            f"expected {expected} trajectories, as when the view was pickled, got {now}: the trace has grown since; "
            "load it after its writer was closed"
        )


def _reopened(sources: tuple[Source, ...], counts: list[int], *arrays: Numbers) -> Order:
    """A view that was pickled."""
    check_counts(counts, [len(source.lengths) for source in sources])
    return Order(sources, *arrays)


_ARRAYS = [each.name for each in fields(Order)][1:]
