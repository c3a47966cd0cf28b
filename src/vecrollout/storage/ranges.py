"""A file of which ranges of bytes are fetched from far away."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vecrollout.errors import DamagedTraceError
from vecrollout.storage.arrow import pa


class RangedFile:
    """An object of which ranges of bytes are fetched.

    Args:
        name: Its name.
        size: Its size in bytes.
        fetch: Gives the bytes between two places.
    """

    arrow_file = None

    def __init__(self, name: str, size: int, fetch: Callable[[int, int], bytes]) -> None:
        self.name = name
        self.size = size
        self._fetch = fetch
        # What was fetched and not asked for yet lies behind what was.
        self._held: Any = pa.py_buffer(b"")
        self._held_from = 0

    def read(self, begin: int, end: int, reach: int = 0) -> Any:
        """The bytes from `begin` up to `end`; up to `reach` they are fetched and kept until they are asked for.

        Raises:
            DamagedTraceError: If the object is shorter by now.
            StoreError: If the object store fails.
        """
        end = min(end, self.size)
        if begin < self._held_from or end > self._held_from + self._held.size:
            self._held = pa.py_buffer(self._fetch(begin, min(max(end, reach), self.size)))
            self._held_from = begin
        if self._held_from + self._held.size < end:
            raise DamagedTraceError(f"{self.name}: expected {self.size} bytes, got fewer")
        content = self._held.slice(begin - self._held_from, max(0, end - begin))
        if end == self._held_from + self._held.size:
            self._held, self._held_from = pa.py_buffer(b""), 0
        return content
