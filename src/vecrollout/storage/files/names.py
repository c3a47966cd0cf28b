"""Names of a trace's files."""

from __future__ import annotations

import re
import secrets
import time
from datetime import UTC, datetime

_WRITER = r"\d{8}T\d{6}\.\d{9}Z-[0-9a-f]{16}"
SHARD_NAME = re.compile(rf"(?P<writer>{_WRITER})-(?P<number>\d{{6,18}})\.arrow")
JOURNAL_NAME = re.compile(rf"(?P<writer>{_WRITER})\.journal")

TEMPORARY_NAME = re.compile(rf"\.{_WRITER}(-\d{{6,}})?\.(journal|arrow)\.[0-9a-f]{{8}}\.tmp")
"""What a file is called before it is put in its place; one that stays is of a process that was killed."""


def new_writer_name() -> str:
    """A name that no other writer has: UTC to the nanosecond, so that names sort by time, and 64 random bits."""
    seconds, nanoseconds = divmod(time.time_ns(), 10**9)
    moment = datetime.fromtimestamp(seconds, UTC)
    return f"{moment:%Y%m%dT%H%M%S}.{nanoseconds:09d}Z-{secrets.token_hex(8)}"


def shard_name(writer: str, number: int) -> str:
    """File name of a writer's shard, counted from 0."""
    return f"{writer}-{number:06d}.arrow"


def journal_name(writer: str) -> str:
    """File name of a writer's journal."""
    return f"{writer}.journal"


def shard_of(name: str) -> tuple[str, int] | None:
    """Writer and number of a shard; None for another file."""
    match = SHARD_NAME.fullmatch(name)
    # A number has one name only.
    is_shard = match is not None and shard_name(match["writer"], int(match["number"])) == name
    return (match["writer"], int(match["number"])) if match is not None and is_shard else None


def journal_of(name: str) -> str | None:
    """Writer of a journal; None for another file."""
    match = JOURNAL_NAME.fullmatch(name)
    return match["writer"] if match else None


def is_of_trace(name: str) -> bool:
    """Whether a file of this name shows that there is a trace: a shard or a journal."""
    return shard_of(name) is not None or journal_of(name) is not None


def is_file_name(text: str) -> bool:
    """Whether a text names a file of a directory, and leads nowhere else on any system."""
    return text not in ("", ".", "..") and not set(text) & set("/\\:\0")
