"""The metadata of an Arrow IPC message: where the buffers of a record batch lie, and how much they hold.

pyarrow keeps both to itself. The metadata is a flatbuffer of `Message.fbs`, at
https://github.com/apache/arrow/blob/main/format/Message.fbs.
"""

from __future__ import annotations

import struct
from typing import Any

from vecrollout.storage.arrow import pa

_PREFIX_BYTES = 8
"""A mark, and the length of the metadata that follow."""

_HEADER, _BUFFERS = 2, 2
"""Numbers of fields: of a message its record batch, and of a record batch its buffers."""

_LENGTH = struct.Struct("<q")
"""A compressed buffer begins with its length before compression."""

_MOST_TIMES = 1 << 15
"""The most that compression saves: zstd can write a block of 128 KiB in 4 bytes, LZ4 saves less."""


def head_bytes(content: Any, buffers: int) -> int:
    """Bytes of the head of a message: its metadata, and the first buffers of its record batch."""
    found = _buffers(content)
    return found[buffers][0] if buffers < len(found) else int(content.size)


def head_buffers(schema: Any, last: str) -> int:
    """The number of buffers of the columns up to and including the last one of the head."""
    types = schema.types[: schema.get_field_index(last) + 1]
    # A column of nulls alone has no buffers in a message.
    return sum(len(pa.nulls(0, each).buffers()) for each in types if each != pa.null())


def check_sizes(content: Any, buffers: int | None = None) -> None:
    """Refuse a compressed record batch, or the first buffers of one, that claim to hold more than their bytes can.

    pyarrow asks for that memory before it decompresses.
    """
    view = memoryview(content)
    for begin, length in _buffers(content)[:buffers]:
        if begin < 0 or length < 0 or begin + length > len(view):
            raise ValueError(f"expected a buffer in {len(view)} bytes, got {length} bytes from {begin} on")
        if length >= _LENGTH.size:
            (claimed,) = _LENGTH.unpack_from(view, begin)
            if claimed > length * _MOST_TIMES:
                raise ValueError(f"expected a buffer of a sound size, got {claimed} bytes in {length}")


def _buffers(content: Any) -> list[tuple[int, int]]:
    """Where in a message with a record batch each buffer begins, and its length."""
    view = memoryview(content)
    (size,) = struct.unpack_from("<i", view, 4)
    body = _PREFIX_BYTES + size
    metadata = view[_PREFIX_BYTES:body]
    record_batch = _followed(metadata, _field(metadata, _followed(metadata, 0), _HEADER))
    at = _followed(metadata, _field(metadata, record_batch, _BUFFERS))
    (count,) = struct.unpack_from("<I", metadata, at)
    found = struct.iter_unpack("<qq", metadata[at + 4 : at + 4 + 16 * count])
    return [(body + offset, length) for offset, length in found]


def _followed(metadata: memoryview, at: int) -> int:
    """Where an offset leads."""
    return at + int(struct.unpack_from("<I", metadata, at)[0])


def _field(metadata: memoryview, table: int, number: int) -> int:
    """Where a field of a table is."""
    vtable = table - struct.unpack_from("<i", metadata, table)[0]
    (offset,) = struct.unpack_from("<H", metadata, vtable + 4 + 2 * number)
    return table + int(offset)
