"""A trace in an object store."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from pyarrow import fs

from vecrollout.errors import DamagedTraceError, MissingDependencyError, OptionError, StoreError
from vecrollout.storage.arrow import pa
from vecrollout.storage.format import MANIFEST_NAME, SHARD_NAME, manifest_name
from vecrollout.storage.local import LocalDirectory
from vecrollout.storage.files.locks import KNOWS_LOCKS, is_locked, lock
from vecrollout.storage.ranges import RangedFile

_In = TypeVar("_In")
_Out = TypeVar("_Out")

_NATIVE = ("s3", "gs", "gcs", "abfs", "abfss", "hdfs", "viewfs")
"""Schemes that pyarrow speaks itself."""

_REQUESTS = 16
"""How many small files are asked for at the same time."""

_SPOOL = "vecrollout-spool-"

_COPIED_BYTES = 8 << 20
"""What is copied at once."""


class ObjectStore:
    """What lies below a URL in an object store; a `Location`.

    Args:
        url: Of a scheme that pyarrow or fsspec knows.

    Raises:
        OptionError: If the URL is none that can be used.
        MissingDependencyError: If fsspec is needed and not installed, or something that fsspec needs.
        StoreError: If the object store cannot be used.
    """

    appends = False

    def __init__(self, url: str) -> None:
        self.path = url
        self._fsspec: Any = None
        # Of folders whose files are not here yet: held until they are, or the process ends.
        self._locks: dict[Path, int] = {}
        try:
            if url.startswith("s3://"):
                # A small object is then put with one request, not with three.
                url += f"{'&' if '?' in url else '?'}allow_delayed_open=true"
            if url.partition("://")[0] in _NATIVE:
                self._fs, prefix = fs.FileSystem.from_uri(url)
            else:
                self._fsspec, prefix = _fsspec_from(url)
                self._fs = fs.PyFileSystem(fs.FSSpecHandler(self._fsspec))
        except OSError as error:
            raise StoreError(f"{self}: the object store cannot be used: {error}") from error
        except (ValueError, pa.ArrowException) as error:
            raise OptionError(f"{self}: expected a URL of an object store: {error}") from error
        self._prefix = prefix.rstrip("/")
        if not self._prefix:
            raise OptionError(f"{self}: expected a URL that names a bucket or folder, got one that names none")

    def __str__(self) -> str:
        """The URL without passwords and options."""
        scheme, _, rest = self.path.partition("://")
        host, slash, path = rest.partition("?")[0].partition("/")
        user, _, server = host.rpartition("@")
        return f"{scheme}://{server if ':' in user else host}{slash}{path}"

    def make(self) -> None:
        """Make the directory in file systems that have such; object stores have none.

        Raises:
            StoreError: If that fails.
        """
        if self._fsspec is not None:
            with self._asking():
                self._fs.create_dir(self._prefix, recursive=True)

    def sizes(self, *, recursive: bool = False) -> dict[str, int]:
        """Names of the objects and their sizes in bytes.

        Args:
            recursive: Whether those further below, whose names have slashes, are named too.

        Raises:
            DamagedTraceError: If there are none.
            StoreError: If the object store fails.
        """
        if self._fsspec is not None:
            self._fsspec.invalidate_cache()
        try:
            with self._asking():
                found = self._fs.get_file_info(fs.FileSelector(self._prefix, recursive=recursive))
        except DamagedTraceError as error:
            raise DamagedTraceError(f"{self}: expected a directory of traces, got nothing") from error
        objects = [info for info in found if info.type == fs.FileType.File]
        if recursive:
            return {info.path.removeprefix(self._at("")): int(info.size) for info in objects}
        return {info.base_name: int(info.size) for info in objects}

    def size(self, name: str) -> int:
        """Size of an object in bytes.

        Raises:
            DamagedTraceError: If there is none.
            StoreError: If the object store fails.
        """
        with self._asking(name):
            info = self._fs.get_file_info(self._at(name))
        if info.type != fs.FileType.File:
            raise DamagedTraceError(f"{name}: expected an object in {self}, got none")
        return int(info.size)

    def read(self, name: str) -> bytes:
        """All of a small object.

        Raises:
            DamagedTraceError: If there is none.
            StoreError: If the object store fails.
        """
        with self._asking(name), self._fs.open_input_stream(self._at(name)) as file:
            content: bytes = file.read()
        return content

    def open(self, name: str) -> RangedFile:
        """An object, for reading some of it.

        Raises:
            DamagedTraceError: If there is none.
            StoreError: If the object store fails.
        """
        path = self._at(name)
        if self._fsspec is not None:
            # Its files read ahead up to 50 MB; this gives what is asked for.
            return self._ranged(name, self.size(name), lambda a, b: self._fsspec.cat_file(path, a, b))
        with self._asking(name):
            file = self._fs.open_input_file(path)
            size = int(file.size())
        return self._ranged(name, size, lambda a, b: file.read_at(b - a, a))

    def write(self, name: str, content: bytes) -> None:
        """Put an object.

        Raises:
            StoreError: If that fails; what was there before stays.
        """
        with self._asking(name), self._fs.open_output_stream(self._at(name)) as sink:
            sink.write(content)

    def remove(self, name: str) -> None:
        """Remove an object.

        Raises:
            StoreError: If that fails.
        """
        with self._asking(name):
            self._fs.delete_file(self._at(name))

    def put(self, path: Path) -> None:
        """Put a file.

        Raises:
            OSError: If the file cannot be read.
            StoreError: If the object store fails.
        """
        with (
            self._asking(path.name),
            path.open("rb") as file,
            self._fs.open_output_stream(self._at(path.name)) as sink,
        ):
            shutil.copyfileobj(file, sink, _COPIED_BYTES)

    def fetch(self, name: str, path: Path) -> None:
        """Make a file of an object.

        Raises:
            DamagedTraceError: If there is no such object; there is no file then.
            StoreError: If the object store fails.
        """
        with self._asking(name), self._fs.open_input_stream(self._at(name)) as file, path.open("xb") as sink:
            shutil.copyfileobj(file, sink, _COPIED_BYTES)

    def spool(self) -> Path:
        """A new folder below the system's one for temporary files; locked, so that nobody takes it for a dead one's."""
        folder = Path(tempfile.mkdtemp(prefix=_SPOOL))
        with contextlib.suppress(OSError):  # not everywhere can a folder be opened
            self._locks[folder] = os.open(folder, os.O_RDONLY)
            lock(self._locks[folder])
        return folder

    def publish(self, spool: Path) -> None:
        """Put the files of a folder, and remove it.

        Raises:
            StoreError: If that fails; the folder then stays as it was.
        """
        for path in sorted(spool.iterdir()):
            self.put(path)
        shutil.rmtree(spool)
        if spool in self._locks:
            os.close(self._locks.pop(spool))

    def is_locked(self, name: str) -> bool:
        """Never: an object is there when it is whole."""
        return False

    def left_spools(self) -> list[Path]:
        """Folders of `spool` with shards of writers that have a manifest here, and whose processes have ended."""
        if not KNOWS_LOCKS:
            return []
        manifests = {name for name in self.sizes() if MANIFEST_NAME.fullmatch(name)}
        folders = sorted(Path(tempfile.gettempdir()).glob(f"{_SPOOL}*"))
        return [folder for folder in folders if not manifests.isdisjoint(_manifests(folder)) and not is_locked(folder)]

    def take_over(self, spool: Path) -> None:
        """Put the shards of such a folder that are not here, and remove it.

        Raises:
            StoreError: If that fails; the folder then stays as it was.
        """
        here = self.sizes()
        for path in sorted(spool.iterdir()):
            # No manifest: that of the folder knows only of what is in it.
            if path.suffix in (".arrow", ".index") and not path.name.startswith(".") and path.name not in here:
                self.put(path)
        shutil.rmtree(spool)

    @contextlib.contextmanager
    def copied(self, names: Iterable[str], *, back: bool = False) -> Iterator[LocalDirectory]:
        """Some objects as files in a temporary directory.

        Args:
            names: Which ones.
            back: Whether what is changed, added or removed in the directory is to be so here, too.

        Raises:
            StoreError: If the object store fails.
        """
        with tempfile.TemporaryDirectory(prefix="vecrollout-copy-") as folder:
            directory = Path(folder)
            for name in names:
                with contextlib.suppress(DamagedTraceError):  # missing here, missing there
                    self.fetch(name, directory / name)
            before = _states(directory)
            yield LocalDirectory(directory)
            if back:
                after = _states(directory)
                # What is new comes first: it may be the copy of what is then replaced.
                for name in sorted(after, key=lambda name: (name in before, name)):
                    if after[name] != before.get(name):
                        self.put(directory / name)
                for name in sorted(before.keys() - after):
                    self.remove(name)

    def each(self, function: Callable[[_In], _Out], items: Iterable[_In]) -> list[_Out]:
        """What a function that reads objects makes of each item; for several items at the same time."""
        with ThreadPoolExecutor(_REQUESTS, "vecrollout-store") as pool:
            return list(pool.map(function, items))

    def _at(self, name: str) -> str:
        return f"{self._prefix}/{name}"

    def _ranged(self, name: str, size: int, fetch: Callable[[int, int], bytes]) -> RangedFile:
        def fetched(begin: int, end: int) -> bytes:
            with self._asking(name):
                return fetch(begin, end)

        return RangedFile(name, size, fetched)

    @contextlib.contextmanager
    def _asking(self, name: str = "") -> Iterator[None]:
        """Within, what goes wrong in the store is an error that says so.

        Raises:
            DamagedTraceError: If an object is missing.
            StoreError: If the object store fails.
        """
        try:
            yield
        except FileNotFoundError as error:
            raise DamagedTraceError(f"{name}: expected an object in {self}, got none: {error}") from error
        except Exception as error:  # of fsspec's file systems each raises what its own library does
            raise StoreError(f"{self}: {name or 'listing'}: the object store failed: {error}") from error


def _fsspec_from(url: str) -> tuple[Any, str]:
    try:
        from fsspec.core import url_to_fs
    except ImportError as error:
        scheme = url.partition("://")[0]
        raise MissingDependencyError(
            f"URLs of {scheme}:// need fsspec ({error}); install it with: pip install 'vecrollout[fsspec]'"
        ) from error
    try:
        file_system, path = url_to_fs(url)
    except ImportError as error:
        raise MissingDependencyError(f"fsspec needs another package for this URL: {error}") from error
    return file_system, str(path)


def _manifests(folder: Path) -> list[str]:
    """Names of the manifests that a folder's shards belong in."""
    try:
        matches = map(SHARD_NAME.fullmatch, os.listdir(folder))
    except OSError:  # another user's, or removed by now
        return []
    return [manifest_name(match["writer"]) for match in matches if match]


def _states(directory: Path) -> dict[str, tuple[int, int, int]]:
    states = {path.name: path.stat() for path in directory.iterdir()}
    return {name: (state.st_ino, state.st_mtime_ns, state.st_size) for name, state in states.items()}
