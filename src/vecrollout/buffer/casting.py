"""Which dtypes hold all values of others, and casts that lose none."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from vecrollout._typing import Array

_NUMBERS = "biufc"


def common_dtype(column: np.dtype[Any], dtype: np.dtype[Any], is_held: bool) -> np.dtype[Any] | None:
    """A dtype for values of both; None where a value might be lost.

    NumPy takes float64 for one that holds all 64-bit integers. It does up to 2**53: `cast_exactly` looks at the values.
    Those of a column that is held are not looked at again.
    """
    kinds = column.kind + dtype.kind
    if column.hasobject or dtype.hasobject or (column.kind != dtype.kind and not all(k in _NUMBERS for k in kinds)):
        return None
    try:
        common = np.promote_types(column, dtype)
    except TypeError:
        return None
    if not (np.can_cast(column, common) and np.can_cast(dtype, common)):
        return None
    return None if is_held and _may_round(column, common) else common


def cast_exactly(array: Array, dtype: np.dtype[Any], may_round: bool = False) -> Array | None:
    """The array in another dtype; None if values change. Floats may lose precision if `may_round`."""
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", np.exceptions.ComplexWarning)
        try:
            cast = array.astype(dtype, casting="unsafe")
        except (TypeError, ValueError):
            return None
        if np.can_cast(array.dtype, dtype) and not _may_round(array.dtype, dtype):
            return cast
        if may_round and dtype.kind in "fc" and array.dtype.kind in "biu" + ("fc" if dtype.kind == "c" else "f"):
            return cast
        return cast if np.array_equal(cast.astype(array.dtype), array) else None


def _may_round(dtype: np.dtype[Any], other: np.dtype[Any]) -> bool:
    return dtype.kind in "iu" and dtype.itemsize > 4 and other.kind in "fc"
