"""NumPy's dtypes as JSON, and back from JSON and from names."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

import numpy as np

# NumPy itself takes more, and divides by zero for some of it.
_GRAMMAR = re.compile(
    r"[<>|=]?(b1|[iu][1248]|f(2|4|8|12|16)|c(8|16|24|32)|O|[SUV]\d{1,9}|[mM]8(\[([1-9]\d{0,8})?[a-zA-Z]+\])?)"
)

_NAMES = {np.dtype(code).name: np.dtype(code) for code in "?bhilqBHILQefdgFDG"}
_TIMES = {"datetime64": "M8", "timedelta64": "m8"}

MAX_ITEM_BYTES = 1 << 30
"""The largest item of a dtype that is read."""


@lru_cache
def dtype_to_json(dtype: np.dtype[Any]) -> Any:
    """`"<f4"` and the like; of a structured dtype, a list of its fields as in `numpy.lib.format`."""
    packed = np.lib.format.dtype_to_descr(dtype)
    if np.lib.format.descr_to_dtype(packed) != dtype:
        raise ValueError(f"NumPy's format knows {dtype} as {packed!r} only")
    return packed


def dtype_from_json(packed: Any) -> np.dtype[Any]:
    """The dtype that `dtype_to_json` wrote; a `ValueError` for anything else."""
    try:
        dtype: np.dtype[Any] = np.lib.format.descr_to_dtype(_checked(packed))
    except (ValueError, TypeError, SyntaxError, LookupError, AttributeError, OverflowError, RecursionError) as error:
        raise ValueError(f"expected a dtype: {error}") from error
    if dtype.itemsize > MAX_ITEM_BYTES:
        raise ValueError(f"expected a dtype with items of at most {MAX_ITEM_BYTES} bytes, got {dtype}")
    return dtype


def dtype_from_name(name: Any) -> np.dtype[Any]:
    """The dtype that `str(dtype)` names, such as `"float32"`; a `ValueError` for anything else."""
    known = _NAMES.get(name) if isinstance(name, str) else None
    if known is not None:
        return known
    for long, short in _TIMES.items() if isinstance(name, str) else ():
        name = f"<{short}{name.removeprefix(long)}" if name.startswith(long) else name
    return dtype_from_json(name)


def _checked(packed: Any) -> Any:
    """The description with the tuples that JSON has lists for: a field, and its shape."""
    if isinstance(packed, str):
        if not _GRAMMAR.fullmatch(packed):
            raise ValueError(f"expected a dtype, got {packed!r:.200}")
        return packed
    if not isinstance(packed, list):
        raise ValueError(f"expected a dtype, got a {type(packed).__name__}")
    return [(_name(each[0]), _checked(each[1]), *map(_shape, each[2:])) for each in packed]


def _name(name: Any) -> Any:
    return tuple(name) if isinstance(name, list) else name


def _shape(shape: Any) -> tuple[int, ...]:
    if not all(type(length) is int and 0 <= length <= MAX_ITEM_BYTES for length in shape):
        raise ValueError(f"expected a shape, got {shape!r:.200}")
    return tuple(shape)
