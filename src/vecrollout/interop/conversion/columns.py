"""Arrays that a file has once for all trajectories, in one dtype."""

from __future__ import annotations

from typing import Any

import numpy as np

from vecrollout._typing import Array
from vecrollout.errors import DtypeError, StructureError


class OneDtype:
    """Gives each array of a name the dtype that the first one had, where that loses nothing."""

    def __init__(self) -> None:
        self.changes: dict[str, str] = {}
        """What dtypes changed, by name of the array."""
        self._dtypes: dict[str, np.dtype[Any]] = {}

    def cast(self, name: str, array: Array) -> Array:
        """The array in the dtype of its name."""
        dtype = self._dtypes.setdefault(name, array.dtype)
        if array.dtype == dtype:
            return array
        if not np.can_cast(array.dtype, dtype, "safe"):
            raise DtypeError(
                f"{name}: expected {dtype} as in the trajectories before, or what it can hold, got {array.dtype}; "
                "convert the trajectories of each dtype by themselves"
            )
        self.changes[name] = f"{array.dtype} -> {dtype}"
        return array.astype(dtype)


def plain_array(name: str, value: Any, format_name: str) -> Array:
    """Observations or actions, for a format that has one array for them."""
    if not isinstance(value, np.ndarray):
        raise StructureError(f"{name}: expected an array, as {format_name} has no dicts and tuples, got {value!r}")
    return value
