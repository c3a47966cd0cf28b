"""Where a trace lives: in a local directory or, by a URL, in an object store."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol, TypeVar
from urllib.parse import urlsplit
from urllib.request import url2pathname

from vecrollout.data.checks import directory_text
from vecrollout.errors import OptionError
from vecrollout.storage.local import LocalDirectory

_In = TypeVar("_In")
_Out = TypeVar("_Out")

# A URL that went through `Path`. A drive of Windows has one letter only.
_LOST_SLASH = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/(?!/)")


class RandomAccessFile(Protocol):
    """A file that some bytes are read of."""

    name: str
    size: int
    arrow_file: Any
    """A `pyarrow.NativeFile` where reading costs no more than the bytes that are touched, else None."""

    def read(self, begin: int, end: int, reach: int = 0) -> Any:
        """The bytes from `begin` up to `end`, as a `pyarrow.Buffer`.

        Args:
            begin: First byte.
            end: Behind the last byte.
            reach: Up to where bytes are likely to be asked for next, to fetch them at once.

        Raises:
            StoreError: If an object store fails.
        """


class Location(Protocol):
    """What holds the files of a trace. Names are those of files; there are no folders within."""

    @property
    def path(self) -> Path | str:
        """As it was named: a directory or a URL."""

    @property
    def appends(self) -> bool:
        """Whether what was written of a file can be made durable before the file is finished."""

    def make(self) -> None:
        """Make it where it does not exist and has to be made.

        Raises:
            TraceWriteError: If that fails, or nothing can be written there.
        """

    def sizes(self) -> Mapping[str, int]:
        """Names of the files and their sizes in bytes.

        Raises:
            DamagedTraceError: If there is no such place.
            StoreError: If an object store fails; so all other methods do.
        """

    def size(self, name: str) -> int:
        """Size of a file in bytes, now.

        Raises:
            DamagedTraceError: If there is none.
        """

    def read(self, name: str) -> bytes:
        """All of a small file.

        Raises:
            DamagedTraceError: If there is none.
        """

    def open(self, name: str) -> RandomAccessFile:
        """A file, for reading some of it.

        Raises:
            DamagedTraceError: If there is none.
        """

    def write(self, name: str, content: bytes) -> None:
        """Put a small file in place, whole.

        Raises:
            OSError: If it cannot be written; what was there before stays.
        """

    def remove(self, name: str) -> None:
        """Remove a file."""

    def spool(self) -> Path:
        """A local folder in which a shard and its index are to be written."""

    def publish(self, spool: Path) -> None:
        """Put the files of such a folder in place; where that fails, they stay in it.

        Raises:
            OSError: If that fails.
        """

    def is_locked(self, name: str) -> bool:
        """Whether a process writes a file just now, as far as that can be known."""

    def left_spools(self) -> list[Path]:
        """Folders of `spool` with shards of this trace whose writers' processes have ended."""

    def take_over(self, spool: Path) -> None:
        """Put what is in such a folder in place, and remove it.

        Raises:
            OSError: If that fails; the folder then stays as it was.
        """

    def copied(self, names: Iterable[str], *, back: bool = False) -> AbstractContextManager[LocalDirectory]:
        """Some files in a local directory, those that there are.

        Args:
            names: Which ones.
            back: Whether what is changed, added or removed in the directory is to be so here, too.
        """

    def each(self, function: Callable[[_In], _Out], items: Iterable[_In]) -> list[_Out]:
        """What a function that reads files makes of each item; at the same time, where files are far away."""


def location_of(path: str | os.PathLike[str]) -> Location:
    """The location that a path or a URL names.

    Raises:
        ArgumentTypeError: If it is neither.
        OptionError: If it is empty, or the URL is none that can be used.
        MissingDependencyError: If its scheme needs a package that is not installed.
        StoreError: If the object store cannot be used.
    """
    text = directory_text(path)
    if _LOST_SLASH.match(text):
        raise OptionError(f"expected a directory, or a URL as text with two slashes, got {text!r}; Path takes one away")
    if "://" not in text:
        return LocalDirectory(Path(path))
    if text.startswith("file://"):
        url = urlsplit(text)
        if url.netloc not in ("", "localhost"):
            raise OptionError(f"expected the URL of a directory with three slashes, 'file:///path', got {text!r}")
        return LocalDirectory(Path(url2pathname(url.path)))
    # Late: a local trace needs none of it.
    from vecrollout.storage.store import ObjectStore

    return ObjectStore(text)
