"""Journals read and written as `docs/format.md` says, and no code of the library."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import xxhash


def only(directory: Path, suffix: str) -> Path:
    """The only file of a kind."""
    (path,) = directory.glob(f"*{suffix}")
    return path


def of_lines(documents: Iterable[dict[str, Any]]) -> bytes:
    """A journal of these lines."""
    texts = [json.dumps(document).encode() for document in documents]
    return b"".join(b"%b %b\n" % (text, xxhash.xxh3_64_hexdigest(text).encode()) for text in texts)


def lines_of(journal: Path) -> list[dict[str, Any]]:
    """All lines of a journal, each of which vouches for itself."""
    found = []
    for line in journal.read_bytes().splitlines():
        text, _, check = line.rpartition(b" ")
        assert xxhash.xxh3_64_hexdigest(text).encode() == check
        found.append(json.loads(text))
    return found


def parts_of(directory: Path) -> list[tuple[str, int, int]]:
    """Name, begin and end of each part of the only shard, as the only journal lists them."""
    parts = []
    for line in lines_of(only(directory, ".journal")):
        if "shard" in line:
            parts.append(("schema", 0, line["shard"][1]))
        for offset, size, *_ in line.get("batch", [0, []])[1]:
            parts.append((f"batch {len(parts) - 1}", offset, offset + size))
        if "finished" in line:
            parts.append(("footer", parts[-1][2], line["finished"][1]))
    return parts


def with_shard(lines: list[dict[str, Any]], content: bytes) -> bytes:
    """The journal of a shard of one record batch, with other bytes of that shard."""

    def of(begin: int, end: int) -> str:
        return xxhash.xxh3_64_hexdigest(content[begin:end])

    head = 16 + int.from_bytes(content[12:16], "little")
    metadata = int.from_bytes(content[head + 4 : head + 8], "little")
    end = head + 8 + metadata + pa.ipc.read_message(content[head:]).body.size
    for line in lines:
        if "shard" in line:
            line["shard"][1:] = head, of(0, head)
        elif "batch" in line:
            rows = line["batch"][1][0][2]
            line["batch"][1] = [[head, end - head, rows, of(head, end)]]
        elif "flushed" in line:
            line["flushed"][1] = end
        elif "finished" in line:
            line["finished"][1:] = len(content), of(end, len(content))
    return of_lines(lines)
