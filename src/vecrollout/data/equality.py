"""Equality that always answers: True or False, whatever is compared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np


def same(a: Any, b: Any) -> bool:
    """Whether two things are equal; never raises, whatever they hold."""
    try:
        return _same(a, b)
    except Exception:
        # A payload's own `==` may raise anything, and payloads that contain themselves end in a RecursionError.
        return False


def same_arrays(a: Any, b: Any) -> bool:
    """`same` for two arrays, or what NumPy can make arrays of; without the shortcut for one and the same object."""
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
    # Whatever gives arrays (a tensor, a data frame) has an `==` that answers element by element.
    if any(hasattr(each, "__array__") and not isinstance(each, np.generic) for each in (a, b)):
        return _same_arrays(np.asarray(a), np.asarray(b))
    return bool(a == b)


def _same_arrays(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> bool:
    if a.shape != b.shape:
        return False
    if a.dtype == object or b.dtype == object:
        return all(map(_same, a.flat, b.flat))
    return bool(np.array_equal(a, b))
