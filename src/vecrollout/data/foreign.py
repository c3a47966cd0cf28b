"""Arrays of other libraries (torch, JAX, CuPy, Warp, ...), on any device, as NumPy arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from vecrollout._typing import Array
from vecrollout.data.array_tree import ArrayTree
from vecrollout.errors import ArgumentTypeError, ShapeError

# Most values that are looked at; a search for attributes takes ten times as long.
_OWN = frozenset((np.ndarray, np.float32, np.float64, np.int64, np.bool_, bool, int, float, str, dict, type(None)))
_PROTOCOLS = ("__dlpack__", "__array__", "__array_interface__")
_HOST = (1, 3)  # DLPack's numbers of memory that the processor reads: kDLCPU and kDLCUDAHost


def is_foreign(value: Any) -> bool:
    """Whether a value is an array of another library."""
    if type(value) in _OWN or isinstance(value, np.ndarray | np.generic):
        return False
    return any(hasattr(value, name) for name in _PROTOCOLS) and hasattr(value, "shape")


def as_array(value: Any, where: str = "value") -> Array:
    """A value as a NumPy array, which may share its memory. From a device, the array is copied in one piece.

    Args:
        value: An array of any library, or lists and numbers.
        where: Name of the value in an error.

    Raises:
        ArgumentTypeError: If the value cannot be read, such as a tensor without data.
        ShapeError: If the rows of a list differ in shape.
    """
    if isinstance(value, np.ndarray):
        return value
    try:
        if type(value) in (list, tuple) and value and is_foreign(value[0]):
            return np.stack([as_array(each) for each in value])
        return _converted(value) if is_foreign(value) else np.asarray(value)
    except (ArgumentTypeError, ShapeError):
        raise
    except Exception as error:  # of any library
        if type(value) in (list, tuple) and isinstance(error, ValueError):
            raise ShapeError(f"{where}: expected rows of one shape, got a {type(value).__name__}: {error}") from error
        kind = type(value)
        raise ArgumentTypeError(
            f"{where}: expected an array that NumPy can read, got a {kind.__module__}.{kind.__name__}: {error}; "
            "convert it in the environment or in a wrapper below the recorder"
        ) from error


def as_arrays(tree: Any, where: str) -> Any:
    """A tree with NumPy arrays at all leaves; the same object where the tree is a NumPy array."""
    if type(tree) is np.ndarray:
        return tree
    if isinstance(tree, ArrayTree):
        tree = tree.unwrap()
    if isinstance(tree, Mapping):
        return {key: as_arrays(each, f"{where}[{key!r}]") for key, each in tree.items()}
    if isinstance(tree, tuple):
        return tuple(as_arrays(each, f"{where}[{i}]") for i, each in enumerate(tree))
    return as_array(tree, where)


def own_copy(value: Any) -> Any:
    """A foreign array as a NumPy array (or a scalar) with memory of its own; anything else unchanged."""
    if not is_foreign(value):
        return value
    try:
        return np.array(as_array(value))[()]
    except ArgumentTypeError:
        return value  # infos may hold anything


def _converted(value: Any) -> Array:
    if hasattr(value, "detach") and hasattr(value, "numpy"):
        array = _of_tensor(value)
    elif hasattr(value, "__array__") or hasattr(value, "__array_interface__"):
        try:
            array = np.asarray(value)
        except (TypeError, RuntimeError, ValueError):  # a device's array that is only converted on demand
            if not hasattr(value, "__dlpack__"):
                raise
            array = _of_dlpack(value)
    else:
        array = _of_dlpack(value)
    if array.dtype.kind == "V" and array.dtype.name.startswith(("bfloat", "float")):
        array = array.astype(np.float32)  # JAX has floats of 16 and 8 bits that NumPy itself does not know
    if array.dtype.hasobject and array.ndim == 0:
        raise TypeError("its NumPy form is one object")
    return array


def _of_tensor(value: Any) -> Array:
    """Torch's tensors, with and without gradients, from any device."""
    try:
        array: Array = value.numpy(force=True)
    except TypeError:
        if not value.is_floating_point():
            raise
        array = value.float().numpy(force=True)  # bfloat16 and the floats of 8 bits, which NumPy does not know
    return array


def _of_dlpack(value: Any) -> Array:
    is_on_host = value.__dlpack_device__()[0] in _HOST
    return np.from_dlpack(value if is_on_host else _OnHost(value))


class _OnHost:
    """An array that is copied to the processor's memory when NumPy imports it.

    Source:
        The array API standard (2023.12): `__dlpack__(dl_device=, copy=)`.
    """

    def __init__(self, value: Any) -> None:
        self._value = value

    def __dlpack__(self, **_: Any) -> Any:
        return self._value.__dlpack__(dl_device=(1, 0), copy=True)

    def __dlpack_device__(self) -> tuple[int, int]:
        return 1, 0
