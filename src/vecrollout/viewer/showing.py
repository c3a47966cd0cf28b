"""Any value of a trace as something that JSON holds and a page can show, within limits."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import islice
from typing import Any

import numpy as np

from vecrollout.data.array_tree import ArrayTree

_MOST_TEXT = 2000
_MOST_ENTRIES = 100
_MOST_NUMBERS = 1000
_DEEPEST = 6
_EXACT = 2**53


def showable(value: Any, depth: int = 0) -> Any:
    """A dict, a list, a number, or text. What is too long is cut, and ends in an ellipsis."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, int):
        return value if abs(value) < _EXACT else str(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, str):
        return _cut(value)
    if isinstance(value, np.ndarray) and value.size > _MOST_NUMBERS:
        return f"{value.dtype}, shape {value.shape}"
    if isinstance(value, np.ndarray):
        return _cut(
            f"{np.array2string(value, threshold=32, precision=5, separator=', ')}  ({value.dtype}, shape {value.shape})"
        )
    if isinstance(value, Mapping | ArrayTree) and depth < _DEEPEST:
        return _entries(value, depth)
    if isinstance(value, list | tuple) and depth < _DEEPEST:
        found = [showable(each, depth + 1) for each in value[:_MOST_ENTRIES]]
        return [*found, "…"] if len(value) > _MOST_ENTRIES else found
    return _cut(repr(value))


def _entries(value: Any, depth: int) -> dict[str, Any]:
    items = value.items()
    found = {_cut(str(key)): showable(each, depth + 1) for key, each in islice(items, _MOST_ENTRIES)}
    return {**found, "…": f"{len(items) - _MOST_ENTRIES} more"} if len(items) > _MOST_ENTRIES else found


def _cut(text: str) -> str:
    return text if len(text) <= _MOST_TEXT else f"{text[:_MOST_TEXT]}…"
