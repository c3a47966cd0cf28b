"""All trajectories that the writers' journals list, in the order in which they are read."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from vecrollout.errors import DamagedTraceError
from vecrollout.storage.arrow import checksum
from vecrollout.storage.codec.index import BatchIndex
from vecrollout.storage.files.folder import Folder
from vecrollout.storage.files.journal import Group, Journal, ShardRecord
from vecrollout.storage.files.names import journal_of, shard_name, shard_of


@dataclass(frozen=True)
class Located:
    """Where each trajectory is, in the order in which they are read; all arrays have shape `(n,)`."""

    group: npt.NDArray[np.int64]
    """Number in `Catalog.groups`."""
    place: npt.NDArray[np.int64]
    """Number of the trajectory in its group."""
    row: npt.NDArray[np.int64]
    """First row, counted from the group's."""
    steps: npt.NDArray[np.int64]
    start_step: npt.NDArray[np.int64]
    """Index in the episode of the first step."""
    ended: npt.NDArray[np.int64]
    """How the last step ended the episode: 1 terminated, 2 truncated, 3 both, 0 neither."""
    episode: npt.NDArray[np.int64]
    """Number of the episode, counted from 0; fragments of one episode follow one another."""


@dataclass(frozen=True)
class Place:
    """Trajectories that were written at once."""

    folder: Folder
    shard: str
    """Name of the shard."""
    journal: Journal
    record: ShardRecord
    group: Group


class Catalog:
    """The trajectories that can be read in some folders."""

    def __init__(self, folders: Sequence[Folder]) -> None:
        self._journals = [_Journals(folder) for folder in folders]
        self.groups: list[Place] = []
        self.located = _located([], [])

    def refresh(self) -> None:
        """Read the lines that were added to the journals."""
        writers = [places for each in self._journals for places in each.refresh()]
        self.groups = [place for places in writers for place in places]
        numbers = [number for number, places in enumerate(writers) for _ in places]
        self.located = _located([each.group.trajectories for each in self.groups], numbers)


class _Journals:
    """The journals of a folder, and the groups of its shards that can be read."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self.journals: dict[str, Journal] = {}
        """By writer."""
        # Of each unfinished shard, how many groups have the bytes that the journal tells.
        self._verified: dict[str, int] = {}
        self._warned: set[str] = set()

    def refresh(self) -> list[list[Place]]:
        """The readable groups of each writer."""
        sizes = self._folder.sizes()
        self._read_journals(sorted(writer for name in sizes if (writer := journal_of(name))))
        self._warn_of_lost_journals(sizes)
        found = []
        for writer, journal in sorted(self.journals.items()):
            places = []
            for shard in journal.shards.values():
                name = shard_name(writer, shard.number)
                readable = shard.groups[: self._readable(name, shard, sizes.get(name))]
                places += [Place(self._folder, name, journal, shard, group) for group in readable]
            found.append(places)
        return found

    def _read_journals(self, writers: list[str]) -> None:
        contents = self._folder.each(lambda writer: self._folder.read(f"{writer}.journal"), writers)
        before, self.journals = self.journals, {}
        for writer, content in zip(writers, contents, strict=True):
            journal = before.get(writer) or Journal(f"{writer}.journal", writer)
            if not journal.feed(content):  # repaired since
                journal = Journal(journal.name, writer)
                journal.feed(content)
                self._verified = {name: n for name, n in self._verified.items() if not name.startswith(writer)}
            journal.check()
            self.journals[writer] = journal

    def _warn_of_lost_journals(self, sizes: dict[str, int]) -> None:
        """Warn of shards without a journal, which a writer makes before its first shard."""
        for name in sorted(sizes):
            found = shard_of(name)
            if found is None or name in self._warned:
                continue
            journal = self.journals.get(found[0])
            if journal is None and self._size_now(f"{found[0]}.journal"):
                continue  # made since the files were listed
            if journal is None or journal.is_empty:
                self._warned.add(name)
                warnings.warn(
                    f"{name} is not read: the journal of its writer is missing; repair_traces writes it anew from what "
                    "is sound of the shard",
                    stacklevel=6,
                )

    def _readable(self, name: str, shard: ShardRecord, size: int | None) -> int:
        """How many groups of a shard can be read; raises where flushed bytes are missing."""
        needed = shard.size if shard.size is not None else shard.flushed
        if size is None or (size < needed if shard.size is None else size != needed):
            # It may have grown since the files were listed.
            size = self._size_now(name)
        if size is None and needed:
            raise DamagedTraceError(f"{name}: expected a shard of {needed} bytes, got none; repair_traces forgets it")
        if size is not None and (size < needed or shard.size not in (None, size)):
            raise DamagedTraceError(f"{name}: expected {needed} bytes, got {size}; repair_traces keeps what is whole")
        if shard.size is not None:
            self._verified.pop(name, None)
            return len(shard.groups)
        return self._unflushed(name, shard)

    def _unflushed(self, name: str, shard: ShardRecord) -> int:
        """Number of sound groups of an unfinished shard. A group whose bytes differ did not reach the disk.

        Without a flush, a power cut can keep a line of the journal and lose the bytes that it describes.
        """
        count = self._verified.get(name, 0)
        while count < len(shard.groups) and shard.groups[count].pieces[-1].end <= shard.flushed:
            count += 1
        if count < len(shard.groups):
            try:
                file = self._folder.open(name)
            except DamagedTraceError:
                return count
            for group in shard.groups[count:]:
                if any(checksum(file.read(piece.offset, piece.end)) != piece.sum for piece in group.pieces):
                    break
                count += 1
        self._verified[name] = count
        return count

    def _size_now(self, name: str) -> int | None:
        try:
            return self._folder.size(name)
        except DamagedTraceError:
            return None


def _located(groups: list[BatchIndex], writers: list[int]) -> Located:
    """All trajectories, sorted by writer and then by the start of the episode."""
    counts = [len(group) for group in groups]

    def joined(name: str) -> npt.NDArray[Any]:
        return np.concatenate([np.empty(0, np.int64), *(getattr(group, name) for group in groups)])

    group = np.repeat(np.arange(len(groups)), counts)
    place = np.concatenate([np.empty(0, np.int64), *map(np.arange, counts)]).astype(np.int64)
    writer = np.repeat(np.array(writers, np.int64), counts)
    episode = joined("episode")
    # Stable: equal ones stay in the order of the files.
    order = np.lexsort((joined("start_step"), episode, writer))
    writer, episode = writer[order], episode[order]
    changes = np.ones(len(order), bool)
    changes[1:] = (np.diff(writer) != 0) | (np.diff(episode) != 0)
    row, rows, start_step, ended = (joined(name)[order] for name in ("row", "rows", "start_step", "ended"))
    return Located(group[order], place[order], row, rows - 1, start_step, ended, np.cumsum(changes) - 1)
