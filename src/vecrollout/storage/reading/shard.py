"""One shard, for reading: its schema and its record batches."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import Any

from vecrollout.errors import DamagedTraceError, VecrolloutError
from vecrollout.storage.arrow import ArrowErrors, checksum, ipc, pa
from vecrollout.storage.codec.schema import TraceSchema
from vecrollout.storage.files.folder import File
from vecrollout.storage.files.journal import Piece, ShardRecord
from vecrollout.storage.files.names import shard_of
from vecrollout.storage.files.source import MappedFile

MAGIC = b"ARROW1\0\0"
"""The first bytes of an Arrow IPC file; behind them it reads as an IPC stream."""

END_MAGIC = b"ARROW1"
"""The last bytes of an Arrow IPC file that was finished."""

_LARGE_BYTES = 1024
"""Rows of at least this size on disk are large, such as images."""

_CONTINUATION = b"\xff\xff\xff\xff"


class Shard:
    """A shard's file; its head is compared with its checksum in the journal before it is parsed."""

    def __init__(self, file: File, record: ShardRecord | None, *, check: bool = True) -> None:
        self.name = file.name
        self.file = file
        """The file."""
        self._check, self._record = check, record
        # Whether the footer was compared with its checksum.
        self._has_footer = False
        self._checked: set[int] = set()
        if record is None:
            head = file.read(0, head_end(file))
        else:
            head = file.read(0, record.head_bytes)
            compare(self.name, "schema", head, record.head_bytes, record.head_sum)
        self.head_bytes = int(head.size)
        """Where the first record batch begins."""
        self._stream = head.slice(min(len(MAGIC), head.size))
        try:
            message = ipc.read_message(self._stream)
            # pyarrow verifies a message of the type that it says it is, and reads it as the one that is asked for.
            if message.type != "schema":
                raise DamagedTraceError(f"{self.name}: expected a shard, got no schema but {message.type}")
            self.arrow_schema = ipc.read_schema(message)
            self.schema = TraceSchema.from_arrow(self.arrow_schema, self.name)
        except VecrolloutError:
            raise
        except ArrowErrors as error:  # names that are no text among them
            raise DamagedTraceError(f"{self.name}: expected a shard, got no schema: {error}") from error
        self._check_name()

    def few_columns(self, number: int, piece: Piece, columns: Sequence[str], reach: int = 0) -> Any:
        """Some columns, as from `batch`. Of a finished local shard with large rows, only these columns are read."""
        record = self._record
        is_whole = record is not None and record.size == self.file.size and isinstance(self.file, MappedFile)
        if record is None or not is_whole or piece.bytes < _LARGE_BYTES * piece.rows:
            return self.batch(number, piece, columns, reach)
        where = f"batch {number}"
        try:
            if not self._has_footer:
                tail = self.file.read(record.end, self.file.size)
                compare(self.name, "footer", tail, self.file.size - record.end, record.tail_sum)
                self._has_footer = True
            fields = sorted(self.arrow_schema.get_field_index(name) for name in columns)
            options = ipc.IpcReadOptions(included_fields=fields)
            batch = ipc.open_file(self.file.read(0, self.file.size), options=options).get_batch(number)
            batch = batch.select(list(columns))
        except ArrowErrors as error:
            if isinstance(error, DamagedTraceError):
                raise
            raise DamagedTraceError(f"{self.name}: {where}: {error}") from error
        return self._with_rows(batch, piece, where)

    def batch(self, number: int, piece: Piece, columns: Sequence[str] | None = None, reach: int = 0) -> Any:
        """A `pyarrow.RecordBatch` of all or some columns; bytes up to `reach` will probably be read next."""
        content = self.file.read(piece.offset, piece.end, reach)
        where = f"batch {number}"
        if self._check and piece.offset not in self._checked:
            compare(self.name, where, content, piece.bytes, piece.sum)
            self._checked.add(piece.offset)
        return self._with_rows(self._decoded(content, where, columns), piece, where)

    def _with_rows(self, batch: Any, piece: Piece, where: str) -> Any:
        if batch.num_rows != piece.rows:
            raise DamagedTraceError(f"{self.name}: {where}: expected {piece.rows} rows, got {batch.num_rows}")
        return batch

    def walk(self, begin: int) -> Iterator[tuple[Piece, Any]]:
        """The whole record batches from a byte on, with their present checksums."""
        number, at = 0, begin
        while True:
            content = self.file.read(at, self.file.size)
            head = bytes(memoryview(content)[:8])
            if len(head) < 8 or head[:4] != _CONTINUATION or head[4:] == bytes(4):
                return
            try:
                (metadata_bytes,) = struct.unpack("<i", head[4:])
                size = 8 + metadata_bytes + int(ipc.read_message(content).body.size)
                content = content.slice(0, size)
                batch = self._decoded(content, f"byte {at}", None)
            except (DamagedTraceError, *ArrowErrors):
                return
            if not batch.num_rows or content.size != size:
                return
            yield Piece(at, size, batch.num_rows, checksum(content)), batch
            number, at = number + 1, at + size

    def _decoded(self, content: Any, where: str, columns: Sequence[str] | None) -> Any:
        try:
            message = ipc.read_message(content)
            if message.type != "record batch":
                raise DamagedTraceError(f"{self.name}: {where}: expected a record batch, got {message.type}")
            # Choosing columns copies the bytes, which pays only if other columns need not be decompressed.
            if columns is None or self.schema.about.get("compression") is None:
                batch = ipc.read_record_batch(message, self.arrow_schema)
                return batch if columns is None else batch.select(list(columns))
            fields = [self.arrow_schema.get_field_index(name) for name in columns]
            stream = pa.BufferReader(b"".join([self._stream, content]))
            batch = ipc.open_stream(stream, options=ipc.IpcReadOptions(included_fields=fields)).read_next_batch()
            return batch.select(list(columns))
        except ArrowErrors as error:
            if isinstance(error, DamagedTraceError):
                raise
            raise DamagedTraceError(f"{self.name}: {where}: {error}") from error

    def _check_name(self) -> None:
        named = shard_of(self.name)
        inner = self.schema.about.get("writer"), self.schema.number
        if named is not None and named != inner:
            raise DamagedTraceError(f"{self.name}: expected shard {named}, got a copy of {inner}")


def head_end(file: File) -> int:
    """Where the first record batch begins, as the head of the shard says."""
    head = bytes(memoryview(file.read(0, len(MAGIC) + 8)))
    if not head.startswith(MAGIC) or len(head) < len(MAGIC) + 8:
        raise DamagedTraceError(f"{file.name}: expected an Arrow IPC file, got one that begins with {head[:8]!r}")
    end = len(head) + int.from_bytes(head[-4:], "little")
    if end > file.size:
        raise DamagedTraceError(f"{file.name}: expected a shard, got no schema: it ends before that does")
    return end


def compare(name: str, place: str, content: Any, size: int, expected: str) -> None:
    """Refuse bytes with another checksum."""
    if content.size < size:
        raise DamagedTraceError(f"{name}: {place}: cut off: expected {size} bytes, got {content.size}")
    if checksum(content) != expected:
        raise DamagedTraceError(f"{name}: {place}: altered since it was written, its checksum differs")
