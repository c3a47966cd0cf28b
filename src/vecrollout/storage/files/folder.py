"""Where a trace lies: a local directory or, by a URL, a prefix in an object store."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeAlias, TypeVar
from urllib.parse import urlsplit
from urllib.request import url2pathname

from vecrollout.data.checks import directory_text, local_path
from vecrollout.errors import DamagedTraceError, OptionError, TraceNotFoundError
from vecrollout.storage.files.journal import merged
from vecrollout.storage.files.locks import KNOWS_LOCKS, is_locked, lock
from vecrollout.storage.files.names import journal_of, shard_of
from vecrollout.storage.files.objects import Objects
from vecrollout.storage.files.source import MappedFile, RangedFile, regular_size
from vecrollout.storage.files.whole import make_directory, write_whole

_In = TypeVar("_In")
_Out = TypeVar("_Out")

File: TypeAlias = MappedFile | RangedFile

# A URL that went through `Path`. A drive of Windows has one letter only.
_LOST_SLASH = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/(?!/)")

_REQUESTS = 16
"""How many small objects are asked for at the same time."""

_SPOOL = "vecrollout-spool-"


def place_of(path: str | os.PathLike[str]) -> Path | str:
    """The absolute path that a path means now, with `~` expanded; the URL of an object store as it is."""
    text = directory_text(path)
    if _LOST_SLASH.match(text):
        raise OptionError(f"expected a directory, or a URL as text with two slashes, got {text!r}; Path takes one away")
    if text.startswith("file://"):
        url = urlsplit(text)
        if url.netloc not in ("", "localhost"):
            raise OptionError(f"expected the URL of a directory with three slashes, 'file:///path', got {text!r}")
        return Path(url2pathname(url.path))
    return text if "://" in text else local_path(text)


def folder_of(path: str | os.PathLike[str]) -> Folder:
    """The folder that a path or a URL names; a relative path means the one that it names now."""
    place = place_of(path)
    return Folder(Objects(place) if isinstance(place, str) else place)


class Folder:
    """The files of a trace, by name. Local files are mapped and appended to, objects are put and fetched whole."""

    def __init__(self, place: Path | Objects) -> None:
        self._local = place if isinstance(place, Path) else None
        self._objects = None if isinstance(place, Path) else place
        self.path: Path | str = place if isinstance(place, Path) else place.url
        """The absolute path of a directory, or a URL."""
        # Of folders whose files are not in the store yet: locked until they are, or the process ends.
        self._locks: dict[Path, int] = {}

    def __str__(self) -> str:
        return str(self._local or self._objects)

    @property
    def appends(self) -> bool:
        """Whether files can grow: those of a local directory."""
        return self._local is not None

    def make(self) -> None:
        """Make it where it does not exist, and see whether files can be written there."""
        if self._objects is not None:
            self._objects.make()
        elif self._local is not None:
            make_directory(self._local)

    def sizes(self) -> dict[str, int]:
        """Names of the files and their sizes in bytes."""
        if self._objects is not None:
            return self._objects.sizes()
        found = {}
        try:
            with os.scandir(self._local) as files:
                for file in files:
                    try:
                        found[file.name] = file.stat().st_size
                    except FileNotFoundError:  # a temporary one, renamed by now, or a link to nothing
                        continue
        except FileNotFoundError as error:
            raise TraceNotFoundError(f"{self}: expected a directory of traces, got none: {error}") from error
        except OSError as error:
            raise DamagedTraceError(f"{self}: expected a directory of traces: {error}") from error
        return found

    def size(self, name: str) -> int:
        """Size of a file in bytes, now."""
        if self._objects is not None:
            return self._objects.size(name)
        return regular_size(self._at(name))

    def read(self, name: str) -> bytes:
        """All of a small file."""
        if self._objects is not None:
            return self._objects.read(name)
        regular_size(self._at(name))
        try:
            return self._at(name).read_bytes()
        except OSError as error:
            raise DamagedTraceError(f"{name}: expected a file that can be read: {error}") from error

    def open(self, name: str) -> File:
        """A file, for reading some of it."""
        return MappedFile(self._at(name)) if self._objects is None else self._objects.open(name)

    def write(self, name: str, content: bytes) -> None:
        """Put a small file in place, whole; if that fails, what was there before stays."""
        if self._objects is not None:
            self._objects.write(name, content)
        else:
            write_whole(self._at(name), content)

    def remove(self, name: str) -> None:
        """Remove a file."""
        if self._objects is not None:
            self._objects.remove(name)
        else:
            self._at(name).unlink()

    def rename(self, name: str, other: str) -> None:
        """Give a file another name."""
        if self._objects is not None:
            self._objects.rename(name, other)
        else:
            self._at(name).replace(self._at(other))

    def put(self, path: Path) -> None:
        """Copy a file of `spool` here; nothing to do in a local directory, where it is in its place."""
        if self._objects is not None:
            self._objects.put(path)

    def spool(self) -> Path:
        """Where shards are written: the local directory itself, or a new temporary folder, which is locked."""
        if self._local is not None:
            return self._local
        folder = Path(tempfile.mkdtemp(prefix=_SPOOL))
        with contextlib.suppress(OSError):  # not everywhere can a folder be opened
            self._locks[folder] = os.open(folder, os.O_RDONLY)
            lock(self._locks[folder])
        return folder

    def remove_spool(self, spool: Path) -> None:
        """Remove such a temporary folder."""
        if self._local is None:
            shutil.rmtree(spool)
            if spool in self._locks:
                os.close(self._locks.pop(spool))

    def is_locked(self, name: str) -> bool:
        """Whether a process writes a file just now, as far as the system tells; an object is there when it is whole."""
        return self._local is not None and is_locked(self._at(name))

    def left_spools(self) -> list[Path]:
        """Folders of `spool` with journals of writers that have one here, and whose processes have ended."""
        if self._objects is None or not KNOWS_LOCKS:
            return []
        here = {name for name in self.sizes() if journal_of(name)}
        folders = sorted(Path(tempfile.gettempdir()).glob(f"{_SPOOL}*"))
        return [folder for folder in folders if not here.isdisjoint(_names(folder)) and not is_locked(folder)]

    def take_over(self, spool: Path) -> None:
        """Put the shards of such a folder that are not here, and what its journal says of them, and remove it."""
        here = self.sizes()
        names = sorted(_names(spool))
        for name in names:
            if shard_of(name) and name not in here:
                self.put(spool / name)
        for name in names:
            if journal_of(name):
                self.write(name, merged(self.read(name) if name in here else b"", (spool / name).read_bytes()))
        shutil.rmtree(spool)

    @contextlib.contextmanager
    def copied(self, names: Iterable[str]) -> Iterator[Path]:
        """A local directory with some of the files: the folder itself, or a temporary one with copies."""
        if self._objects is None:
            yield self._at("")
            return
        with tempfile.TemporaryDirectory(prefix="vecrollout-copy-") as folder:
            for name in names:
                with contextlib.suppress(DamagedTraceError):  # missing here, missing there
                    self._objects.fetch(name, Path(folder) / name)
            yield Path(folder)

    def each(self, function: Callable[[_In], _Out], items: Iterable[_In]) -> list[_Out]:
        """What a function that reads files makes of each item; at the same time, where files are far away."""
        if self._objects is None:
            return [function(item) for item in items]
        with ThreadPoolExecutor(_REQUESTS, "vecrollout-store") as pool:
            return list(pool.map(function, items))

    def _at(self, name: str) -> Path:
        return (self._local or Path()) / name


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:  # another user's, or removed by now
        return []
