"""A writer's journal: a line for each thing that the writer did, which says what the bytes of its shards are.

A line is a JSON object, a space, and the XXH3 of the object's text. `docs/format.md` lists the lines.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from vecrollout.errors import DamagedTraceError
from vecrollout.storage.arrow import checksum
from vecrollout.storage.codec.index import BatchIndex
from vecrollout.storage.codec.metadata import FORMAT_VERSION, check_version, parsed

_COLUMNS = ("episode", "env", "start_step", "ended")
_MAX_BYTES = 1 << 62


class Piece(NamedTuple):
    """A record batch in a shard."""

    offset: int
    """Where in the file its message begins."""
    bytes: int
    """Of its message with the body."""
    rows: int
    sum: str
    """Checksum of these bytes."""
    head_bytes: int = 0
    """Of the head of the message, which has all small columns; 0: rows are not large, and the head is never read."""
    head_sum: str = ""
    """Checksum of the head."""

    @property
    def end(self) -> int:
        """Where in the file it ends."""
        return self.offset + self.bytes


def header_line(about: Mapping[str, Any]) -> bytes:
    """The first line: which writer this is, and what is said about the trace as a whole."""
    return _line({"format_version": FORMAT_VERSION, **about})


def header_of(line: bytes) -> dict[str, Any]:
    """What the first line says about the trace as a whole; empty where it is damaged."""
    text = _text(line)
    return {} if text is None else parsed(text, "journal")


def shard_line(number: int, head_bytes: int, head_sum: str) -> bytes:
    """A shard was begun; its head is all that comes before the first record batch."""
    return _line({"shard": [number, head_bytes, head_sum]})


def batch_line(number: int, pieces: Sequence[Piece], index: BatchIndex) -> bytes:
    """Trajectories were written: one record batch of whole ones, or several pieces of a single one."""
    columns = {name: getattr(index, name).tolist() for name in _COLUMNS}
    listed = [[*piece] if piece.head_bytes else [*piece[:4]] for piece in pieces]
    short = {name: values[0] if values.count(values[0]) == len(values) else values for name, values in columns.items()}
    return _line({"batch": [number, listed], "rows": index.rows.tolist(), **short})


def flushed_line(number: int, size: int) -> bytes:
    """The first `size` bytes of a shard are durable."""
    return _line({"flushed": [number, size]})


def finished_line(number: int, size: int, tail_sum: str) -> bytes:
    """A shard is whole and durable; its tail is all that comes after the last record batch."""
    return _line({"finished": [number, size, tail_sum]})


def closed_line() -> bytes:
    """The writer was closed: no line follows."""
    return _line({"closed": True})


def _line(document: Mapping[str, Any]) -> bytes:
    text = json.dumps(document, separators=(",", ":")).encode()
    return text + b" " + checksum(text).encode() + b"\n"


class Group(NamedTuple):
    """Trajectories that were written at once."""

    first: int
    """Number of the first piece in its shard."""
    pieces: list[Piece]
    trajectories: BatchIndex


@dataclass
class ShardRecord:
    """What a journal says about a shard."""

    number: int
    head_bytes: int
    head_sum: str
    pieces: list[Piece] = field(default_factory=list)
    groups: list[Group] = field(default_factory=list)
    flushed: int = 0
    """Bytes known to be durable."""
    size: int | None = None
    """Bytes of the finished shard; None: it is not finished."""
    tail_sum: str = ""

    @property
    def end(self) -> int:
        """Where the last record batch ends."""
        return self.pieces[-1].end if self.pieces else self.head_bytes

    def sections(self) -> Iterator[tuple[str, int, int, str]]:
        """Name, begin, end and checksum of all parts of the file."""
        yield "schema", 0, self.head_bytes, self.head_sum
        for i, piece in enumerate(self.pieces):
            yield f"batch {i}", piece.offset, piece.end, piece.sum
        if self.size is not None:
            yield "footer", self.end, self.size, self.tail_sum


class Journal:
    """A writer's journal, as far as it was read."""

    def __init__(self, name: str, writer: str) -> None:
        self.name = name
        self.writer = writer
        self.about: dict[str, Any] | None = None
        """What is said about the trace as a whole; None: there is no header, or it is damaged."""
        self.shards: dict[int, ShardRecord] = {}
        self.is_closed = False
        self.damage: list[str] = []
        """Place and kind of each damage."""
        # Shards of which a line is damaged: the lines that follow do not fit.
        self._broken: set[int] = set()
        self._lines = 0
        # Bytes of whole lines, and their checksum: a journal that was written anew does not begin with these.
        self._read = 0
        self._sum = checksum(b"")
        self._torn = b""

    def feed(self, content: bytes) -> bool:
        """Read the lines that were added; False if the content does not begin with what was read before."""
        if checksum(content[: self._read]) != self._sum:
            return False
        end = content.rfind(b"\n") + 1
        for line in content[self._read : end].split(b"\n")[:-1] if end > self._read else ():
            self._take(line)
            self._lines += 1
        self._read, self._sum = end, checksum(content[:end])
        self._torn = content[end:]
        return True

    def check(self) -> None:
        """Raise `DamagedTraceError` for the first damage."""
        for what in self.problems:
            raise DamagedTraceError(f"{self.name}: {what}; repair_traces keeps what is whole")

    @property
    def problems(self) -> list[str]:
        """All damage. A torn last line is none: its writer was killed, or writes it just now."""
        torn = self._torn
        is_altered = bool(torn) and (self.is_closed or (_text(torn[:-1]) is not None))
        return [*self.damage, *([f"line {self._lines}: altered since it was written"] if is_altered else [])]

    @property
    def is_empty(self) -> bool:
        """Whether not even the first line is there."""
        return not self._lines

    def _take(self, line: bytes) -> None:
        where = f"line {self._lines}"
        text = _text(line)
        if text is None:
            self.damage.append(f"{where}: altered since it was written")
            return
        document = parsed(text, f"{self.name}: {where}")
        if self._lines == 0 and "format_version" in document:
            check_version(document, self.name)
        try:
            self._note(document)
        except (DamagedTraceError, LookupError, TypeError, ValueError, OverflowError) as error:
            self.damage.append(f"{where}: expected a line of a journal: {error}")

    def _note(self, document: dict[str, Any]) -> None:
        if self._lines == 0:
            if document.pop("writer", None) != self.writer:
                raise ValueError("of another writer")
            del document["format_version"]
            self.about = document
            return
        if self.is_closed:
            raise ValueError("the writer was closed before")
        kind = next(iter(document), "")
        if kind == "shard":
            number, size, of_head = document[kind]
            if not _is_count(number) or not _is_count(size) or type(of_head) is not str or number in self.shards:
                raise ValueError("no shard that is new")
            self.shards[number] = ShardRecord(number, size, of_head)
        elif kind == "closed":
            self.is_closed = True
        else:
            number, *rest = document[kind]
            if number in self._broken:
                return
            self._broken.add(number)
            shard = self.shards[number]
            if shard.size is not None or number != next(reversed(self.shards)):
                raise ValueError(f"shard {number} is not open")
            if kind == "batch":
                self._note_batch(shard, rest[0], document)
            elif kind == "flushed":
                (shard.flushed,) = _checked_end(shard, *rest)
            elif kind == "finished":
                shard.size, shard.tail_sum = _checked_end(shard, *rest)
                shard.flushed = shard.size
            else:
                raise ValueError("of a kind that is not known")
            self._broken.remove(number)

    def _note_batch(self, shard: ShardRecord, listed: Any, document: dict[str, Any]) -> None:
        pieces = [Piece(*piece) for piece in listed]
        end = shard.end
        for piece in pieces:
            counts, sums = (*piece[:3], piece.head_bytes), (piece.sum, piece.head_sum)
            if not all(map(_is_count, counts)) or set(map(type, sums)) != {str} or piece.offset != end:
                raise ValueError(f"expected a record batch from byte {end}, got {piece}")
            if not piece.rows or not piece.bytes or piece.head_bytes > piece.bytes:
                raise ValueError(f"expected rows and bytes of a record batch, got {piece}")
            end = piece.end
        rows = _numbers(document["rows"])
        index = BatchIndex(rows, **{name: _numbers(document[name], len(rows)) for name in _COLUMNS})
        if not pieces or (len(pieces) > 1 and len(rows) != 1):
            raise ValueError(f"expected one trajectory in pieces, got {len(rows)} in {len(pieces)}")
        index.check(sum(piece.rows for piece in pieces), "trajectories")
        shard.groups.append(Group(len(shard.pieces), pieces, index))
        shard.pieces += pieces


def _text(line: bytes) -> bytes | None:
    """The JSON of a line; None where the line was altered."""
    text, _, check = line.rpartition(b" ")
    return text if checksum(text).encode() == check else None


def _is_count(number: Any) -> bool:
    return type(number) is int and 0 <= number < _MAX_BYTES


def _checked_end(shard: ShardRecord, size: Any, *sums: Any) -> tuple[Any, ...]:
    if not _is_count(size) or size < shard.end or not all(type(each) is str for each in sums):
        raise ValueError(f"expected the end of a shard of {shard.end} bytes or more, got {size!r}")
    return (size, *sums)


def _numbers(values: Any, length: int | None = None) -> npt.NDArray[np.int64]:
    """Integers, or one that stands for all of them."""
    if type(values) is int and length is not None:
        return np.full(length, values, np.int64)
    found: npt.NDArray[Any] = np.array(values) if type(values) is list else np.empty(0)
    if found.dtype != np.int64 or found.ndim != 1 or length not in (None, len(found)):
        raise ValueError(f"expected {length or 'some'} integers, got {type(values).__name__}")
    return found


def _lines_of(content: bytes) -> list[bytes]:
    return [line for line in content.split(b"\n") if _text(line) is not None]


def with_shards(content: bytes, shards: Collection[int]) -> bytes:
    """A journal of some of the shards only."""
    header, *lines = _lines_of(content)
    kept = [line for line in lines if _shard_of(line) in shards]
    return b"".join(line + b"\n" for line in [header, *kept])


def merged(content: bytes, more: bytes) -> bytes:
    """A journal with the lines of another one of the same writer that it lacks, and without the last one's end."""
    lines = dict.fromkeys([*_lines_of(content), *_lines_of(more)])
    return b"".join(line + b"\n" for line in lines)


def _shard_of(line: bytes) -> Any:
    document = json.loads(_text(line) or b"")
    entry = next(iter(document.values()), None)
    return entry[0] if type(entry) is list else None
