"""NumPy's dtypes as JSON, and back."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np


@lru_cache
def dtype_to_json(dtype: np.dtype[Any]) -> Any:
    """`"<f4"` and the like; of a structured dtype, a list of its fields as in `numpy.lib.format`.

    Raises:
        ValueError: If NumPy's format has none like it, such as for the dtypes that other packages add.
    """
    packed = np.lib.format.dtype_to_descr(dtype)
    if np.lib.format.descr_to_dtype(packed) != dtype:
        raise ValueError(f"NumPy's format knows {dtype} as {packed!r} only")
    return packed


def dtype_from_json(packed: Any) -> np.dtype[Any]:
    """The dtype that `dtype_to_json` wrote.

    Raises:
        ValueError: If there is no such dtype.
    """
    try:
        dtype: np.dtype[Any] = np.lib.format.descr_to_dtype(_with_tuples(packed))
    except (TypeError, SyntaxError, LookupError, AttributeError) as error:
        raise ValueError(f"expected a dtype, got {packed!r}: {error}") from error
    return dtype


def _with_tuples(packed: Any) -> Any:
    """JSON has lists for the tuples that a field is, and for its shape."""
    if isinstance(packed, str):
        return packed
    return [(_name(each[0]), _with_tuples(each[1]), *(tuple(shape) for shape in each[2:])) for each in packed]


def _name(name: Any) -> Any:
    return tuple(name) if isinstance(name, list) else name
