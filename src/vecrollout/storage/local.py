"""A trace in a local directory."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from vecrollout.errors import DamagedTraceError
from vecrollout.storage.arrow import ArrowErrors, pa
from vecrollout.storage.format import make_directory, write_whole
from vecrollout.storage.files.locks import is_locked

_In = TypeVar("_In")
_Out = TypeVar("_Out")


class MappedFile:
    """A local file, mapped into memory: what is read of it are views.

    Args:
        path: The file.

    Raises:
        DamagedTraceError: If it is not there, or is empty.
    """

    def __init__(self, path: Path) -> None:
        self.name = path.name
        try:
            self.arrow_file: Any = pa.memory_map(str(path))
        except ArrowErrors as error:
            raise DamagedTraceError(f"{path.name}: expected a shard, got no schema: {error}") from error
        self.size = int(self.arrow_file.size())

    def read(self, begin: int, end: int, reach: int = 0) -> Any:
        """The bytes from `begin` up to `end`, fewer where the file ends before, as a `pyarrow.Buffer`."""
        self.arrow_file.seek(begin)
        return self.arrow_file.read_buffer(max(0, end - begin))


class LocalDirectory:
    """A directory of traces; a `Location`."""

    appends = True

    def __init__(self, path: Path) -> None:
        self.path = path

    def __str__(self) -> str:
        return str(self.path)

    def make(self) -> None:
        """Make the directory where it does not exist.

        Raises:
            TraceWriteError: If that fails, or nothing can be written there.
        """
        make_directory(self.path)

    def sizes(self) -> dict[str, int]:
        """Names of the files and their sizes in bytes.

        Raises:
            DamagedTraceError: If there is no such directory.
        """
        found = {}
        try:
            with os.scandir(self.path) as files:
                for file in files:
                    try:
                        found[file.name] = file.stat().st_size
                    except FileNotFoundError:  # a temporary one, renamed by now
                        continue
        except OSError as error:
            raise DamagedTraceError(f"{self.path}: expected a directory of traces: {error}") from error
        return found

    def size(self, name: str) -> int:
        """Size of a file in bytes.

        Raises:
            DamagedTraceError: If there is none.
        """
        try:
            return (self.path / name).stat().st_size
        except OSError as error:
            raise DamagedTraceError(f"{name}: expected a file, got none: {error}") from error

    def read(self, name: str) -> bytes:
        """All of a small file.

        Raises:
            DamagedTraceError: If it cannot be read.
        """
        try:
            return (self.path / name).read_bytes()
        except OSError as error:
            raise DamagedTraceError(f"{name}: expected a file, got none: {error}") from error

    def open(self, name: str) -> MappedFile:
        """A file, for reading some of it.

        Raises:
            DamagedTraceError: If it is not there, or is empty.
        """
        return MappedFile(self.path / name)

    def write(self, name: str, content: bytes) -> None:
        """Put a small file in place, whole.

        Raises:
            OSError: If it cannot be written; what was there before stays.
        """
        write_whole(self.path / name, content)

    def remove(self, name: str) -> None:
        """Remove a file.

        Raises:
            OSError: If that fails.
        """
        (self.path / name).unlink()

    def spool(self) -> Path:
        """The directory that a shard is to be written in."""
        return self.path

    def publish(self, spool: Path) -> None:
        """Nothing to do: what was written in `spool` is in its place."""

    def is_locked(self, name: str) -> bool:
        """Whether a process writes a file just now, as far as the system tells."""
        return is_locked(self.path / name)

    def left_spools(self) -> list[Path]:
        """None: what was written is in its place."""
        return []

    def take_over(self, spool: Path) -> None:
        """Nothing to do."""

    @contextmanager
    def copied(self, names: Iterable[str], *, back: bool = False) -> Iterator[LocalDirectory]:
        """The directory itself: its files can be worked on as they are."""
        yield self

    def each(self, function: Callable[[_In], _Out], items: Iterable[_In]) -> list[_Out]:
        """What a function that reads files makes of each item."""
        return [function(item) for item in items]
