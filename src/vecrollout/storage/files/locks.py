"""Whether a writer has a file open: the system forgets a lock when the process ends, however it ends."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: there nobody can take an open file away
    fcntl = None  # type: ignore[assignment]

KNOWS_LOCKS = fcntl is not None
"""Whether `is_locked` tells the truth on this system."""


def lock(descriptor: int) -> None:
    """Lock a file until it is closed. On a file system without locks, nothing is locked."""
    if fcntl is not None:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def is_locked(path: Path) -> bool:
    """Whether a process has locked a file, as far as the system tells."""
    if fcntl is None:
        return False
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return False
