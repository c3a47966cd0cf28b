"""Whether all workers see the directory that they are to write to."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from vecrollout.errors import OptionError


@contextmanager
def probe(directory: Path) -> Iterator[Path]:
    """A file in the directory, for a while."""
    file = directory / f".{uuid4().hex}.probe"
    file.touch(exist_ok=False)
    try:
        yield file
    finally:
        file.unlink(missing_ok=True)


def check_probe(file: Path) -> None:
    """Refuse a directory that is another one on this machine."""
    if not file.exists():
        raise OptionError(
            f"directory: expected one that all workers share, got {str(file.parent)!r}, which is another one on "
            f"{socket.gethostname()}; use a directory on a network file system, or the URL of an object store"
        )
