"""Names and numbers of the on-disk format, and how its small files appear: whole or not at all."""

from __future__ import annotations

import json
import os
import re
import secrets
import tempfile
import time
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from vecrollout.errors import DamagedTraceError, TraceVersionError, TraceWriteError

FORMAT_VERSION = 1
"""Version of the format that is written; this one and all before it are read."""

METADATA_KEY = b"vecrollout"
"""Under this key a schema's and a field's metadata hold a JSON object."""

MAGIC = b"ARROW1\0\0"
"""The first bytes of an Arrow IPC file; behind them it reads as an IPC stream."""

SCHEMA_HEAD_BYTES = len(MAGIC) + 8
"""So many of a shard's first bytes tell where its schema ends."""

END_MAGIC = b"ARROW1"
"""The last bytes of an Arrow IPC file that was finished."""

_WRITER = r"\d{8}T\d{6}\.\d{9}Z-[0-9a-f]{16}"
SHARD_NAME = re.compile(rf"(?P<writer>{_WRITER})-(?P<number>\d{{6,}})\.arrow")
MANIFEST_NAME = re.compile(rf"(?P<writer>{_WRITER})\.json")

TEMPORARY_NAME = re.compile(rf"\.{_WRITER}(-\d{{6,}})?\.(json|index|arrow)(\.[0-9a-f]{{8}})?\.tmp")
"""What a file is called before it is put in its place; one that stays is of a process that was killed."""


def is_of_trace(name: str) -> bool:
    """Whether a file of this name shows that there is a trace: a shard or a manifest."""
    return SHARD_NAME.fullmatch(name) is not None or MANIFEST_NAME.fullmatch(name) is not None


def schema_end(head: bytes) -> int:
    """Where in a shard the first batch begins.

    Args:
        head: The shard's first `SCHEMA_HEAD_BYTES`.
    """
    return SCHEMA_HEAD_BYTES + int.from_bytes(head[-4:], "little")


def new_writer_name() -> str:
    """A name that no other writer has: UTC to the nanosecond, so that names sort by time, and 64 random bits."""
    seconds, nanoseconds = divmod(time.time_ns(), 10**9)
    moment = datetime.fromtimestamp(seconds, timezone.utc)
    return f"{moment:%Y%m%dT%H%M%S}.{nanoseconds:09d}Z-{secrets.token_hex(8)}"


def shard_name(writer: str, number: int) -> str:
    """File name of a writer's shard, counted from 0."""
    return f"{writer}-{number:06d}.arrow"


def index_name(shard: str) -> str:
    """File name of a shard's index."""
    return shard.removesuffix(".arrow") + ".index"


def sums_name(shard: str) -> str:
    """File name of the checksums of a shard that is not finished."""
    return shard.removesuffix(".arrow") + ".sums"


def manifest_name(writer: str) -> str:
    """File name of a writer's manifest."""
    return f"{writer}.json"


def is_file_name(text: str) -> bool:
    """Whether a text names a file of a directory, and leads nowhere else on any system."""
    return text not in ("", ".", "..") and not set(text) & set("/\\:\0")


def parsed(text: str | bytes, where: str) -> dict[str, Any]:
    """A JSON object.

    Raises:
        DamagedTraceError: If the text is none.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DamagedTraceError(f"{where}: expected a JSON object, got text that is none: {error}") from error
    if not isinstance(value, dict):
        raise DamagedTraceError(f"{where}: expected a JSON object, got {type(value).__name__}")
    return value


def check_version(document: Mapping[str, Any], where: str) -> None:
    """Refuse what a newer version of the package wrote.

    Raises:
        TraceVersionError: If the format is newer than `FORMAT_VERSION`.
        DamagedTraceError: If the document names no version.
    """
    version = document.get("format_version")
    if type(version) is not int or version < 1:
        raise DamagedTraceError(f"{where}: expected a format_version, got {version!r}")
    if version > FORMAT_VERSION:
        raise TraceVersionError(
            f"{where}: expected format version {FORMAT_VERSION} or older, got {version}; a newer vecrollout reads it"
        )


def make_directory(path: Path) -> None:
    """Make a directory where it does not exist, and see whether files can be written there.

    Raises:
        TraceWriteError: If it cannot be made, or nothing can be written there.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        # Permissions do not tell: the file system may be mounted for reading only.
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise TraceWriteError(f"{path}: expected a directory that can be written to: {error}") from error


def write_whole(path: Path, content: bytes) -> None:
    """Put a file in place so that, whatever happens, either the old one or all of the new one is there.

    Raises:
        OSError: If it cannot be written; what was there before stays.
    """
    # The name begins with a dot, so that no pattern for shards or manifests takes it for one.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Make the names of new files durable, where the system knows how to."""
    if os.name == "nt":
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
