"""One shard, for reading: its schema and its batches."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from vecrollout.errors import DamagedTraceError, VecrolloutError
from vecrollout.storage.arrow import ArrowErrors, checksum, ipc, pa
from vecrollout.storage.format import END_MAGIC, MAGIC, SCHEMA_HEAD_BYTES, schema_end
from vecrollout.storage.index import ShardIndex
from vecrollout.storage.location import RandomAccessFile
from vecrollout.storage.schema import TraceSchema

# What is fetched to find the schema; few schemas are larger.
_HEAD_BYTES = 64 << 10

# Of batches that are read one after the other, at most so many bytes are fetched at once.
_READ_AHEAD_BYTES = 8 << 20


class Shard:
    """A shard's file, of which batches are read.

    A shard that was not finished has no footer; it is read as a stream, as far as whole batches go.

    Args:
        file: The file.
        as_stream: Whether to do without the footer even if there is one.

    Raises:
        DamagedTraceError: If not even its schema can be read.
        TraceVersionError: If a newer version of the package wrote it.
        StoreError: If the object store that it is in fails; so do all methods that read.
    """

    def __init__(self, file: RandomAccessFile, *, as_stream: bool = False) -> None:
        self.name = file.name
        self.size = file.size
        self.file = file
        """The file."""
        self._as_stream = as_stream
        self._readers: dict[tuple[str, ...] | None, Any] = {}
        self._checked: set[int] = set()
        self._last_read: int | None = None
        self._read_in_a_row = 0
        self._head = self._read_head()
        self.first_batch = int(self._head.size)
        """Where the first batch begins, in bytes."""
        try:
            self.arrow_schema = ipc.read_schema(ipc.read_message(self._head.slice(len(MAGIC))))
            self.schema = TraceSchema.from_arrow(self.arrow_schema, self.name)
        except VecrolloutError:
            raise
        except ArrowErrors as error:  # names that are no text among them
            raise DamagedTraceError(f"{self.name}: expected a shard, got no schema: {error}") from error

    @cached_property
    def is_finished(self) -> bool:
        """Whether the shard has a footer."""
        end = self.file.read(max(0, self.size - len(END_MAGIC)), self.size).to_pybytes()
        if end != END_MAGIC or self._as_stream:
            return False
        try:
            self._reader(None)
        except ArrowErrors:
            return False
        return True

    @property
    def listed_batches(self) -> int:
        """Number of batches in the footer of a finished shard."""
        return int(self._reader(None).num_record_batches)

    def batch(self, number: int, index: ShardIndex, columns: Sequence[str] | None = None) -> Any:
        """A `pyarrow.RecordBatch`, of all columns or of some.

        Args:
            number: Which one.
            index: Where the batches are; where it has checksums, the batch is checked when it is first read.
            columns: Names of columns; of a compressed shard only these are decoded. None: all.

        Raises:
            DamagedTraceError: If the batch cannot be read, or is not what was written.
        """
        begin, end = index.section(number + 1)
        message = self.file.read(begin, end, self._reach(number, index))
        self._check(0, self._head, index)
        self._check(number + 1, message, index)
        if self.file.arrow_file is not None and self.is_finished:
            # It is read by its footer, which has the schema once more.
            self.check_section(len(index.batches["rows"]) + 1, index)
        read = self.decoded(number, message, columns)
        expected = index.batches["rows"][number]
        if read.num_rows != expected:
            raise DamagedTraceError(f"{self.name}: batch {number}: expected {expected} rows, got {read.num_rows}")
        return read

    def decoded(self, number: int, message: Any, columns: Sequence[str] | None) -> Any:
        """The `pyarrow.RecordBatch` in the bytes of a message.

        Args:
            number: Which one of the shard it is.
            message: The message with its body.
            columns: Names of columns; None: all.

        Raises:
            DamagedTraceError: If there is none.
        """
        try:
            # To choose columns makes pyarrow copy them, which pays where it saves decoding others.
            chosen = columns if self.schema.about.get("compression") is not None else None
            if self.file.arrow_file is not None and self.is_finished:
                read = self._reader(chosen).get_batch(number)
            elif chosen is None:
                read = ipc.read_record_batch(ipc.read_message(message), self.arrow_schema)
            else:
                stream = b"".join([self._head.slice(len(MAGIC)), message])
                read = ipc.open_stream(stream, options=self._choosing(chosen)).read_next_batch()
            if columns is not None:
                read = read.select(list(columns))
            read.validate()
            for column in read.columns:
                # Offsets that point anywhere; of numbers, as many in each row, the lengths say enough.
                is_even = pa.types.is_fixed_size_list(column.type)
                if not pa.types.is_primitive(column.type.value_type if is_even else column.type):
                    column.validate(full=True)
        except ArrowErrors as error:
            raise DamagedTraceError(f"{self.name}: batch {number}: {error}") from error
        return read

    def check_section(self, section: int, index: ShardIndex) -> None:
        """Compare a part of the file with its checksum, once.

        Raises:
            DamagedTraceError: If they differ.
        """
        self._check(section, self.file.read(*index.section(section)), index)

    def rest(self, begin: int) -> Any:
        """The file from a byte on, as a `pyarrow.Buffer`."""
        return self.file.read(begin, self.size)

    def _check(self, section: int, content: Any, index: ShardIndex) -> None:
        if index.checksums is None or section in self._checked:
            return
        begin, end = index.section(section)
        if content.size != end - begin or checksum(content) != index.checksums[section]:
            raise DamagedTraceError(
                f"{self.name}: {index.section_name(section)}: bytes {begin} to {end} were altered since they were "
                "written, their checksum differs"
            )
        self._checked.add(section)

    def _reach(self, number: int, index: ShardIndex) -> int:
        """Up to where to fetch: as many batches behind this one as were read in a row before it."""
        in_order = self._last_read is not None and number == self._last_read + 1
        self._last_read = number
        self._read_in_a_row = self._read_in_a_row + 1 if in_order else 0
        if not in_order or self.file.arrow_file is not None:
            return 0
        ends = (index.batches["offset"] + index.batches["bytes"])[: number + self._read_in_a_row + 1]
        within = np.searchsorted(ends, index.batches["offset"][number] + _READ_AHEAD_BYTES, side="right")
        return int(ends[max(number, within - 1)])

    def _read_head(self) -> Any:
        """What comes before the first batch: the magic bytes and the schema's message.

        Raises:
            DamagedTraceError: If there is no such thing.
        """
        head = self.file.read(0, min(self.size, _HEAD_BYTES))
        begin = bytes(memoryview(head)[:SCHEMA_HEAD_BYTES])
        if not begin.startswith(MAGIC):
            raise DamagedTraceError(f"{self.name}: expected an Arrow IPC file, got one that begins with {begin[:8]!r}")
        length = schema_end(begin)
        if length > self.size:
            raise DamagedTraceError(f"{self.name}: expected a shard, got no schema: it ends before that does")
        return head.slice(0, length) if length <= head.size else self.file.read(0, length)

    def _choosing(self, columns: Sequence[str]) -> Any:
        return ipc.IpcReadOptions(included_fields=[self.arrow_schema.get_field_index(name) for name in columns])

    def _reader(self, columns: Sequence[str] | None) -> Any:
        key = None if columns is None else tuple(columns)
        if key not in self._readers:
            options = ipc.IpcReadOptions() if key is None else self._choosing(key)
            self._readers[key] = ipc.open_file(self.file.arrow_file, options=options)
        return self._readers[key]
