"""Files for reading some of their bytes."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vecrollout.errors import DamagedTraceError
from vecrollout.storage.arrow import Parsing, pa

# The most bytes that are fetched at once when parts of a remote file are read in order.
_READ_AHEAD_BYTES = 8 << 20


class MappedFile:
    """A local file mapped into memory; reads are views of it."""

    def __init__(self, path: Path) -> None:
        self.name = path.name
        size = regular_size(path)
        with Parsing(f"{path.name}: expected a file that can be read"), pa.memory_map(str(path)) as file:
            # Views keep the memory; the file need not stay open.
            self._content = file.read_buffer(size) if size else pa.py_buffer(b"")
        self.size = int(self._content.size)

    def read(self, begin: int, end: int, reach: int = 0) -> Any:
        """The bytes from `begin` up to `end`, fewer where the file ends before, as a `pyarrow.Buffer`."""
        begin = min(begin, self.size)
        return self._content.slice(begin, max(0, min(end, self.size) - begin))


class RangedFile:
    """A remote file, of which ranges of bytes are fetched."""

    def __init__(self, name: str, size: int, fetch: Callable[[int, int], bytes]) -> None:
        self.name = name
        self.size = size
        self._fetch = fetch
        # The bytes fetched last and where they begin. They are replaced together, as several threads may read.
        self._held: tuple[int, Any] = 0, pa.py_buffer(b"")
        self._read_to = -1
        self._ahead = 0

    def read(self, begin: int, end: int, reach: int = 0) -> Any:
        """As `MappedFile.read`. When parts are read in order, growing ranges up to `reach` are fetched at once."""
        begin, end = min(begin, self.size), min(end, self.size)
        is_next, self._read_to = begin == self._read_to, end
        first, held = self._held
        last = first + held.size
        if begin < first or end > last:
            self._ahead = min(2 * self._ahead + end - begin, _READ_AHEAD_BYTES) if is_next else 0
            wanted = min(max(end, min(reach, end + self._ahead)), self.size)
            # Do not fetch bytes again.
            known = held.slice(begin - first) if first <= begin < last else b""
            fetched = self._fetch(begin + len(known), wanted)
            first, held = begin, pa.py_buffer(b"".join([known, fetched]) if known else fetched)
            self._held = first, held
        content = held.slice(begin - first, max(0, end - begin))
        if content.size < end - begin:
            raise DamagedTraceError(f"{self.name}: expected {self.size} bytes, got fewer")
        return content


def regular_size(path: Path) -> int:
    """Bytes of a file. Pipes and devices, whose reading may never end, are refused, and so are directories."""
    try:
        status = os.stat(path)
    except OSError as error:
        raise DamagedTraceError(f"{path.name}: expected a file, got none: {error}") from error
    if not stat.S_ISREG(status.st_mode):
        raise DamagedTraceError(f"{path.name}: expected a regular file, got a folder, pipe or device; remove it")
    return status.st_size
