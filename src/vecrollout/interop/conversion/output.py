"""Files and directories that are absent or complete, also after a `kill -9`."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vecrollout.data import checks
from vecrollout.errors import OptionError, TraceWriteError, VecrolloutError
from vecrollout.storage.files.whole import sync_directory, temporary_path


@contextmanager
def new_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A path to write a file to; the file is put in its place when the block ends without an error."""
    target = new_path(path)
    with _told(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = temporary_path(target)
        try:
            yield temporary
            _sync(temporary)
            temporary.rename(target)
        finally:
            temporary.unlink(missing_ok=True)
        sync_directory(target.parent)


@contextmanager
def new_directory(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A directory to write files to; it is put in its place when the block ends without an error."""
    target = new_path(path)
    with _told(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = temporary_path(target)
        temporary.mkdir()
        try:
            yield temporary
            for directory, _, names in os.walk(temporary):
                for name in names:
                    _sync(Path(directory, name))
                sync_directory(Path(directory))
            temporary.rename(target)
        finally:
            if temporary.exists():
                shutil.rmtree(temporary)
        sync_directory(target.parent)


def new_path(path: str | os.PathLike[str]) -> Path:
    """A local path where nothing is yet."""
    target = local_path(path)
    if target.exists():
        raise OptionError(f"path: expected one where nothing is, got {target}, which exists; remove it first")
    return target


def local_path(path: str | os.PathLike[str]) -> Path:
    """The absolute local path that a path means now; a URL is refused."""
    text = checks.directory_text(path)
    if "://" in text:
        raise OptionError(f"path: expected a local one, got {text!r}; convert to a local path, and copy the result")
    return checks.local_path(text)


@contextmanager
def _told(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if isinstance(error, VecrolloutError):
            raise
        raise TraceWriteError(f"{target}: could not be written, nothing is there: {error}") from error


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
