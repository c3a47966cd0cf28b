"""Files and directories that are absent or complete, also after a `kill -9`."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vecrollout.errors import TraceWriteError, VecrolloutError


def make_directory(path: Path) -> None:
    """Make a directory if it does not exist, and check that files can be written there."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        # Permissions do not tell: the file system may be mounted for reading only.
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise TraceWriteError(f"{path}: expected a directory that can be written to: {error}") from error


def temporary_path(path: Path) -> Path:
    """Where a file is written before it is renamed to its final name."""
    # Names that begin with a dot match no pattern for shards or journals.
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")


@contextmanager
def whole_file(target: Path) -> Iterator[Path]:
    """A path to write a file to, which takes the place of `target` when the block ends without an error."""
    temporary = temporary_path(target)
    try:
        yield temporary
        _sync(temporary)
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(target.parent)


@contextmanager
def whole_directory(target: Path) -> Iterator[Path]:
    """A new directory to write files to, which becomes `target` when the block ends without an error.

    `target` is absolute, and either does not exist or is empty.
    """
    temporary = temporary_path(target)
    with write_errors(target):
        temporary.mkdir(parents=True)
    try:
        yield temporary
        with write_errors(target):
            for directory, _, names in os.walk(temporary):
                for name in names:
                    _sync(Path(directory, name))
                sync_directory(Path(directory))
            if target.exists():
                target.rmdir()
            temporary.rename(target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    sync_directory(target.parent)


@contextmanager
def write_errors(target: Path) -> Iterator[None]:
    """Raise errors of the system as `TraceWriteError`."""
    try:
        yield
    except VecrolloutError:
        raise
    except OSError as error:
        raise TraceWriteError(f"{target}: could not be written, nothing is there: {error}") from error


def write_whole(path: Path, content: bytes) -> None:
    """Write a file. Whatever happens, either the old file or the whole new one is there."""
    with whole_file(path) as temporary:
        temporary.write_bytes(content)


def _sync(path: Path) -> None:
    # For writing: Windows refuses to synchronize a file that is open for reading.
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def sync_directory(directory: Path) -> None:
    """Make the names of new files durable, if the system can."""
    if os.name == "nt":
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
