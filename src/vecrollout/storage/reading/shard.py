"""One shard, for reading: its schema and its record batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, partial
from typing import Any

from vecrollout.errors import DamagedTraceError
from vecrollout.storage.arrow import Parsing, checksum, ipc, pa
from vecrollout.storage.codec.message import check_sizes, head_buffers
from vecrollout.storage.codec.schema import LAST_OF_HEAD, TraceSchema
from vecrollout.storage.files.folder import File
from vecrollout.storage.files.journal import Piece, ShardRecord
from vecrollout.storage.files.names import shard_of
from vecrollout.storage.files.source import MappedFile

MAGIC = b"ARROW1\0\0"
"""The first bytes of an Arrow IPC file; behind them it reads as an IPC stream."""

END_MAGIC = b"ARROW1"
"""The last bytes of an Arrow IPC file that was finished."""


class PackedBatch:
    """A record batch of a compressed shard. A column is decompressed when it is first asked for.

    Args:
        rows: Number of rows.
        groups: Names of the columns that are decompressed together.
        read: Decompresses some columns.
    """

    def __init__(self, rows: int, groups: Sequence[Sequence[str]], read: Callable[[Sequence[str]], Any]) -> None:
        self.num_rows = rows
        self._groups, self._read = groups, read
        # By column; those of a group have the same one.
        self._parts: dict[str, Any] = {}

    def column(self, name: str) -> Any:
        """A column, a `pyarrow.Array`."""
        part = self._parts.get(name)
        if part is None:
            names = next((group for group in self._groups if name in group), [name])
            part = self._read(names)
            self._parts.update(dict.fromkeys(names, part))
        return part.column(name)


class Shard:
    """A shard's file; its head is compared with its checksum in the journal before it is parsed."""

    def __init__(self, file: File, record: ShardRecord | None, *, check: bool = True) -> None:
        self.name = file.name
        self.file = file
        """The file."""
        self._check, self._record = check, record
        self._checked: set[int] = set()
        # Of a finished local shard; by the columns that they read.
        self._readers: dict[tuple[str, ...], Any] = {}
        if record is None:
            end = head_end(file)
            if end is None:
                raise DamagedTraceError(f"{self.name}: expected a shard, got no schema: it ends before that does")
            head = file.read(0, end)
        else:
            head = file.read(0, record.head_bytes)
            compare(self.name, "schema", head, record.head_bytes, record.head_sum)
        self.head_bytes = int(head.size)
        """Where the first record batch begins."""
        self._stream = head.slice(min(len(MAGIC), head.size))
        with Parsing(f"{self.name}: expected a shard, got no schema"):
            message = ipc.read_message(self._stream)
            # pyarrow verifies a message of the type that it says it is, and reads it as the one that is asked for.
            if message.type != "schema":
                raise ValueError(f"a message of type {message.type}")
            self.arrow_schema = ipc.read_schema(message)
        self.schema = TraceSchema.from_arrow(self.arrow_schema, self.name)
        self._is_compressed = self.schema.about.get("compression") is not None
        self._check_name()

    def batch(self, number: int, piece: Piece, columns: Sequence[str] | None = None) -> Any:
        """A `pyarrow.RecordBatch` of all or some columns."""
        content, where = self._content(number, piece), f"batch {number}"
        # Choosing columns pays only if other columns need not be decompressed.
        if columns is None or not self._is_compressed:
            return self._checked_batch(partial(self._whole, content), content, piece, where)
        return self._checked_batch(partial(self._some, number, content, columns), content, piece, where)

    def lazy_batch(self, number: int, piece: Piece) -> Any:
        """A `pyarrow.RecordBatch`, or where columns are compressed, a `PackedBatch`."""
        if not self._is_compressed:
            return self.batch(number, piece)
        content, where = self._content(number, piece), f"batch {number}"

        def read(columns: Sequence[str]) -> Any:
            return self._checked_batch(partial(self._some, number, content, columns), content, piece, where)

        return PackedBatch(piece.rows, self.schema.groups, read)

    def few_columns(self, number: int, piece: Piece, columns: Sequence[str]) -> Any:
        """Columns of the head, as from `batch`. Of a finished local shard with large rows, only the head is read."""
        names, buffers = self._in_heads
        reader = self._reader(columns) if piece.head_bytes and names.issuperset(columns) else None
        if reader is None:
            return self.batch(number, piece, columns)
        head = self.head(number, piece, check=self._check)
        return self._checked_batch(partial(reader.get_batch, number), head, piece, f"batch {number}", buffers)

    @cached_property
    def _in_heads(self) -> tuple[frozenset[str], int]:
        """Names and number of buffers of the columns in the heads of record batches."""
        names = self.arrow_schema.names
        return frozenset(names[: names.index(LAST_OF_HEAD) + 1]), head_buffers(self.arrow_schema, LAST_OF_HEAD)

    def head(self, number: int, piece: Piece, *, check: bool) -> Any:
        """The bytes of a head, compared with their checksum."""
        head = self.file.read(piece.offset, piece.offset + piece.head_bytes)
        if check and piece.head_bytes:
            compare(self.name, f"batch {number}", head, piece.head_bytes, piece.head_sum)
        return head

    def _content(self, number: int, piece: Piece) -> Any:
        """The bytes of a record batch, compared with their checksum."""
        # Those behind it will probably be read next.
        content = self.file.read(piece.offset, piece.end, reach=0 if self._record is None else self._record.end)
        if self._check and piece.offset not in self._checked:
            compare(self.name, f"batch {number}", content, piece.bytes, piece.sum)
            self._checked.add(piece.offset)
        return content

    def _checked_batch(
        self, read: Callable[[], Any], content: Any, piece: Piece, where: str, buffers: int | None = None
    ) -> Any:
        """A record batch, or its head, whose buffers have the lengths that they should have."""
        with Parsing(f"{self.name}: {where}"):
            if self._is_compressed:
                check_sizes(content, buffers)
            batch = read()
            batch.validate()
        if batch.num_rows != piece.rows:
            raise DamagedTraceError(f"{self.name}: {where}: expected {piece.rows} rows, got {batch.num_rows}")
        return batch

    def _whole(self, content: Any) -> Any:
        message = ipc.read_message(content)
        if message.type != "record batch":
            raise ValueError(f"expected a record batch, got {message.type}")
        return ipc.read_record_batch(message, self.arrow_schema)

    def _some(self, number: int, content: Any, columns: Sequence[str]) -> Any:
        """Some columns of a compressed record batch."""
        reader = self._reader(columns)
        if reader is not None:
            return reader.get_batch(number)
        stream = pa.BufferReader(b"".join([self._stream, content]))
        return ipc.open_stream(stream, options=self._options(columns)).read_next_batch()

    def _reader(self, columns: Sequence[str]) -> Any:
        """Reads some columns of record batches, and nothing else; None without a sound footer, or of a remote file."""
        record, file = self._record, self.file
        if record is None or record.size != file.size or not isinstance(file, MappedFile):
            return None
        key = tuple(columns)
        if key not in self._readers:
            self._readers[key] = self._opened(record, key)
        return self._readers[key]

    def _opened(self, record: ShardRecord, columns: Sequence[str]) -> Any:
        tail = self.file.read(record.end, self.file.size)
        if checksum(tail) != record.tail_sum:
            return None
        with Parsing(f"{self.name}: footer"):
            reader = ipc.open_file(self.file.read(0, self.file.size), options=self._options(columns))
            fields = [self.arrow_schema.field(i) for i in sorted(map(self.arrow_schema.get_field_index, columns))]
            if reader.schema == pa.schema(fields) and reader.num_record_batches == len(record.pieces):
                return reader
        raise DamagedTraceError(f"{self.name}: footer: expected the columns and batches of the shard, got others")

    def _options(self, columns: Sequence[str]) -> Any:
        return ipc.IpcReadOptions(included_fields=[self.arrow_schema.get_field_index(name) for name in columns])

    def walk(self, begin: int) -> Iterator[tuple[Piece, Any]]:
        """The whole record batches from a byte on, with their present checksums."""
        rest = self.file.read(begin, self.file.size)
        stream = pa.BufferReader(rest)
        messages = ipc.MessageReader.open_stream(stream)
        while True:
            at = stream.tell()
            try:
                with Parsing(f"{self.name}: byte {begin + at}"):
                    messages.read_next_message()
                    content = rest.slice(at, stream.tell() - at)
                    if self._is_compressed:
                        check_sizes(content)
                    batch = self._whole(content)
            except (StopIteration, DamagedTraceError):
                return
            if not batch.num_rows:
                return
            yield Piece(begin + at, content.size, batch.num_rows, checksum(content)), batch

    def _check_name(self) -> None:
        named = shard_of(self.name)
        inner = self.schema.about.get("writer"), self.schema.number
        if named is not None and named != inner:
            raise DamagedTraceError(f"{self.name}: expected shard {named}, got a copy of {inner}")


def head_end(file: File) -> int | None:
    """Where the first record batch begins, as the head of the shard says; None: the shard ends before."""
    head = bytes(memoryview(file.read(0, len(MAGIC) + 8)))
    if not MAGIC.startswith(head[: len(MAGIC)]):
        raise DamagedTraceError(f"{file.name}: expected an Arrow IPC file, got one that begins with {head[:8]!r}")
    end = len(head) + int.from_bytes(head[-4:], "little")
    return None if len(head) < len(MAGIC) + 8 or end > file.size else end


def compare(name: str, place: str, content: Any, size: int, expected: str) -> None:
    """Refuse bytes with another checksum."""
    if content.size < size:
        raise DamagedTraceError(f"{name}: {place}: cut off: expected {size} bytes, got {content.size}")
    if checksum(content) != expected:
        raise DamagedTraceError(f"{name}: {place}: altered since it was written, its checksum differs")
