"""One shard, for writing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from vecrollout.storage.arrow import checksum, ipc, pa
from vecrollout.storage.derive import Derivation
from vecrollout.storage.format import MAGIC, index_name, sums_name, sync_directory, write_whole
from vecrollout.storage.index import ShardIndex
from vecrollout.storage.local import MappedFile
from vecrollout.storage.files.locks import lock
from vecrollout.storage.manifest import ShardEntry
from vecrollout.storage.sums import sums_line

SPLIT_BYTES = 64 << 20
"""A batch of a compressed shard is no larger than this before compression, nor a trajectory in one piece."""


class ShardWriter:
    """Writes batches behind one another into a new file.

    Args:
        path: The file, which must not exist.
        schema: The `pyarrow.Schema`.
        compression: `"zstd"`, `"lz4"` or None.

    Raises:
        OSError: If there is such a file, or none can be made.
    """

    def __init__(self, path: Path, schema: Any, compression: str | None) -> None:
        self.path = path
        self._compressed = compression is not None
        # Kept for fsync; pyarrow opens the file a second time.
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        lock(self._descriptor)
        self._derivation = Derivation()
        self._first_batch = len(MAGIC) + int(schema.serialize().size)
        # Begin and end of what was written and is not known to be durable.
        self._unsynced = [(0, self._first_batch)]
        try:
            self._sink = pa.OSFile(str(path), "wb")
            self._writer = ipc.new_file(self._sink, schema, options=ipc.IpcWriteOptions(compression=compression))
        except BaseException:
            os.close(self._descriptor)
            raise

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return int(self._sink.tell())

    def write(self, batch: Any) -> None:
        """Write a `pyarrow.RecordBatch` of whole trajectories; in several ones where it is a single large one.

        Raises:
            OSError: If that fails; the file then ends with a part of the batch.
        """
        for part in _split(batch) if self._compressed else [batch]:
            # pyarrow writes the schema with the first batch.
            begin = self.size or self._first_batch
            self._writer.write_batch(part)
            self._derivation.add(part, begin, self.size - begin)
            self._unsynced.append((begin, self.size))

    def sync(self) -> None:
        """Make all that was written durable, and note its checksums.

        Raises:
            OSError: If that fails.
        """
        self._make_durable()
        file = MappedFile(self.path)
        lines = [sums_line(begin, end, file.read(begin, end)) for begin, end in self._unsynced]
        # Not made durable themselves: without them all the data is there, and so it is where they cannot be written.
        with suppress(OSError), self.path.with_name(sums_name(self.path.name)).open("ab") as sums:
            sums.write(b"".join(lines))
        self._unsynced = []

    def close(self) -> ShardIndex:
        """Write the footer, and make the file durable.

        Returns:
            Its index.

        Raises:
            OSError: If that fails.
        """
        self._writer.close()
        self._make_durable()
        self.abandon()
        file = MappedFile(self.path)
        return self._derivation.index(file.size).with_checksums(file)

    def _make_durable(self) -> None:
        os.fsync(self._descriptor)
        sync_directory(self.path.parent)

    def abandon(self) -> None:
        """Let go of the file as it is."""
        try:
            self._sink.close()
        finally:
            if self._descriptor >= 0:
                os.close(self._descriptor)
                self._descriptor = -1


def write_index(path: Path, index: ShardIndex) -> ShardEntry:
    """Put a finished shard's index beside it, in the place of the checksums that were noted before.

    Returns:
        What the manifest has to say about the shard.

    Raises:
        OSError: If the index cannot be written.
    """
    content = index.to_bytes()
    write_whole(path.with_name(index_name(path.name)), content)
    path.with_name(sums_name(path.name)).unlink(missing_ok=True)
    return ShardEntry(path.name, index.size, index.rows, len(index), checksum(content), index.checksum())


def _split(batch: Any) -> Iterator[Any]:
    pieces = min(-(-batch.nbytes // SPLIT_BYTES), batch.num_rows // 2)
    if pieces < 2 or batch.column("episode_json").null_count < batch.num_rows - 1:
        yield batch
        return
    begin = 0
    for piece in range(1, pieces + 1):
        # Each gets two rows at least: the last two belong together.
        end = batch.num_rows * piece // pieces
        yield batch.slice(begin, end - begin)
        begin = end
