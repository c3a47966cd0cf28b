"""A trace directory as a sequence of trajectories, which are read when they are asked for."""

from __future__ import annotations

import os
import warnings
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, overload

from vecrollout.data.checks import whole_number
from vecrollout.data.trajectory import Episode, Trajectory
from vecrollout.errors import OptionError
from vecrollout.storage.decoding import DecodedBatch
from vecrollout.storage.format import SHARD_NAME, is_of_trace
from vecrollout.storage.fragments import FIELDS, Stored, arrow_columns
from vecrollout.storage.index import ShardIndex
from vecrollout.storage.location import location_of
from vecrollout.storage.shard import Shard
from vecrollout.storage.trace import Indexes, locate

# What is kept while the next batch is read: several small ones, but no large one, whose memory the next can have.
_CACHED_BATCHES = 4
_CACHED_BYTES = 16 << 20

# Each is a file descriptor, of which a process may have 256 on some systems.
_OPEN_SHARDS = 64


def open_traces(path: str | os.PathLike[str], *, check: bool = True) -> TraceDataset:
    """The trajectories in a directory of traces.

    Only manifests and indexes are read. A trace that is still being written opens too, and so does a directory in which
    none has begun yet; `refresh` shows what has come since. A directory of nothing but other files brings a warning.

    Args:
        path: The directory that `TraceWriter`s wrote to, or the URL of an object store, such as `s3://bucket/prefix`.
        check: Whether to compare each batch with its checksum when it is first read.

    Raises:
        DamagedTraceError: If there is no such directory, a manifest is damaged, or a finished shard is missing or cut.
        TraceVersionError: If a newer version of the package wrote one of the files.
        ArgumentTypeError: If `path` is neither a path nor a URL.
        OptionError: If a URL is none that can be used.
        StoreError: If the object store fails.
        MissingDependencyError: If pyarrow or xxhash is not installed, or what a URL needs besides.
    """
    traces = TraceDataset(path, check=check)
    if not traces:
        traces._warn_of_another_place()
    return traces


class TraceDataset(Sequence[Trajectory]):
    """Trajectories in a directory of traces, by writer and, of one writer, by the time of their start.

    Trajectories are read when they are asked for, and a few batches are kept. Arrays are read-only; of a trace that was
    written without compression they are views of the file, which must stay as it is while they are in use.

    A data set can be pickled, for the workers of a `DataLoader` for example; it is opened anew where it is unpickled.

    Args:
        path: The directory, or the URL of an object store.
        check: Whether to compare each batch with its checksum when it is first read.

    Raises:
        DamagedTraceError: If there is no such directory, a manifest is damaged, or a finished shard is missing or cut.
        TraceVersionError: If a newer version of the package wrote one of the files.
        ArgumentTypeError: If `path` is neither a path nor a URL.
        OptionError: If a URL is none that can be used.
        StoreError: If the object store fails; so all methods that read.
    """

    def __init__(self, path: str | os.PathLike[str], *, check: bool = True) -> None:
        self._location = location_of(path)
        self.path = self._location.path
        """As it was given: a `Path`, or the URL of an object store."""
        self._check = check
        self._indexes = Indexes(self._location)
        self._shards: OrderedDict[str, Shard] = OrderedDict()
        self._batches: OrderedDict[tuple[str, int, tuple[str, ...]], DecodedBatch] = OrderedDict()
        # Of a shard, the columns that some fields are in.
        self._columns: dict[tuple[str, tuple[str, ...]], tuple[str, ...]] = {}
        self.refresh()

    def refresh(self) -> None:
        """See what was written since the data set was opened; what was seen before may move to other indices.

        Raises:
            DamagedTraceError: If a manifest is damaged, or a finished shard is missing or cut.
            TraceVersionError: If a newer version of the package wrote one of the files.
            StoreError: If the object store fails.
        """
        for name in self._indexes.refresh():
            self._forget(name)
        self._names = list(self._indexes.by_shard)
        writers = [match["writer"] if (match := SHARD_NAME.fullmatch(name)) else name for name in self._names]
        self._located = locate(writers, list(self._indexes.by_shard.values()))

    def __len__(self) -> int:
        """Number of trajectories."""
        return len(self._located.shard)

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
            return [self.episode(number) for number in range(*key.indices(len(self)))]
        return self.episode(key)

    def __iter__(self) -> Iterator[Trajectory]:
        """All trajectories, in order."""
        return (self.episode(number) for number in range(len(self)))

    def episode(self, number: int, start: int = 0, stop: int | None = None) -> Trajectory:
        """A trajectory, or some of its steps.

        Args:
            number: Which one; negative ones count from the end.
            start: First step, counted from the trajectory's own first; negative ones count from its end.
            stop: Behind the last step; None: the trajectory's end.

        Returns:
            A `TrajectoryWithRew` where there are rewards. Of some of the steps: a fragment, whose `episode` says which
            part of the episode it is.

        Raises:
            IndexError: If there is no such trajectory.
            ArgumentTypeError: If the number is no integer.
            OptionError: If the range holds no step.
            DamagedTraceError: If it cannot be read, or is not what was written.
        """
        stored = self._stored(number, FIELDS)
        return stored.fragment(*_range(stored, start, stop))

    def columns(self, number: int, names: Sequence[str], start: int = 0, stop: int | None = None) -> dict[str, Any]:
        """Some fields of a trajectory, without reading the others.

        Args:
            number: Which trajectory; negative ones count from the end.
            names: Of `obs`, `acts`, `rews`, `infos`.
            start: First step, counted from the trajectory's own first; negative ones count from its end.
            stop: Behind the last step; None: the trajectory's end.

        Returns:
            The fields by name: `acts`, `rews` and `infos` with a row a step, `obs` with one more.

        Raises:
            IndexError: If there is no such trajectory.
            ArgumentTypeError: If the number is no integer.
            OptionError: If a name is none of these, or the range holds no step.
            DamagedTraceError: If it cannot be read, or is not what was written.
        """
        unknown = set(names) - set(FIELDS)
        if unknown:
            raise OptionError(f"names: expected some of {FIELDS}, got {sorted(unknown)}")
        stored = self._stored(number, tuple(names))
        begin, end = _range(stored, start, stop)
        return {name: stored.field(name, begin, end) for name in names}

    def episodes(self) -> list[range]:
        """Which trajectories belong to which episode: a range for each episode; several are its fragments, in order."""
        begins = self._located.begins.tolist()
        return [range(begin, end) for begin, end in pairwise([*begins, len(self)])]

    def identity(self, number: int) -> Episode:
        """Which episode a trajectory is of, and which part of it, without reading its arrays.

        Args:
            number: Which trajectory; negative ones count from the end.

        Raises:
            IndexError: If there is no such trajectory.
            ArgumentTypeError: If the number is no integer.
            DamagedTraceError: If it cannot be read.
        """
        return self._stored(number, ()).identity()

    def about(self, number: int) -> dict[str, Any]:
        """What is known of the trace that a trajectory is in.

        Args:
            number: Which trajectory; negative ones count from the end.

        Returns:
            `spaces`: observation and action space, None for one of an unknown kind; None where they were not given.
            `env_spec`: the environment as the writer was told, or None. `metadata`: what the user said about the trace.
            `versions`: of the packages that wrote it. `writer` and `compression`, as they are.

        Raises:
            IndexError: If there is no such trajectory.
            ArgumentTypeError: If the number is no integer.
            DamagedTraceError: If it cannot be read.
        """
        return self._stored(number, ()).about()

    def metadata(self, number: int) -> dict[str, Any]:
        """What was said about a trajectory when it was appended.

        Args:
            number: Which one; negative ones count from the end.

        Raises:
            IndexError: If there is no such trajectory.
            ArgumentTypeError: If the number is no integer.
            DamagedTraceError: If it cannot be read.
        """
        return self._stored(number, ()).metadata()

    def __reduce__(self) -> tuple[Any, ...]:
        # Open files cannot be pickled, and batches need not.
        return partial(type(self), check=self._check), (self.path,)

    def __repr__(self) -> str:
        return f"<TraceDataset of {len(self)} trajectories in {str(self._location)!r}>"

    def _stored(self, number: int, fields: tuple[str, ...]) -> Stored:
        number = whole_number("number", number)
        located = self._located
        if not -len(located.shard) <= number < len(located.shard):
            raise IndexError(f"{self._location}: expected the number of one of {len(self)} trajectories, got {number}")
        name = self._names[located.shard.item(number)]
        schema = self._shard(name).schema
        columns = self._columns.get((name, fields))
        if columns is None:
            columns = self._columns[name, fields] = tuple(arrow_columns(schema, fields))
        batch = partial(self._batch, name, columns)
        return Stored(schema, self._indexes.by_shard[name], located.place.item(number), batch, name)

    def _shard(self, name: str) -> Shard:
        if name not in self._shards:
            while len(self._shards) >= _OPEN_SHARDS:
                self._shards.popitem(last=False)
            self._shards[name] = Shard(self._location.open(name))
        self._shards.move_to_end(name)
        return self._shards[name]

    def _batch(self, name: str, columns: tuple[str, ...], number: int) -> DecodedBatch:
        key = (name, number, columns)
        if key not in self._batches:
            index = self._indexes.by_shard[name]
            if not self._check:
                index = ShardIndex(index.size, index.batches, index.trajectories, None)
            held = sum(batch.nbytes for batch in self._batches.values())
            while len(self._batches) >= _CACHED_BATCHES or held > _CACHED_BYTES:
                held -= self._batches.popitem(last=False)[1].nbytes
            batch = self._shard(name).batch(number, index, columns)
            self._batches[key] = DecodedBatch(batch, f"{name}: batch {number}")
        self._batches.move_to_end(key)
        return self._batches[key]

    def _warn_of_another_place(self) -> None:
        # Those that begin with a dot are temporary: the first one of a trace that just begins, for example.
        names = sorted(name for name in self._location.sizes() if not name.startswith("."))
        if names and not any(map(is_of_trace, names)):
            warnings.warn(
                f"{self._location}: expected the files of traces, got {len(names)} others, such as {names[0]!r}; it is "
                "opened as a directory without traces",
                stacklevel=3,
            )

    def _forget(self, name: str) -> None:
        """Let go of a shard that may have grown."""
        self._shards.pop(name, None)
        self._batches = OrderedDict((key, batch) for key, batch in self._batches.items() if key[0] != name)
        self._columns = {key: columns for key, columns in self._columns.items() if key[0] != name}


def _range(stored: Stored, start: int, stop: int | None) -> tuple[int, int]:
    """Which of a trajectory's steps are asked for.

    Raises:
        ArgumentTypeError: If `start` or `stop` is no integer.
        OptionError: If no steps are.
    """
    start = whole_number("start", start)
    stop = None if stop is None else whole_number("stop", stop)
    begin, end, _ = slice(start, stop).indices(stored.steps)
    if begin >= end:
        raise OptionError(f"start, stop: expected a range within {stored.steps} steps, got {start} to {stop}")
    return begin, end
