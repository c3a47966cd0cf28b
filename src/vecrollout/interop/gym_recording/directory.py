"""The directory of a recording, and the files in it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

from vecrollout.data.checks import directory_text, local_path
from vecrollout.errors import OptionError


def local_directory(path: str | os.PathLike[str]) -> Path:
    """The path of a local directory; a URL is refused."""
    text = directory_text(path)
    if "://" in text:
        raise OptionError(
            f"directory: expected a local one for recordings in gym-recording's format, got {text!r}; "
            "vecrollout.compat.gym_recording.storage_s3 copies them to S3 and back"
        )
    return local_path(text)


def open_regular(path: Path) -> BinaryIO:
    """A file for reading; not a pipe or a device, which would wait or read for ever."""
    if not path.is_file():
        raise OSError(f"{path.name}: expected a regular file, there is none")
    return path.open("rb")
