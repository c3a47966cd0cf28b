"""Objects below a URL, through pyarrow's file systems or fsspec's."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vecrollout.errors import DamagedTraceError, MissingDependencyError, OptionError, StoreError, TraceNotFoundError
from vecrollout.storage.arrow import pa
from vecrollout.storage.files.names import is_file_name
from vecrollout.storage.files.source import RangedFile

_NATIVE = ("s3", "gs", "gcs", "abfs", "abfss", "hdfs", "viewfs")
"""Schemes that pyarrow speaks itself."""

_COPIED_BYTES = 8 << 20
"""What is copied at once."""


class Objects:
    """What lies below a URL. All methods raise `StoreError` if the store fails."""

    def __init__(self, url: str) -> None:
        # Late: a local trace needs none of it.
        from pyarrow import fs

        self.url = url
        self._types = fs.FileType
        self._selector = fs.FileSelector
        self._fsspec: Any = None
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
        return shown(self.url)

    def make(self) -> None:
        """Make the directory in file systems that have such; object stores have none."""
        if self._fsspec is not None:
            with self._asking():
                self._fs.create_dir(self._prefix, recursive=True)

    def sizes(self, *, recursive: bool = False) -> dict[str, int]:
        """Names of the objects and their sizes in bytes; with slashes for those further below."""
        if self._fsspec is not None:
            self._fsspec.invalidate_cache()
        try:
            with self._asking():
                found = self._fs.get_file_info(self._selector(self._prefix, recursive=recursive))
        except DamagedTraceError as error:
            raise TraceNotFoundError(f"{self}: expected a directory of traces, got nothing") from error
        objects = [info for info in found if info.type == self._types.File]
        return {info.path.removeprefix(self._at("")) if recursive else info.base_name: info.size for info in objects}

    def size(self, name: str) -> int:
        """Size of an object in bytes, now."""
        with self._asking(name):
            info = self._fs.get_file_info(self._at(name))
        if info.type != self._types.File:
            raise DamagedTraceError(f"{name}: expected an object in {self}, got none")
        return int(info.size)

    def read(self, name: str) -> bytes:
        """All of a small object."""
        with self._asking(name), self._fs.open_input_stream(self._at(name)) as file:
            content: bytes = file.read()
        return content

    def open(self, name: str) -> RangedFile:
        """An object, for reading some of it."""
        path = self._at(name)
        if self._fsspec is not None:
            # Its files read ahead up to 50 MB; this gives what is asked for.
            return self._ranged(name, self.size(name), lambda a, b: self._fsspec.cat_file(path, a, b))
        with self._asking(name):
            file = self._fs.open_input_file(path)
            size = int(file.size())
        return self._ranged(name, size, lambda a, b: file.read_at(b - a, a))

    def write(self, name: str, content: bytes) -> None:
        """Put an object; if that fails, what was there before stays."""
        with self._asking(name), self._fs.open_output_stream(self._at(name)) as sink:
            sink.write(content)

    def remove(self, name: str) -> None:
        """Remove an object."""
        with self._asking(name):
            self._fs.delete_file(self._at(name))

    def rename(self, name: str, other: str) -> None:
        """Give an object another name."""
        with self._asking(name):
            self._fs.move(self._at(name), self._at(other))

    def put(self, path: Path) -> None:
        """Put a file under its own name."""
        with (
            self._asking(path.name),
            path.open("rb") as file,
            self._fs.open_output_stream(self._at(path.name)) as sink,
        ):
            shutil.copyfileobj(file, sink, _COPIED_BYTES)

    def fetch(self, name: str, path: Path) -> None:
        """Make a file of an object; none is made where there is no such object."""
        with self._asking(name), self._fs.open_input_stream(self._at(name)) as file, path.open("xb") as sink:
            shutil.copyfileobj(file, sink, _COPIED_BYTES)

    def _at(self, name: str) -> str:
        return f"{self._prefix}/{name}"

    def _ranged(self, name: str, size: int, fetch: Any) -> RangedFile:
        def fetched(begin: int, end: int) -> bytes:
            with self._asking(name):
                content: bytes = fetch(begin, end)
            return content

        return RangedFile(name, size, fetched)

    @contextlib.contextmanager
    def _asking(self, name: str = "") -> Iterator[None]:
        """Within, a failure is an error that names the store: `DamagedTraceError` if the object is missing."""
        try:
            yield
        except FileNotFoundError as error:
            raise DamagedTraceError(f"{name}: expected an object in {self}, got none: {error}") from error
        except Exception as error:  # of fsspec's file systems each raises what its own library does
            raise StoreError(f"{self}: {name or 'listing'}: the object store failed: {error}") from error


def upload(directory: Path, url: str) -> None:
    """Copy the files of a directory to below a URL; folders, and files whose names begin with a dot, are left out."""
    store = Objects(url)
    if not directory.is_dir():
        raise DamagedTraceError(f"{directory}: expected a directory, got none")
    files = [path for path in sorted(directory.iterdir()) if path.is_file() and not path.name.startswith(".")]
    if not files:
        raise DamagedTraceError(f"{directory}: expected the files of a recording, got none")
    for path in files:
        store.put(path)


def download(url: str, directory: Path) -> None:
    """Copy what is below a URL into an empty directory."""
    store = Objects(url)
    # All levels: a name that leads elsewhere looks like a folder.
    names = store.sizes(recursive=True)
    wrong = [name for name in names if not is_file_name(name)]
    if wrong:
        raise DamagedTraceError(f"{store}: expected names of files, got {wrong[:4]}")
    for name in names:
        store.fetch(name, directory / name)


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


def shown(place: Path | str) -> str:
    """The text of a path, or of a URL without passwords and options."""
    text = str(place)
    if isinstance(place, Path) or "://" not in text:
        return text
    scheme, _, rest = text.partition("://")
    host, slash, path = rest.partition("?")[0].partition("/")
    user, _, server = host.rpartition("@")
    return f"{scheme}://{server if ':' in user else host}{slash}{path}"
