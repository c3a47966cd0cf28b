"""A trace directory, for reading: every writer's shards, and where each trajectory is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vecrollout.errors import DamagedTraceError
from vecrollout.storage.arrow import checksum
from vecrollout.storage.format import MAGIC, MANIFEST_NAME, SHARD_NAME, index_name
from vecrollout.storage.index import ShardIndex
from vecrollout.storage.manifest import Manifest, ShardEntry
from vecrollout.storage.shard import Shard


@dataclass(frozen=True)
class TraceFiles:
    """What is in a directory, by name."""

    manifests: dict[str, Manifest]
    """By writer."""
    shards: tuple[str, ...]
    """All there are or should be, by writer and number."""
    others: tuple[str, ...]
    """Everything else."""

    def manifest(self, shard: str) -> Manifest | None:
        """The manifest of a shard's writer."""
        match = SHARD_NAME.fullmatch(shard)
        return self.manifests.get(match["writer"]) if match else None

    def entry(self, shard: str) -> ShardEntry | None:
        """What the manifest says about a shard; None where it is not finished or there is no manifest."""
        manifest = self.manifest(shard)
        return next((entry for entry in manifest.shards if entry.file == shard), None) if manifest else None


def list_files(directory: Path, manifests: dict[str, Manifest] | None = None) -> TraceFiles:
    """The files of a trace directory; other files in it do not matter.

    Args:
        directory: The directory.
        manifests: The manifests, by writer, where they were read already.

    Raises:
        DamagedTraceError: If there is no such directory, or a manifest is damaged.
        TraceVersionError: If a newer version of the package wrote a manifest.
    """
    try:
        names = sorted(path.name for path in directory.iterdir())
    except OSError as error:
        raise DamagedTraceError(f"{directory}: expected a directory of traces: {error}") from error
    if manifests is None:
        matches = filter(None, map(MANIFEST_NAME.fullmatch, names))
        manifests = {match["writer"]: Manifest.read(directory / match[0]) for match in matches}
    listed = {entry.file for manifest in manifests.values() for entry in manifest.shards}
    found = {name for name in names if SHARD_NAME.fullmatch(name)}
    return TraceFiles(manifests, tuple(sorted(found | listed, key=_in_order)), tuple(set(names) - found))


def _in_order(shard: str) -> tuple[str, int]:
    match = SHARD_NAME.fullmatch(shard)
    return (match["writer"], int(match["number"])) if match else (shard, 0)


def load_index(directory: Path, shard: str, entry: ShardEntry | None) -> ShardIndex | None:
    """What a shard holds: from its index, or, where that is missing or altered, from the shard itself.

    Args:
        directory: Where it is.
        shard: Its name.
        entry: What the manifest says about it; None where it is not finished.

    Returns:
        The index; None where a shard was only just begun and holds nothing yet.

    Raises:
        DamagedTraceError: If the shard is missing, cut or altered.
        TraceVersionError: If a newer version of the package wrote it.
    """
    path = directory / shard
    if entry is None:
        return None if is_begun(path) else Shard(path).derive()[0]
    try:
        size = path.stat().st_size
    except OSError as error:
        raise DamagedTraceError(f"{shard}: expected a shard of {entry.bytes} bytes, got none: {error}") from error
    if size != entry.bytes:
        raise DamagedTraceError(f"{shard}: expected {entry.bytes} bytes, got {size}; repair_traces keeps what is whole")
    index = cached_index(directory, entry)
    if index is None:
        index, trouble = Shard(path).derive()
        if trouble is not None:
            raise DamagedTraceError(trouble)
    if (index.rows, len(index)) != (entry.rows, entry.trajectories):
        raise DamagedTraceError(
            f"{shard}: expected {entry.trajectories} trajectories in {entry.rows} rows, got {len(index)} in "
            f"{index.rows}"
        )
    return index


def cached_index(directory: Path, entry: ShardEntry) -> ShardIndex | None:
    """A finished shard's index from its file; None where that is missing, altered, or of another shard."""
    name = index_name(entry.file)
    try:
        content = (directory / name).read_bytes()
        if checksum(content) != entry.index_xxh3_64:
            return None
        index = ShardIndex.from_bytes(content, name)
    except (OSError, DamagedTraceError):
        return None
    return index if index.size == entry.bytes else None


def is_begun(path: Path) -> bool:
    """Whether a shard ends before its schema does, as one does that was begun a moment ago."""
    try:
        with path.open("rb") as file:
            head = file.read(len(MAGIC) + 8)
            if len(head) < len(MAGIC) + 8:
                return MAGIC.startswith(head[: len(MAGIC)])
            length = int.from_bytes(head[-4:], "little")
            return head.startswith(MAGIC) and length > 0 and path.stat().st_size < len(head) + length
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
