"""A writer's files: its shards, and the journal that lists what was written."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from vecrollout.storage.arrow import checksum, ipc, pa
from vecrollout.storage.codec.encode import split
from vecrollout.storage.codec.index import BatchIndex
from vecrollout.storage.codec.message import head_buffers, head_bytes
from vecrollout.storage.codec.schema import LARGE_ROW_BYTES, LAST_OF_HEAD
from vecrollout.storage.files.folder import Folder, folder_of
from vecrollout.storage.files.journal import (
    Piece,
    batch_line,
    closed_line,
    finished_line,
    flushed_line,
    header_line,
    shard_line,
    with_shards,
)
from vecrollout.storage.files.locks import lock
from vecrollout.storage.files.names import journal_name, shard_name, shard_of
from vecrollout.storage.files.whole import sync_directory, write_whole

SPLIT_BYTES = 64 << 20
"""The most bytes of a record batch of a compressed shard, before compression. A larger trajectory is split."""

_MAGIC_BYTES = 8

_BUFFER_BYTES = 1 << 20


class Shards:
    """Writes record batches into a writer's shards, and lists them in its journal."""

    def __init__(self, folder: Folder, about: Mapping[str, Any], compression: str | None, max_shard_bytes: int) -> None:
        self._folder = folder
        self._writer = str(about["writer"])
        self._about = about
        self._compression = compression
        self._max_shard_bytes = max_shard_bytes
        # Where files are written: the directory itself, or a temporary one. From there files are put into a store.
        self._spool: Path | None = None
        self._journal: int | None = None
        self._shard: ShardFile | None = None
        self.begun = 0
        """Number of shards that were begun."""

    @property
    def is_open(self) -> bool:
        """Whether there is a shard that is not finished."""
        return self._shard is not None

    @property
    def left_in(self) -> Path | None:
        """The local folder with files that are not in the object store; None: there are none."""
        return None if self._folder.appends or self._spool is None or not self._spool.exists() else self._spool

    def begin(self, arrow_schema: Any) -> None:
        """Begin the next shard."""
        spool = self._begin_journal()
        path = spool / shard_name(self._writer, self.begun)
        self._shard = ShardFile(path, self.begun, arrow_schema, self._compression)
        self.begun += 1

    def write(self, record_batch: Any, index: BatchIndex) -> None:
        """Write trajectories."""
        shard = self._shard
        if shard is None:
            raise ValueError("expected a shard that is begun")
        self._note(shard.write(split(record_batch, SPLIT_BYTES) if self._compression else [record_batch], index))

    def finish_full(self) -> None:
        """Finish the last shard if it is full."""
        if self._shard is not None and self._shard.size >= self._max_shard_bytes:
            self.finish()

    def save(self) -> None:
        """Make what was written durable on this machine."""
        lines = b"" if self._shard is None else self._shard.sync()
        if lines:
            self._note(lines)
            self._sync_journal()

    def sync(self) -> None:
        """Make what was written durable in its final place. In an object store, this finishes the shard."""
        if self._folder.appends:
            self.save()
        else:
            self.finish()

    def finish(self) -> None:
        """Finish the last shard."""
        if self._shard is None or self._spool is None:
            return
        path, lines = self._shard.path, self._shard.close()
        self._shard = None
        self._note(lines)
        self._sync_journal()
        if not self._folder.appends:
            self._folder.put(path)
            self._folder.put(self._spool / journal_name(self._writer))
            path.unlink()

    def close(self) -> None:
        """Finish the last shard and the journal."""
        self.finish()
        if self._journal is None or self._spool is None:
            return
        self._note(closed_line())
        self._sync_journal()
        self._folder.put(self._spool / journal_name(self._writer))
        self._close_journal()
        self._folder.remove_spool(self._spool)

    def keep_in_spool(self) -> Path | None:
        """From now on write into the local folder. Its journal lists what did not get into the object store."""
        if self._folder.appends:
            return None
        self.abandon()
        spool = self._spool
        if spool is None or not spool.exists():
            spool = self._spool = self._folder.spool()
        path = spool / journal_name(self._writer)
        left = {named[1] for each in spool.iterdir() if (named := shard_of(each.name))}
        content = path.read_bytes() if path.exists() else b""
        write_whole(path, with_shards(content, left) if content else header_line(self._about))
        self._folder = folder_of(spool)
        self._open_journal(path, os.O_APPEND)
        return spool

    def abandon(self) -> None:
        """Let go of all files as they are."""
        shard, self._shard = self._shard, None
        with suppress(OSError):  # what failed may fail again
            if shard is not None:
                shard.abandon()
        with suppress(OSError):
            self._close_journal()

    def _begin_journal(self) -> Path:
        if self._spool is not None and self._journal is not None:
            return self._spool
        spool = self._spool = self._folder.spool()
        path = spool / journal_name(self._writer)
        self._open_journal(path, os.O_CREAT | os.O_EXCL)
        self._note(header_line(self._about))
        # A store that refuses files is noticed now. If the process is killed, the journal names the folder's writer.
        self._folder.put(path)
        return spool

    def _open_journal(self, path: Path, flags: int) -> None:
        self._journal = os.open(path, os.O_WRONLY | flags, 0o666)
        # Until the process ends, however it ends.
        lock(self._journal)

    def _note(self, lines: bytes) -> None:
        if self._journal is None:
            raise ValueError("expected a journal that is open")
        rest = memoryview(lines)
        while rest:
            rest = rest[os.write(self._journal, rest) :]

    def _sync_journal(self) -> None:
        if self._journal is not None:
            os.fsync(self._journal)

    def _close_journal(self) -> None:
        journal, self._journal = self._journal, None
        if journal is not None:
            os.close(journal)


class ShardFile:
    """A new shard. Its methods return lines for the journal."""

    def __init__(self, path: Path, number: int, schema: Any, compression: str | None) -> None:
        self.path = path
        """Where it is."""
        self._number = number
        self._head_bytes = _MAGIC_BYTES + int(schema.serialize().size)
        self._head_buffers = head_buffers(schema, LAST_OF_HEAD)
        # Kept for fsync; pyarrow opens the file a second time.
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        self._is_named = False
        self._is_synced = False
        try:
            # pyarrow writes each buffer of a record batch by itself.
            self._sink = pa.BufferedOutputStream(pa.OSFile(str(path), "wb"), _BUFFER_BYTES)
            self._writer = ipc.new_file(self._sink, schema, options=ipc.IpcWriteOptions(compression=compression))
        except BaseException:
            os.close(self._descriptor)
            raise

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return int(self._sink.tell())

    def write(self, record_batches: Iterable[Any], index: BatchIndex) -> bytes:
        """Write trajectories; if that fails the file ends with a part of a record batch."""
        pieces = []
        self._is_synced = False
        for record_batch in record_batches:
            # pyarrow writes the schema with the first batch.
            begin = self.size or self._head_bytes
            self._writer.write_batch(record_batch)
            self._sink.flush()
            pieces.append(self._piece(begin, record_batch.num_rows))
        lines = batch_line(self._number, pieces, index)
        if pieces[0].offset == self._head_bytes:
            lines = shard_line(self._number, self._head_bytes, self._sum(0, self._head_bytes)) + lines
        return lines

    def sync(self) -> bytes:
        """Make all that was written durable; no lines if it is."""
        if self._is_synced:
            return b""
        os.fsync(self._descriptor)
        if not self._is_named:
            sync_directory(self.path.parent)
            self._is_named = True
        self._is_synced = True
        return flushed_line(self._number, self.size)

    def close(self) -> bytes:
        """Write the footer, and make the file durable."""
        end = self.size
        self._writer.close()
        self._sink.flush()
        self._is_synced = False
        self.sync()
        size = self.size
        self.abandon()
        return finished_line(self._number, size, self._sum(end, size))

    def abandon(self) -> None:
        """Let go of the file as it is."""
        try:
            self._sink.close()
        finally:
            descriptor, self._descriptor = self._descriptor, -1
            if descriptor >= 0:
                os.close(descriptor)

    def _piece(self, begin: int, rows: int) -> Piece:
        """The record batch that was written from a byte on."""
        content = self._content(begin, self.size)
        piece = Piece(begin, content.size, rows, checksum(content))
        if piece.bytes < LARGE_ROW_BYTES * piece.rows:
            return piece
        head = content.slice(0, head_bytes(content, self._head_buffers))
        return piece._replace(head_bytes=head.size, head_sum=checksum(head))

    def _sum(self, begin: int, end: int) -> str:
        return checksum(self._content(begin, end))

    def _content(self, begin: int, end: int) -> Any:
        """Some of the bytes, mapped and not copied."""
        with pa.memory_map(str(self.path)) as file:
            file.seek(begin)
            return file.read_buffer(end - begin)
