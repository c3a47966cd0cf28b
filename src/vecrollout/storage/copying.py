"""The files of a directory copied to an object store, and back."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from vecrollout.errors import DamagedTraceError, OptionError
from vecrollout.storage.arrow import pa
from vecrollout.storage.format import is_file_name

_COPIED_BYTES = 8 << 20
"""What is copied at once."""


def upload(directory: Path, url: str) -> None:
    """Copy the files of a directory to below a URL; folders, and files whose names begin with a dot, are left out.

    Args:
        directory: The directory.
        url: Such as `s3://bucket/path`, with options as `pyarrow.fs.FileSystem.from_uri` knows them.

    Raises:
        OptionError: If the URL is none.
        OSError: If a file cannot be read, or the object store fails; some files may be there then.
    """
    store, base = _opened(url)
    for path in sorted(directory.iterdir()):
        if path.is_file() and not path.name.startswith("."):
            with path.open("rb") as file, store.open_output_stream(f"{base}/{path.name}") as sink:
                shutil.copyfileobj(file, sink, _COPIED_BYTES)


def download(url: str, directory: Path) -> None:
    """Copy what is below a URL into a directory.

    Args:
        url: As for `upload`.
        directory: Where to; exists, and is empty.

    Raises:
        OptionError: If the URL is none.
        DamagedTraceError: If there is nothing, or something whose name is none of a file in a directory.
        OSError: If the object store fails, or a file cannot be written.
    """
    from pyarrow import fs

    store, base = _opened(url)
    try:
        # All levels: a name that leads elsewhere looks like a folder.
        found = store.get_file_info(fs.FileSelector(base, recursive=True))
    except FileNotFoundError as error:
        raise DamagedTraceError(f"{base}: expected a recording in the object store, got nothing: {error}") from error
    names = [info.path.removeprefix(f"{base}/") for info in found if info.type == fs.FileType.File]
    wrong = [name for name in names if not is_file_name(name)]
    if wrong:
        raise DamagedTraceError(f"{base}: expected names of files, got {wrong[:4]}")
    for name in names:
        with store.open_input_stream(f"{base}/{name}") as file, (directory / name).open("xb") as sink:
            shutil.copyfileobj(file, sink, _COPIED_BYTES)


def _opened(url: str) -> tuple[Any, str]:
    from pyarrow import fs

    try:
        store, base = fs.FileSystem.from_uri(url)
    except (ValueError, pa.ArrowException) as error:
        raise OptionError(f"expected a URL of an object store, got {url!r}: {error}") from error
    return store, base.rstrip("/")
