"""The trajectories of directories by number, as the journals list them; recently read batches are cached."""

from __future__ import annotations

import os
import warnings
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from vecrollout.data.batch import TrajectoryBatch
from vecrollout.data.sampling.step_index import StepIndex
from vecrollout.data.trajectory import Episode, Trajectory, cut
from vecrollout.errors import OptionError
from vecrollout.storage.codec.decode import DecodedBatch
from vecrollout.storage.codec.fragments import field, fragment
from vecrollout.storage.codec.index import NO_TRAJECTORIES
from vecrollout.storage.codec.schema import TraceSchema, read_about
from vecrollout.storage.files.folder import Folder, folder_of
from vecrollout.storage.files.names import is_of_trace
from vecrollout.storage.reading.cache import BatchCache
from vecrollout.storage.reading.catalog import Catalog, Place
from vecrollout.storage.reading.rows import RowsByKind
from vecrollout.storage.reading.shard import Shard
from vecrollout.storage.reading.table import table_of

MEMORY_BYTES = 1 << 30
"""Memory for random access to steps, unless another limit is given."""

_CACHED_BYTES = 64 << 20

_MAPPED_SHARDS = 1024
"""Systems limit how many files a process maps, to some ten thousands."""


Paths: TypeAlias = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
"""A directory or URL, or several."""


class ShardFiles:
    """The shards of some folders; recently opened shards and recently read batches are kept."""

    def __init__(self, folders: Sequence[Folder], *, check: bool) -> None:
        self.folders, self.check = folders, check
        self.catalog = Catalog(folders)
        self.cache = BatchCache(_CACHED_BYTES)
        self._shards: OrderedDict[tuple[str, ...], Shard] = OrderedDict()

    def shard(self, place: Place) -> Shard:
        """The shard of a group."""
        key = str(place.folder), place.shard, place.record.head_sum
        shard = self._shards.get(key)
        if shard is None or shard.file.size < place.record.end:
            while len(self._shards) >= _MAPPED_SHARDS:
                self._shards.popitem(last=False)
            shard = self._shards[key] = Shard(place.folder.open(place.shard), place.record, check=self.check)
        return shard

    def read(self, place: Place, piece: int, fields: tuple[str, ...] | None) -> DecodedBatch:
        """A record batch of a group, with all columns or with those of some fields."""
        shard, at = self.shard(place), (place.group.first + piece, place.group.pieces[piece])
        batch = shard.lazy_batch(*at) if fields is None else shard.batch(*at, shard.schema.arrow_columns(fields))
        return self._decoded(place, piece, batch, shard.schema)

    def read_rewards(self, place: Place, piece: int) -> DecodedBatch:
        """Rewards and identities of a record batch of a group, of which only the head is read where rows are large."""
        shard, at = self.shard(place), (place.group.first + piece, place.group.pieces[piece])
        batch = shard.few_columns(*at, shard.schema.arrow_columns(("rews",)))
        return self._decoded(place, piece, batch, shard.schema)

    def _decoded(self, place: Place, piece: int, batch: Any, schema: TraceSchema) -> DecodedBatch:
        group = place.group
        index = NO_TRAJECTORIES if piece else group.trajectories
        where = f"{place.shard}: batch {group.first + piece}"
        return DecodedBatch(batch, schema, index, where, group.pieces[piece].bytes)


class TraceReader:
    """The trajectories of some directories, as the journals listed them when it was made; numbers stay the same.

    Args:
        files: The shards, and what the journals list now.
        memory_bytes: Limit of the memory for random access to steps.
    """

    def __init__(self, files: ShardFiles, memory_bytes: int) -> None:
        self._files, self._memory_bytes = files, memory_bytes
        self._located, self._groups = files.catalog.located, files.catalog.groups
        # The group that was read last. Most users go on with its next trajectory.
        self._last: tuple[int, DecodedBatch | None] = (-1, None)

    @classmethod
    def opened(cls, path: Paths, check: bool, memory_bytes: int) -> TraceReader:
        """A reader of a directory or a URL, or of several."""
        files = ShardFiles(_folders_of(path), check=check)
        files.catalog.refresh()
        return cls(files, memory_bytes)

    def refreshed(self) -> TraceReader:
        """A reader of the trajectories that are there now, with the same cache."""
        self._files.catalog.refresh()
        return TraceReader(self._files, self._memory_bytes)

    def __len__(self) -> int:
        """Number of trajectories."""
        return len(self._located.group)

    @property
    def paths(self) -> tuple[Path | str, ...]:
        """The directories and URLs."""
        return tuple(folder.path for folder in self._files.folders)

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Steps of each trajectory, shape `(N,)`."""
        return self._located.steps

    @property
    def episode_numbers(self) -> npt.NDArray[np.int64]:
        """Number of each trajectory's episode, shape `(N,)`; fragments of one episode follow one another."""
        return self._located.episode

    @cached_property
    def writers(self) -> npt.NDArray[np.int64]:
        """Number of each trajectory's writer, shape `(N,)`."""
        names = [(str(each.folder), each.journal.name) for each in self._groups]
        numbers = {name: i for i, name in enumerate(dict.fromkeys(names))}
        of_groups = np.array([numbers[name] for name in names], np.int64)
        writers: npt.NDArray[np.int64] = of_groups[self._located.group]
        return writers

    @cached_property
    def nbytes(self) -> npt.NDArray[np.float64]:
        """Bytes on disk of each trajectory, shape `(N,)`: its share of its record batches."""
        sizes = [sum(piece.bytes for piece in each.group.pieces) for each in self._groups]
        rows = [int(each.group.trajectories.rows.sum()) for each in self._groups]
        a_row = np.array(sizes, np.float64) / np.array(rows, np.float64)
        return a_row[self._located.group] * (self._located.steps + 1)

    def trajectory(self, number: int, start: int, stop: int) -> Trajectory:
        """The steps `[start, stop)` of a trajectory."""
        located = self._located
        group = located.group.item(number)
        last, batch = self._last
        if group != last or batch is None:
            batch = self._batch(group, 0)
            self._last = group, batch
        if len(self._groups[group].group.pieces) == 1:
            return cut(batch.trajectory(located.place.item(number)), start, stop)
        return fragment(batch, 0, self._pieces(group, number, start, stop), start, stop)

    def trajectories(self, numbers: npt.NDArray[np.int64]) -> Iterator[Trajectory]:
        """Whole trajectories, one after another."""
        groups = self._located.group[numbers]
        # Runs of trajectories that were written at once.
        changes = np.flatnonzero(np.diff(groups)) + 1
        for begin, end in pairwise([0, *changes.tolist(), len(numbers)] if len(numbers) else []):
            group = groups.item(begin)
            if len(self._groups[group].group.pieces) > 1:
                yield from (self.trajectory(each, 0, self.lengths.item(each)) for each in numbers[begin:end].tolist())
            else:
                yield from map(self._batch(group, 0).trajectory, self._located.place[numbers[begin:end]].tolist())

    def batches(self) -> Iterator[TrajectoryBatch]:
        """All trajectories as they were written, in the order of the files."""
        for number, place in enumerate(self._groups):
            if len(place.group.pieces) > 1:
                (at,) = (self._located.group == number).nonzero()[0].tolist()
                whole = self.trajectory(at, 0, self.lengths.item(at))
                # Not `from_trajectories`, which would copy it.
                yield TrajectoryBatch.from_arrays(
                    *(whole.obs, whole.acts, getattr(whole, "rews", None), whole.infos),
                    lengths=[len(whole)],
                    terminated=[whole.terminated],
                    truncated=[whole.truncated],
                    episodes=[whole.episode],
                )
            else:
                yield TrajectoryBatch(self._files.read(place, 0, None))

    def columns(self, number: int, names: Sequence[str], start: int, stop: int) -> dict[str, Any]:
        """Some of `FIELDS` of the steps `[start, stop)` of a trajectory, without decompressing the others."""
        group, wanted = self._located.group.item(number), tuple(sorted(set(names)))
        first = self._batch(group, 0, wanted)
        pieces = self._pieces(group, number, start, stop, wanted)
        return {name: field(first, self._located.place.item(number), pieces, name) for name in names}

    def step_index(self, numbers: npt.NDArray[np.int64]) -> StepIndex:
        """Where each step of some trajectories lies; these are of one kind."""
        return self._rows.index(numbers)

    @cached_property
    def _rows(self) -> RowsByKind:
        return RowsByKind(self._groups, self._located, self._files.shard, self.columns, self._memory_bytes)

    @cached_property
    def table(self) -> Any:
        """The episode table."""
        return table_of(self._groups, self._located, self._files.read_rewards)

    def identity(self, number: int) -> Episode:
        """Which episode a trajectory is of, and which part of it, without reading its arrays."""
        batch = self._batch(self._located.group.item(number), 0, ())
        return batch.entries.entry(self._located.place.item(number))[5]

    def metadata(self, number: int) -> dict[str, Any]:
        """What was said about a trajectory when it was appended."""
        batch = self._batch(self._located.group.item(number), 0, ())
        return batch.entries.metadata(self._located.place.item(number))

    def about(self, number: int) -> dict[str, Any]:
        """What is known of the trace that a trajectory is in."""
        journal = self._groups[self._located.group.item(number)].journal
        return read_about({"writer": journal.writer, **(journal.about or {})}, journal.name)

    def warn_of_another_place(self) -> None:
        """Warn if the directory holds nothing but other files."""
        # Names that begin with a dot are temporary: the first file of a trace that just begins, for example.
        found = [name for folder in self._files.folders for name in folder.sizes()]
        names = sorted(name for name in found if not name.startswith("."))
        if names and not any(map(is_of_trace, names)):
            warnings.warn(
                f"{self}: expected the files of traces, got {len(names)} others, such as {names[0]!r}; it is "
                "opened as a directory without traces",
                stacklevel=3,
            )

    def __str__(self) -> str:
        return ", ".join(map(str, self._files.folders))

    def __reduce__(self) -> tuple[Any, ...]:
        # Open files cannot be pickled, and batches need not be.
        return TraceReader.opened, (list(self.paths), self._files.check, self._memory_bytes)

    def _batch(self, group: int, piece: int, fields: tuple[str, ...] | None = None) -> DecodedBatch:
        """A record batch of a group, with all columns or with those of some fields."""
        place, cache = self._groups[group], self._files.cache
        # A checksum names a batch, also after a repair has moved it.
        key = str(place.folder), place.shard, place.group.pieces[piece]
        whole = cache.known((key, None)) if fields is not None else None
        return whole or cache.get((key, fields), lambda: self._files.read(place, piece, fields))

    def _pieces(
        self, group: int, number: int, start: int, stop: int, fields: tuple[str, ...] | None = None
    ) -> list[tuple[DecodedBatch, int, int]]:
        """Batches, and the rows of each, that have a trajectory's rows from `start` up to and including `stop`."""
        row = self._located.row.item(number)
        begin, end = row + start, row + stop + 1
        pieces = []
        for piece, rows in enumerate(each.rows for each in self._groups[group].group.pieces):
            if begin < rows and end > 0:
                pieces.append((self._batch(group, piece, fields), max(0, begin), min(end, rows)))
            begin, end = begin - rows, end - rows
        return pieces


def _folders_of(path: Paths) -> list[Folder]:
    """The folders that are named."""
    if isinstance(path, str | bytes | os.PathLike) or not isinstance(path, Sequence):
        return [folder_of(path)]
    folders = [folder_of(each) for each in path]
    if not folders or len(set(map(str, folders))) < len(folders):
        raise OptionError(f"path: expected one or more directories, each once, got {list(path)}")
    return folders
