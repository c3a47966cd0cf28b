"""A trace directory as a sequence of trajectories, which are read when they are asked for."""

from __future__ import annotations

import os
import warnings
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, overload

import numpy as np

from vecrollout.data.batch import TrajectoryBatch
from vecrollout.data.checks import whole_number
from vecrollout.data.sampling import methods
from vecrollout.data.sampling.step_index import StepIndex
from vecrollout.data.trajectory import Episode, Trajectory, cut
from vecrollout.errors import OptionError
from vecrollout.storage.codec.decode import DecodedBatch
from vecrollout.storage.codec.fragments import field, fragment
from vecrollout.storage.codec.index import NO_TRAJECTORIES
from vecrollout.storage.codec.schema import FIELDS, read_about
from vecrollout.storage.files.folder import folder_of
from vecrollout.storage.files.names import is_of_trace
from vecrollout.storage.reading.cache import BatchCache
from vecrollout.storage.reading.catalog import Catalog, Place
from vecrollout.storage.reading.rows import TraceRows
from vecrollout.storage.reading.shard import Shard

_SHORT_RUN = 4

_CACHED_BYTES = 64 << 20

MEMORY_BYTES = 1 << 30
"""Memory for random access to steps, unless another limit is given."""

_MAPPED_SHARDS = 1024
"""Systems limit how many files a process maps, to some ten thousands."""


def open_traces(path: str | os.PathLike[str], *, check: bool = True, memory_bytes: int = MEMORY_BYTES) -> TraceDataset:
    """Open the trajectories in a directory of traces.

    Only the writers' journals are read. A trace that is still being written opens too, and so does a directory in which
    no trace has begun; `refresh` shows what has been written since. A shard whose journal is missing is left out with a
    warning, and so is a directory that holds nothing but other files.

    Args:
        path: The directory that `TraceWriter`s wrote to, or the URL of an object store, such as `s3://bucket/prefix`.
        check: Whether to compare each batch with its checksum when it is first read.
        memory_bytes: Limit of what `sample_transitions` and the like keep in memory.

    Returns:
        The data set.

    Raises:
        DamagedTraceError: If there is no such directory, a journal is damaged, or a shard is missing or cut off.
        TraceVersionError: If a newer version of the package wrote one of the files.
        ArgumentTypeError: If `path` is neither a path nor a URL.
        OptionError: If the URL cannot be used.
        StoreError: If the object store fails.
        MissingDependencyError: If pyarrow, xxhash or a package that the URL needs is not installed.
    """
    traces = TraceDataset(path, check=check, memory_bytes=memory_bytes)
    if not traces:
        traces._warn_of_another_place()
    return traces


class TraceDataset(Sequence[Trajectory]):
    """Trajectories in a directory of traces, ordered by writer and then by the start of their episode.

    Trajectories are read when they are asked for, and the batches that were used last are kept, up to 64 MiB. Arrays
    are read-only. Arrays of a trace without compression are views of the file, which must not change while they are in
    use.

    A data set can be pickled, for the workers of a `DataLoader` for example. It is opened anew where it is unpickled.

    Args:
        path: The directory, or the URL of an object store.
        check: Whether to compare each batch with its checksum when it is first read.
        memory_bytes: Limit of what `sample_transitions` and the like keep in memory.

    Raises:
        DamagedTraceError: If there is no such directory, a journal is damaged, or a shard is missing or cut off.
        TraceVersionError: If a newer version of the package wrote one of the files.
        ArgumentTypeError: If `path` is neither a path nor a URL.
        OptionError: If the URL cannot be used.
        StoreError: If the object store fails. All methods that read raise it, too.
    """

    def __init__(self, path: str | os.PathLike[str], *, check: bool = True, memory_bytes: int = MEMORY_BYTES) -> None:
        self._folder = folder_of(path)
        self.path = self._folder.path
        """As it was given: a `Path`, or the URL of an object store."""
        self._check = check
        self._memory_bytes = whole_number("memory_bytes", memory_bytes, 0)
        self._catalog = Catalog(self._folder)
        self._cache = BatchCache(_CACHED_BYTES)
        self._shards: OrderedDict[tuple[str, str], Shard] = OrderedDict()
        self.refresh()

    def refresh(self) -> None:
        """See what was written since the data set was opened. Trajectories may move to other indices.

        Raises:
            DamagedTraceError: If a journal is damaged, or a shard is missing or cut off.
            TraceVersionError: If a newer version of the package wrote one of the files.
            StoreError: If the object store fails.
        """
        self._catalog.refresh()
        self._located, self._groups = self._catalog.located, self._catalog.groups
        # The group that a trajectory was read of last: most readers go on with the next one in it.
        self._last: tuple[int, DecodedBatch | None] = (-1, None)
        self._step_index: StepIndex | None = None

    def __len__(self) -> int:
        """Number of trajectories."""
        return len(self._located.group)

    @overload
    def __getitem__(self, key: int) -> Trajectory: ...

    @overload
    def __getitem__(self, key: slice) -> list[Trajectory]: ...

    def __getitem__(self, key: int | slice) -> Trajectory | list[Trajectory]:
        """One trajectory, or a list of several.

        Raises:
            IndexError: If there is no such trajectory.
            ArgumentTypeError: If the number is no integer.
            DamagedTraceError: If it cannot be read, or is not what was written.
        """
        if isinstance(key, slice):
            return [self.trajectory(number) for number in range(*key.indices(len(self)))]
        return self.trajectory(key)

    def __iter__(self) -> Iterator[Trajectory]:
        """All trajectories, in order."""
        located, groups = self._located, self._groups
        # Runs of trajectories that were written at once.
        changes = np.flatnonzero(np.diff(located.group)) + 1
        for begin, end in pairwise([0, *changes.tolist(), len(self)]):
            group = located.group.item(begin) if begin < end else 0
            if end - begin < _SHORT_RUN or groups[group].group.pieces > 1:
                yield from map(self.trajectory, range(begin, end))
            else:
                yield from map(self._batch(group, 0).trajectory, located.place[begin:end].tolist())

    def batches(self) -> Iterator[TrajectoryBatch]:
        """All trajectories as columns, in the order of the files. This is the quickest way to read everything.

        Returns:
            Batches as they were written. Their columns are read-only.

        Raises:
            DamagedTraceError: If one cannot be read, or is not what was written.
        """
        return map(self._trajectory_batch, range(len(self._groups)))

    def trajectory(self, number: int, start: int = 0, stop: int | None = None) -> Trajectory:
        """A trajectory, or some of its steps.

        Args:
            number: Which trajectory; negative ones count from the end.
            start: First step, counted from the trajectory's own first; negative ones count from its end.
            stop: End of the steps; None: the trajectory's end.

        Returns:
            A `TrajectoryWithRew` where there are rewards. Some of the steps are a fragment, whose `episode` says which
            part of the episode it is.

        Raises:
            IndexError: If there is no such trajectory.
            ArgumentTypeError: If a number is no integer.
            OptionError: If the range has no steps.
            DamagedTraceError: If it cannot be read, or is not what was written.
        """
        at = self._at(number)
        located = self._located
        group = located.group.item(at)
        last, batch = self._last
        if group != last or batch is None:
            batch = self._batch(group, 0)
            self._last = group, batch
        if self._groups[group].group.pieces == 1:
            whole = batch.trajectory(located.place.item(at))
            if start == 0 and stop is None:
                return whole
            return cut(whole, *_range(len(whole), start, stop))
        begin, end = _range(located.steps.item(at), start, stop)
        return fragment(batch, 0, self._pieces(group, at, begin, end), begin, end)

    episode = trajectory
    """Another name of `trajectory`."""

    def columns(self, number: int, names: Sequence[str], start: int = 0, stop: int | None = None) -> dict[str, Any]:
        """Some fields of a trajectory, without decompressing the others.

        Args:
            number: Which trajectory; negative ones count from the end.
            names: Of `obs`, `acts`, `rews`, `infos`.
            start: First step, counted from the trajectory's own first; negative ones count from its end.
            stop: End of the steps; None: the trajectory's end.

        Returns:
            The fields by name: `acts`, `rews` and `infos` with a row a step, `obs` with one more.

        Raises:
            IndexError: If there is no such trajectory.
            ArgumentTypeError: If a number is no integer.
            OptionError: If a name is none of these, or the range has no steps.
            DamagedTraceError: If it cannot be read, or is not what was written.
        """
        unknown = set(names) - set(FIELDS)
        if unknown:
            raise OptionError(f"names: expected some of {FIELDS}, got {sorted(unknown)}")
        at = self._at(number)
        group, wanted = self._located.group.item(at), tuple(sorted(set(names)))
        begin, end = _range(self._located.steps.item(at), start, stop)
        first = self._batch(group, 0, wanted)
        pieces = self._pieces(group, at, begin, end, wanted)
        return {name: field(first, self._located.place.item(at), pieces, name) for name in names}

    @property
    def step_index(self) -> StepIndex:
        """Where each step lies, for the methods that draw steps and windows."""
        if self._step_index is None:
            located = self._located
            rows = TraceRows(self._catalog, self._shard, self.columns, self._memory_bytes)
            first, ended = rows.first_rows, located.ended
            flags = ended & 1 > 0, ended & 2 > 0
            self._step_index = StepIndex(rows, located.steps, *flags, first, first, located.start_step)
        return self._step_index

    sample_transitions = methods.sample_transitions
    sample_windows = methods.sample_windows
    steps = methods.steps
    windows = methods.windows
    n_step = methods.n_step
    returns_to_go = methods.returns_to_go
    normalization = methods.normalization

    def episodes(self) -> list[range]:
        """Which trajectories belong to which episode.

        Returns:
            A range of numbers for each episode. Several numbers are the episode's fragments, in order.
        """
        begins = self._located.begins.tolist()
        return [range(begin, end) for begin, end in pairwise([*begins, len(self)])]

    def identity(self, number: int) -> Episode:
        """Which episode a trajectory is of, and which part of it, without reading its arrays.

        Args:
            number: Which trajectory; negative ones count from the end.

        Returns:
            What `traces[number].episode` is.

        Raises:
            IndexError: If there is no such trajectory.
            ArgumentTypeError: If the number is no integer.
            DamagedTraceError: If it cannot be read.
        """
        at = self._at(number)
        return self._batch(self._located.group.item(at), 0, ()).entries.entry(self._located.place.item(at))[5]

    def metadata(self, number: int) -> dict[str, Any]:
        """What was said about a trajectory when it was appended.

        Args:
            number: Which trajectory; negative ones count from the end.

        Returns:
            The metadata, by name.

        Raises:
            IndexError: If there is no such trajectory.
            ArgumentTypeError: If the number is no integer.
            DamagedTraceError: If it cannot be read.
        """
        at = self._at(number)
        return self._batch(self._located.group.item(at), 0, ()).entries.metadata(self._located.place.item(at))

    def about(self, number: int) -> dict[str, Any]:
        """What is known of the trace that a trajectory is in.

        Args:
            number: Which trajectory; negative ones count from the end.

        Returns:
            `spaces`: observation and action space, None for one of an unknown kind; None where they were not given.
            `env_spec`: the environment as the writer was told, or None. `metadata`: the user's metadata.
            `versions`: of the packages that wrote it. `writer` and `compression`.

        Raises:
            IndexError: If there is no such trajectory.
            ArgumentTypeError: If the number is no integer.
            DamagedTraceError: If it cannot be read.
        """
        journal = self._groups[self._located.group.item(self._at(number))].journal
        return read_about({"writer": journal.writer, **(journal.about or {})}, journal.name)

    def __reduce__(self) -> tuple[Any, ...]:
        # Open files cannot be pickled, and batches need not.
        return partial(type(self), check=self._check, memory_bytes=self._memory_bytes), (self.path,)

    def __repr__(self) -> str:
        return f"<TraceDataset of {len(self)} trajectories in {str(self._folder)!r}>"

    def _at(self, number: int) -> int:
        number = whole_number("number", number)
        count = len(self._located.group)
        if not -count <= number < count:
            raise IndexError(f"{self._folder}: expected the number of one of {count} trajectories, got {number}")
        return number % count

    def _trajectory_batch(self, group: int) -> TrajectoryBatch:
        place = self._groups[group]
        if place.group.pieces > 1:
            (at,) = (self._located.group == group).nonzero()[0].tolist()
            return TrajectoryBatch.from_trajectories([self.trajectory(at)])
        return TrajectoryBatch(self._read(place, 0, None))

    def _batch(self, group: int, piece: int, fields: tuple[str, ...] | None = None) -> DecodedBatch:
        """A record batch of a group, with all columns or with those of some fields."""
        place = self._groups[group]
        # A checksum names a batch, also after a repair has moved it.
        key = place.shard, place.record.pieces[place.group.first + piece]
        whole = self._cache.known((key, None)) if fields is not None else None
        return whole or self._cache.get((key, fields), lambda: self._read(place, piece, fields))

    def _pieces(
        self, group: int, at: int, start: int, stop: int, fields: tuple[str, ...] | None = None
    ) -> list[tuple[DecodedBatch, int, int]]:
        """Batches, and the rows of each, that have a trajectory's rows from `start` up to and including `stop`."""
        place = self._groups[group]
        row = self._located.row.item(at)
        begin, end = row + start, row + stop + 1
        pieces = []
        for number in range(place.group.pieces):
            rows = place.record.pieces[place.group.first + number].rows
            if begin < rows and end > 0:
                pieces.append((self._batch(group, number, fields), max(0, begin), min(end, rows)))
            begin, end = begin - rows, end - rows
        return pieces

    def _read(self, place: Place, piece: int, fields: tuple[str, ...] | None) -> DecodedBatch:
        shard = self._shard(place)
        number = place.group.first + piece
        columns = None if fields is None else shard.schema.arrow_columns(fields)
        batch = shard.batch(number, place.record.pieces[number], columns, place.record.end)
        index = NO_TRAJECTORIES if piece else place.group.trajectories
        return DecodedBatch(batch, shard.schema, index, f"{shard.name}: batch {number}")

    def _shard(self, place: Place) -> Shard:
        key = place.shard, place.record.head_sum
        shard = self._shards.get(key)
        if shard is None or shard.file.size < place.record.end:
            while len(self._shards) >= _MAPPED_SHARDS:
                self._shards.popitem(last=False)
            shard = self._shards[key] = Shard(self._folder.open(place.shard), place.record, check=self._check)
        return shard

    def _warn_of_another_place(self) -> None:
        # Names that begin with a dot are temporary: the first file of a trace that just begins, for example.
        names = sorted(name for name in self._folder.sizes() if not name.startswith("."))
        if names and not any(map(is_of_trace, names)):
            warnings.warn(
                f"{self._folder}: expected the files of traces, got {len(names)} others, such as {names[0]!r}; it is "
                "opened as a directory without traces",
                stacklevel=3,
            )


def _range(steps: int, start: int, stop: int | None) -> tuple[int, int]:
    """Which of a trajectory's steps are asked for."""
    start = whole_number("start", start)
    stop = None if stop is None else whole_number("stop", stop)
    begin, end, _ = slice(start, stop).indices(steps)
    if begin >= end:
        raise OptionError(f"start, stop: expected a range within {steps} steps, got {start} to {stop}")
    return begin, end
