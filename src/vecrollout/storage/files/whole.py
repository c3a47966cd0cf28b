"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import secrets
import tempfile
from pathlib import Path

from vecrollout.errors import TraceWriteError


def make_directory(path: Path) -> None:
    """Make a directory where it does not exist, and see whether files can be written there."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        # Permissions do not tell: the file system may be mounted for reading only.
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise TraceWriteError(f"{path}: expected a directory that can be written to: {error}") from error


def temporary_path(path: Path) -> Path:
    """Where a file is written before it is put in its place."""
    # The name begins with a dot, so that no pattern for shards or journals takes it for one.
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")


def write_whole(path: Path, content: bytes) -> None:
    """Put a file in place so that, whatever happens, either the old one or all of the new one is there."""
    temporary = temporary_path(path)
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Make the names of new files durable, where the system knows how to."""
    if os.name == "nt":
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
