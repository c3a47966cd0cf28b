"""What a trace consists of: every writer's shards, what each holds, and where each trajectory is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vecrollout.errors import DamagedTraceError
from vecrollout.storage.arrow import checksum
from vecrollout.storage.derive import Derivation, derive
from vecrollout.storage.format import (
    MAGIC,
    MANIFEST_NAME,
    SCHEMA_HEAD_BYTES,
    SHARD_NAME,
    index_name,
    schema_end,
    sums_name,
)
from vecrollout.storage.index import ShardIndex
from vecrollout.storage.local import MappedFile
from vecrollout.storage.location import Location
from vecrollout.storage.manifest import Manifest, ShardEntry
from vecrollout.storage.shard import Shard
from vecrollout.storage.sums import read_sums


@dataclass(frozen=True)
class TraceFiles:
    """What is in a location, by name."""

    manifests: dict[str, Manifest]
    """By writer."""
    sizes: Mapping[str, int]
    """Of all files that there are, in bytes."""

    def manifest(self, shard: str) -> Manifest | None:
        """The manifest of a shard's writer."""
        match = SHARD_NAME.fullmatch(shard)
        return self.manifests.get(match["writer"]) if match else None

    def of_shard(self, shard: str) -> list[str]:
        """The files of a shard, those that there are."""
        return [name for name in (shard, index_name(shard), sums_name(shard)) if name in self.sizes]

    @cached_property
    def entries(self) -> Mapping[str, ShardEntry]:
        """What the manifests say about finished shards, by shard."""
        return {entry.file: entry for manifest in self.manifests.values() for entry in manifest.shards}

    @cached_property
    def shards(self) -> tuple[str, ...]:
        """All there are or should be, by writer and number."""
        found = {name for name in self.sizes if SHARD_NAME.fullmatch(name)}
        return tuple(sorted(found | self.entries.keys(), key=_in_order))


def list_files(location: Location, manifests: dict[str, Manifest] | None = None) -> TraceFiles:
    """The files of a trace; other files beside them do not matter.

    Args:
        location: Where they are.
        manifests: The manifests, by writer, where they were read already.

    Raises:
        DamagedTraceError: If there is no such place, or a manifest is damaged.
        TraceVersionError: If a newer version of the package wrote a manifest.
        StoreError: If an object store fails.
    """
    sizes = location.sizes()
    if manifests is None:
        names = [name for name in sorted(sizes) if MANIFEST_NAME.fullmatch(name)]
        read = location.each(lambda name: Manifest.read(location, name), names)
        manifests = {manifest.writer: manifest for manifest in read}
    return TraceFiles(manifests, sizes)


def _in_order(shard: str) -> tuple[str, int]:
    match = SHARD_NAME.fullmatch(shard)
    return (match["writer"], int(match["number"])) if match else (shard, 0)


class Indexes:
    """What every shard of a trace holds, kept up to date.

    Args:
        location: Where the trace is.
    """

    def __init__(self, location: Location) -> None:
        self._location = location
        self.by_shard: dict[str, ShardIndex] = {}
        """Of all shards that hold something, by writer and number."""
        # Of shards that are not finished.
        self._derivations: dict[str, Derivation] = {}

    def refresh(self) -> set[str]:
        """See what was written since the last time.

        Returns:
            Names of the shards whose index is another one than before.

        Raises:
            DamagedTraceError: If a manifest is damaged, or a finished shard is missing, cut or altered.
            TraceVersionError: If a newer version of the package wrote one of the files.
            StoreError: If an object store fails.
        """
        files = list_files(self._location)
        read = self._location.each(lambda name: self._index(name, files), files.shards)
        before = self.by_shard
        self.by_shard = {name: index for name, index in zip(files.shards, read, strict=True) if index is not None}
        self._derivations = {name: each for name, each in self._derivations.items() if name not in files.entries}
        return {name for name in before if self.by_shard.get(name) is not before[name]}

    def _index(self, name: str, files: TraceFiles) -> ShardIndex | None:
        """What a shard holds; None where it was only just begun and holds nothing yet.

        Raises:
            DamagedTraceError: If it is missing, cut or altered.
            TraceVersionError: If a newer version of the package wrote it.
            StoreError: If an object store fails.
        """
        known, entry, size = self.by_shard.get(name), files.entries.get(name), files.sizes.get(name)
        if entry is not None:
            # One that was not finished before has checksums now.
            if known is not None and known.checksums is not None and known.size == entry.bytes:
                return known
            return _listed_index(self._location, entry, size)
        if known is not None and known.size == size:
            return known
        if size is not None and index_name(name) in files.sizes:
            index = cached_index(self._location, name, size, None)
            if index is not None:
                return index
        with self._location.copied([name]) as local:
            path = local.path / name
            # Before the shard, which then has all that they are of.
            sums = read_sums(self._location, name)
            if not sums and is_begun(path):
                return None
            if known is None or known.size > path.stat().st_size or name not in self._derivations:
                self._derivations[name] = Derivation()
            derivation, shard = self._derivations[name], Shard(MappedFile(path))
            index, _ = derivation.advance(shard, sums)
        if derivation.altered is not None:
            raise DamagedTraceError(f"{derivation.altered}; repair_traces keeps what is whole")
        return index


def _listed_index(location: Location, entry: ShardEntry, size: int | None) -> ShardIndex:
    """What a finished shard holds: from its index, or, where that is missing or altered, from the shard itself.

    Args:
        location: Where it is.
        entry: What the manifest says about it.
        size: Of the shard when the files were listed; None where there was none.

    Raises:
        DamagedTraceError: If the shard is missing, cut or altered.
        TraceVersionError: If a newer version of the package wrote it.
        StoreError: If an object store fails.
    """
    shard = entry.file
    if size != entry.bytes:
        # It may have been finished since.
        try:
            size = location.size(shard)
        except DamagedTraceError as error:
            raise DamagedTraceError(f"{shard}: expected a shard of {entry.bytes} bytes, got none: {error}") from error
    if size != entry.bytes:
        raise DamagedTraceError(f"{shard}: expected {entry.bytes} bytes, got {size}; repair_traces keeps what is whole")
    index = cached_index(location, shard, entry.bytes, entry.index_xxh3_64)
    if index is None:
        with location.copied([shard]) as local:
            index, trouble = derive(Shard(local.open(shard)))
        if trouble is not None:
            raise DamagedTraceError(trouble)
        if entry.xxh3_64 not in (None, index.checksum()):
            raise DamagedTraceError(f"{shard}: altered since it was written, and its index, which says where, is lost")
    if (index.rows, len(index)) != (entry.rows, entry.trajectories):
        raise DamagedTraceError(
            f"{shard}: expected {entry.trajectories} trajectories in {entry.rows} rows, got {len(index)} in "
            f"{index.rows}"
        )
    return index


def cached_index(location: Location, shard: str, size: int, xxh3_64: str | None) -> ShardIndex | None:
    """A finished shard's index from its file; None where that is missing, altered, or of another shard.

    Args:
        location: Where the shard is.
        shard: Its name.
        size: Its size in bytes.
        xxh3_64: The checksum of the index's file; None where no manifest tells it.

    Raises:
        TraceVersionError: If a newer version of the package wrote it.
        StoreError: If an object store fails.
    """
    name = index_name(shard)
    try:
        content = location.read(name)
        if xxh3_64 is not None and checksum(content) != xxh3_64:
            return None
        index = ShardIndex.from_bytes(content, name)
    except DamagedTraceError:
        return None
    return index if index.size == size else None


def is_begun(path: Path) -> bool:
    """Whether a shard ends before its schema does, as one does that was begun a moment ago."""
    try:
        with path.open("rb") as file:
            head = file.read(SCHEMA_HEAD_BYTES)
            if len(head) < SCHEMA_HEAD_BYTES:
                return MAGIC.startswith(head[: len(MAGIC)])
            end = schema_end(head)
            return head.startswith(MAGIC) and end > len(head) and path.stat().st_size < end
    except OSError:
        return True


@dataclass(frozen=True)
class Located:
    """Where all trajectories of some shards are, in the order in which they are read."""

    shard: npt.NDArray[np.int64]
    """Number of the shard, shape `(n,)`."""
    place: npt.NDArray[np.int64]
    """Number of the trajectory in its shard, shape `(n,)`."""
    begins: npt.NDArray[np.int64]
    """Which of the trajectories are the first of an episode, shape `(number of episodes,)`."""


def locate(writers: list[str], indexes: list[ShardIndex]) -> Located:
    """All trajectories by writer, and of one writer by the episodes' starts.

    Args:
        writers: The writer of each shard; shards of one writer are in order.
        indexes: What each shard holds.
    """
    if not indexes:
        return Located(*(np.empty(0, np.int64) for _ in range(3)))
    numbers = {writer: number for number, writer in enumerate(sorted(set(writers)))}
    counts = [len(index) for index in indexes]
    shard = np.repeat(np.arange(len(indexes)), counts)
    place = np.concatenate([np.arange(count) for count in counts])
    writer = np.repeat(np.array([numbers[each] for each in writers]), counts)
    episode = np.concatenate([index.trajectories["episode"] for index in indexes])
    start_step = np.concatenate([index.trajectories["start_step"] for index in indexes])
    # Stable: what is equal stays in the order of the files.
    order = np.lexsort((start_step, episode, writer))
    writer, episode = writer[order], episode[order]
    changes = (np.diff(writer, prepend=-1) != 0) | (np.diff(episode, prepend=-1) != 0)
    return Located(shard[order], place[order], np.flatnonzero(changes))
