"""A writer's manifest: which shards it finished, and what is said about the trace as a whole."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from vecrollout.errors import DamagedTraceError
from vecrollout.storage.arrow import checksum
from vecrollout.storage.format import FORMAT_VERSION, SHARD_NAME, check_version, manifest_name, parsed
from vecrollout.storage.location import Location


@dataclass(frozen=True)
class ShardEntry:
    """What a manifest says about a finished shard."""

    file: str
    """The shard's name."""
    bytes: int
    """Its size."""
    rows: int
    trajectories: int
    index_xxh3_64: str
    """Checksum of its index's file."""
    xxh3_64: str | None = None
    """Checksum of the checksums in its index, for where that is lost; None: unknown."""


@dataclass(frozen=True)
class Manifest:
    """A writer's finished shards, in order, and what it said about the trace."""

    writer: str
    """The writer's name."""
    about: Mapping[str, Any]
    """Spaces, versions, the user's metadata."""
    shards: tuple[ShardEntry, ...] = ()
    closed: bool = False
    """Whether the writer was closed: it then has no other shards."""

    def adding(self, entry: ShardEntry) -> Manifest:
        """The manifest with one more shard."""
        return replace(self, shards=(*self.shards, entry))

    def write(self, location: Location) -> None:
        """Put the manifest in place, whole.

        Raises:
            OSError: If it cannot be written; what was there before stays.
        """
        document = {
            "format_version": FORMAT_VERSION,
            "writer": self.writer,
            "closed": self.closed,
            **self.about,
            "shards": [vars(entry) for entry in self.shards],
        }
        document["xxh3_64"] = _checksum(document)
        location.write(manifest_name(self.writer), json.dumps(document, indent=1).encode())

    @classmethod
    def read(cls, location: Location, name: str) -> Manifest:
        """The manifest in a file.

        Raises:
            TraceVersionError: If a newer version of the package wrote it.
            DamagedTraceError: If it is none.
            StoreError: If an object store fails.
        """
        document = parsed(location.read(name), name)
        check_version(document, name)
        if document.pop("xxh3_64", None) != _checksum(document):
            raise DamagedTraceError(f"{name}: altered since it was written, its checksum differs")
        try:
            shards = tuple(ShardEntry(**entry) for entry in document.pop("shards"))
            writer, closed = str(document.pop("writer")), bool(document.pop("closed"))
        except (LookupError, TypeError) as error:
            raise DamagedTraceError(f"{name}: expected a writer and its shards: {error!r}") from error
        del document["format_version"]
        if manifest_name(writer) != name or not all(_is_sound(entry, writer) for entry in shards):
            raise DamagedTraceError(f"{name}: expected shards of this writer with their sizes, got {shards}")
        return cls(writer, document, shards, closed)


def _checksum(document: dict[str, Any]) -> str:
    """Of the document's content, however it is laid out."""
    return checksum(json.dumps(document, sort_keys=True, separators=(",", ":")).encode())


def _is_sound(entry: ShardEntry, writer: str) -> bool:
    numbers = (entry.bytes, entry.rows, entry.trajectories)
    texts = (entry.file, entry.index_xxh3_64, entry.xxh3_64 or "")
    # A name only: a path could lead out of the directory.
    return (
        all(type(number) is int and number >= 0 for number in numbers)
        and all(type(text) is str for text in texts)
        and (match := SHARD_NAME.fullmatch(entry.file)) is not None
        and match["writer"] == writer
    )
