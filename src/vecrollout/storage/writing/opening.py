"""Prepares a directory for a writer: checks the spaces of earlier traces, or removes these traces."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from vecrollout.data.plain import dumps
from vecrollout.errors import DamagedTraceError, OptionError, ProtocolError, TraceNotFoundError
from vecrollout.storage.codec.spaces import RANDOM
from vecrollout.storage.files.folder import Folder
from vecrollout.storage.files.journal import header_of
from vecrollout.storage.files.names import TEMPORARY_NAME, is_of_trace, journal_of

_CHUNK_BYTES = 1 << 16


def remove_traces(folder: Folder) -> None:
    """Remove all traces of a folder."""
    remove_files(folder, removable_files(folder))


def removable_files(folder: Folder) -> list[str]:
    """The files of all traces of a folder, to which nobody writes."""
    names = sorted(name for name in _names(folder) if is_of_trace(name) or TEMPORARY_NAME.fullmatch(name))
    for name in names:
        if journal_of(name) and folder.is_locked(name):
            raise ProtocolError(f"overwrite: expected {folder} without a writer at work, got one that writes {name}")
    return names


def remove_files(folder: Folder, names: Iterable[str]) -> None:
    """Remove files of traces."""
    # Journals last: without its shards a trace is damaged, without its journal it is not there.
    for name in sorted(names, key=lambda each: journal_of(each) is None):
        folder.remove(name)


def check_spaces(folder: Folder, spaces: list[Any]) -> None:
    """Refuse spaces other than those of the latest trace in a folder that says which it has."""
    mine = json.loads(dumps(spaces))
    for name in sorted(filter(journal_of, _names(folder)), reverse=True):
        try:
            theirs = header_of(_first_line(folder, name)).get("spaces")
        except DamagedTraceError:
            continue  # reading the trace reports it
        if isinstance(theirs, list):
            if not _is_same(mine, theirs):
                raise OptionError(
                    f"spaces: expected those of the traces in {folder}, {_described(theirs)}, got {_described(mine)}; "
                    "choose another directory, or pass mix_spaces=True, or overwrite=True to remove these traces"
                )
            return


def _names(folder: Folder) -> Iterable[str]:
    """Names of the files, none in an object store in which nothing was written to this place."""
    try:
        return folder.sizes()
    except TraceNotFoundError:
        return ()


def _first_line(folder: Folder, name: str) -> bytes:
    """The first line of a journal, without the rest, which may be long."""
    file, end = folder.open(name), _CHUNK_BYTES
    while True:
        content = bytes(file.read(0, end))
        if b"\n" in content or len(content) < end:
            return content.partition(b"\n")[0]
        end *= 16


def _is_same(one: Any, other: Any) -> bool:
    """Whether packed spaces are the same, as far as their kinds are known."""
    if isinstance(one, dict) and isinstance(other, dict):
        if "unknown" in (one.get("kind"), other.get("kind")):
            return True
        names = one.keys() - {RANDOM}
        return names == other.keys() - {RANDOM} and all(_is_same(one[name], other[name]) for name in names)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_is_same, one, other))
    return bool(one == other)


def _described(spaces: Any) -> str:
    text = dumps(spaces)
    return text if len(text) < 300 else f"{text[:300]}..."
