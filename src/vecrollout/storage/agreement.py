"""What several traces have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vecrollout.data.equality import same
from vecrollout.errors import SpaceMismatchError


def agreed(name: str, values: Sequence[Any]) -> Any:
    """The value that all given ones are equal to; None if there are none."""
    told = [value for value in values if value is not None]
    for value in told[1:]:
        if not same(value, told[0]):
            raise SpaceMismatchError(
                f"{name}: expected the same in all traces, got {told[0]} and {value}; `about(number)` tells that of a "
                "trajectory, and `select` takes those of one kind"
            )
    return told[0] if told else None


def common_entries(all_metadata: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Entries of metadata that all have in common."""
    first, *others = all_metadata or [{}]
    return {key: value for key, value in first.items() if all(key in it and same(it[key], value) for it in others)}
