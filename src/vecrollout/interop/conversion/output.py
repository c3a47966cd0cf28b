"""Where conversions write: files and directories that are absent or complete."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vecrollout.data import checks
from vecrollout.errors import OptionError
from vecrollout.storage.files.whole import whole_directory, whole_file, write_errors


@contextmanager
def new_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A path to write a file to; the file is put in its place when the block ends without an error."""
    target = new_path(path)
    with write_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(target) as temporary:
            yield temporary


@contextmanager
def new_directory(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A directory to write files to; it is put in its place when the block ends without an error."""
    target = new_path(path)
    with write_errors(target), whole_directory(target) as temporary:
        yield temporary


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
