"""JSON in the metadata of a shard."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from vecrollout.errors import DamagedTraceError, TraceVersionError

FORMAT_VERSION = 1
"""Version of the format that is written; this one and all before it are read."""

METADATA_KEY = b"vecrollout"
"""Under this key a schema's and a field's metadata hold a JSON object."""


def parsed(text: str | bytes, where: str) -> dict[str, Any]:
    """A JSON object."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DamagedTraceError(f"{where}: expected a JSON object, got text that is none: {error}") from error
    if not isinstance(value, dict):
        raise DamagedTraceError(f"{where}: expected a JSON object, got {type(value).__name__}")
    return value


def field_metadata(field: Any) -> dict[str, Any]:
    """What a `pyarrow.Field` says for this package; empty where it says nothing."""
    text = (field.metadata or {}).get(METADATA_KEY)
    return {} if text is None else parsed(text, f"column {field.name!r}")


def check_version(document: Mapping[str, Any], where: str) -> None:
    """Refuse a format that a newer version of the package wrote."""
    version = document.get("format_version")
    if type(version) is not int or version < 1:
        raise DamagedTraceError(f"{where}: expected a format_version, got {version!r}")
    if version > FORMAT_VERSION:
        raise TraceVersionError(
            f"{where}: expected format version {FORMAT_VERSION} or older, got {version}; a newer vecrollout reads it"
        )
