"""How many bytes a directory holds."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

from vecrollout.errors import DamagedTraceError
from vecrollout.storage.files.folder import Folder

_PAUSE_S = 0.25
# At most a tenth of the time is spent on looking, also where the directory is slow.
_PAUSE_RATIO = 10


class DiskUsage:
    """Looks at a directory a few times a second.

    Args:
        directory: The directory, or the URL of an object store.
    """

    def __init__(self, directory: Path | str) -> None:
        self._directory = directory
        self._bytes = 0
        self._next_look = 0.0

    def bytes(self) -> int | None:
        """Bytes of all files, as they were a moment ago; None for an object store, where asking takes long."""
        if not isinstance(self._directory, Path):
            return None
        began = time.monotonic()
        if began >= self._next_look:
            # A network file system that is away for a moment ends no recording.
            with suppress(OSError, DamagedTraceError):
                self._bytes = bytes_in(self._directory)
            ended = time.monotonic()
            self._next_look = ended + max(_PAUSE_S, _PAUSE_RATIO * (ended - began))
        return self._bytes


def bytes_in(directory: Path) -> int:
    """Bytes of all files in a directory."""
    return sum(Folder(directory).sizes().values())
