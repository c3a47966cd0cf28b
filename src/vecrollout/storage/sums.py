"""Checksums of what was flushed of a shard that is not finished yet: lines of a file beside it.

A finished shard's are in its index. Each line vouches for itself, so that one that was cut or altered says nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TypeAlias

from vecrollout.errors import DamagedTraceError
from vecrollout.storage.arrow import checksum
from vecrollout.storage.format import sums_name
from vecrollout.storage.location import Location

Sums: TypeAlias = Mapping[int, tuple[int, str]]
"""By the byte where a part of the shard begins: where it ends, and its xxh3_64."""

NO_SUMS: Sums = {}
"""Of a shard of which nothing is known."""

_LINE = re.compile(rb"(?P<text>(?P<begin>\d{1,18}) (?P<end>\d{1,18}) (?P<sum>[0-9a-f]{16})) (?P<check>[0-9a-f]{16})")


def sums_line(begin: int, end: int, content: object) -> bytes:
    """The line of a part of a shard."""
    text = f"{begin} {end} {checksum(content)}"
    return f"{text} {checksum(text.encode())}\n".encode()


def read_sums(location: Location, shard: str) -> Sums:
    """What is known of a shard; nothing where there is no such file.

    Raises:
        StoreError: If an object store fails.
    """
    try:
        content = location.read(sums_name(shard))
    except DamagedTraceError:
        return NO_SUMS
    return {
        int(line["begin"]): (int(line["end"]), line["sum"].decode())
        for line in map(_LINE.fullmatch, content.split(b"\n"))
        if line is not None and checksum(line["text"]).encode() == line["check"]
    }
