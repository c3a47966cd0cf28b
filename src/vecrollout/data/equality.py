"""Equality that never raises."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np


def same(a: Any, b: Any) -> bool:
    """Whether two values of any kind are equal; values that cannot be compared are not."""
    try:
        return _same(a, b)
    except Exception:
        # A payload's own `==` may raise anything. A payload that contains itself ends in a RecursionError.
        return False


def same_arrays(a: Any, b: Any) -> bool:
    """Whether two arrays have equal shapes and values; unlike `same`, an array with NaN differs from itself."""
    try:
        return _same_arrays(np.asarray(a), np.asarray(b))
    except Exception:
        return False


def _same(a: Any, b: Any) -> bool:
    if a is b:
        return True
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(_same(a[key], b[key]) for key in a)
    for sequence in (list, tuple):
        if isinstance(a, sequence) and isinstance(b, sequence):
            return len(a) == len(b) and all(map(_same, a, b))
    # Tensors and data frames compare element by element too.
    if any(hasattr(each, "__array__") and not isinstance(each, np.generic) for each in (a, b)):
        return _same_arrays(np.asarray(a), np.asarray(b))
    return bool(a == b)


def _same_arrays(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> bool:
    if a.shape != b.shape:
        return False
    if a.dtype == object or b.dtype == object:
        return all(map(_same, a.flat, b.flat))
    return bool(np.array_equal(a, b))
