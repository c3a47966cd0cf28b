"""The files of a directory copied to an object store, and back."""

from __future__ import annotations

from pathlib import Path

from vecrollout.errors import DamagedTraceError
from vecrollout.storage.format import is_file_name
from vecrollout.storage.local import LocalDirectory
from vecrollout.storage.store import ObjectStore


def upload(directory: Path, url: str) -> None:
    """Copy the files of a directory to below a URL; folders, and files whose names begin with a dot, are left out.

    Args:
        directory: The directory.
        url: Such as `s3://bucket/path`, with options as `pyarrow.fs.FileSystem.from_uri` knows them.

    Raises:
        OptionError: If the URL is none.
        DamagedTraceError: If there is no such directory, or nothing in it.
        OSError: If a file cannot be read.
        StoreError: If the object store fails; some files may be there then.
    """
    store = ObjectStore(url)
    paths = [directory / name for name in sorted(LocalDirectory(directory).sizes()) if not name.startswith(".")]
    files = [path for path in paths if path.is_file()]
    if not files:
        raise DamagedTraceError(f"{directory}: expected the files of a recording, got none")
    for path in files:
        store.put(path)


def download(url: str, directory: Path) -> None:
    """Copy what is below a URL into a directory.

    Args:
        url: As for `upload`.
        directory: Where to; exists, and is empty.

    Raises:
        OptionError: If the URL is none.
        DamagedTraceError: If there is nothing, or something whose name is none of a file in a directory.
        OSError: If a file cannot be written.
        StoreError: If the object store fails.
    """
    store = ObjectStore(url)
    # All levels: a name that leads elsewhere looks like a folder.
    names = store.sizes(recursive=True)
    wrong = [name for name in names if not is_file_name(name)]
    if wrong:
        raise DamagedTraceError(f"{store}: expected names of files, got {wrong[:4]}")
    for name in names:
        store.fetch(name, directory / name)
