"""NumPy's dtypes, arrays and scalars from the parts that they are pickled as, without running code of the file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from vecrollout._typing import Array
from vecrollout.data.dtypes import dtype_from_json

RECONSTRUCT = {"numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct"}
SCALAR = {"numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar"}
FROM_BUFFER = {"numpy.core.numeric._frombuffer", "numpy._core.numeric._frombuffer"}
DTYPE = "numpy.dtype"

_MAX_DIMENSIONS = 32


def dtype_of(name: Any, state: Any) -> np.dtype[Any]:
    """A dtype from its short name, such as `f4`, and the state that `dtype.__reduce__` returns.

    Raises:
        ValueError: If it is no dtype of numbers, text, times or objects.
    """
    if type(name) is not str:
        raise ValueError(f"expected the name of a dtype, got {name!r:.100}")
    if name.startswith("O"):
        return np.dtype(object)
    order = state[1] if state else "|"
    if name in ("M8", "m8"):
        unit, count = state[8][1][:2]
        unit = unit.decode() if isinstance(unit, bytes) else unit
        name += "" if unit == "generic" else f"[{int(count)}{unit}]"
    return dtype_from_json(name if order in ("|", "=") else f"{order}{name}")


def array_of(shape: Any, dtype: Any, fortran: Any, data: Any) -> Array:
    """An array from its bytes, or from a list of its objects.

    Raises:
        ValueError: If the parts do not fit together.
    """
    sides = tuple(shape) if isinstance(shape, Sequence) else (shape,)
    if len(sides) > _MAX_DIMENSIONS or not all(type(side) is int and side >= 0 for side in sides):
        raise ValueError(f"expected a shape, got {shape!r:.100}")
    if not isinstance(dtype, np.dtype):
        raise ValueError(f"expected a dtype, got {dtype!r:.100}")
    if dtype.hasobject:
        objects: Array = np.fromiter(data, dtype=object, count=len(data))
        return objects.reshape(sides, order="F" if fortran else "C")
    needed = math.prod(sides) * dtype.itemsize
    # Items without bytes could be any number.
    endless = not dtype.itemsize and math.prod(sides) > 1
    if endless or not isinstance(data, bytes | bytearray) or len(data) != needed:
        raise ValueError(f"expected {needed} bytes for the shape {sides} and dtype {dtype}")
    array: Array = np.ndarray(sides, dtype, data, order="F" if fortran else "C")
    return np.array(array)


def scalar_of(dtype: Any, data: Any) -> Any:
    """A scalar from its bytes.

    Raises:
        ValueError: If the parts do not fit together.
    """
    return array_of((), dtype, False, data)[()]
