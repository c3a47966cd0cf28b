"""Arrays of a batch: described in its JSON file, their bytes in the binary file beside it."""

from __future__ import annotations

import math
import mmap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vecrollout._typing import Array
from vecrollout.data.array_tree import ArrayTree
from vecrollout.errors import DamagedTraceError, DtypeError, StructureError
from vecrollout.storage.files.names import is_file_name

KIND = "__type"
"""The key by which an object that describes an array is told from a dict."""

_ALIGNMENT = 8
_NPY_MAGIC = b"\x93NUMPY"


class ArrayFile:
    """A binary file in the making.

    Args:
        name: The file's name.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.content = bytearray()

    def encode(self, value: Any, where: str) -> Any:
        """A value as JSON, with the arrays in it appended to the file.

        A tree becomes a list of dicts and lists, one a step, as gym-recording has it; so does an array of objects.

        Args:
            value: An array, a tree, or plain data with arrays in it.
            where: Name of the field, for errors.

        Raises:
            DtypeError: If there is anything in it that the format cannot hold.
            StructureError: If a dict has keys that JSON cannot hold, or `"__type"`.
        """
        if isinstance(value, ArrayTree):
            return [self.encode(item.unwrap(), where) for item in value]
        if isinstance(value, np.ndarray | np.generic):
            if value.dtype == object:
                return self.encode(value.tolist(), where)
            return self._append(np.asarray(value), where)
        if isinstance(value, list | tuple):
            return [self.encode(item, where) for item in value]
        if isinstance(value, Mapping):
            wrong = [key for key in value if type(key) is not str or key == KIND]
            if wrong:
                raise StructureError(f"{where}: expected keys that are text, other than {KIND!r}, got {wrong}")
            return {key: self.encode(item, where) for key, item in value.items()}
        if value is None or type(value) in (bool, int, float, str):
            return value
        raise DtypeError(
            f"{where}: expected arrays or plain data, which is what the format holds, got {type(value).__name__}"
        )

    def _append(self, array: Array, where: str) -> dict[str, Any]:
        if array.dtype.itemsize == 0:  # of empty text, which NumPy makes no array of bytes of
            array = array.astype(f"{array.dtype.kind}1")
        dtype = str(array.dtype)
        if not _is_name_of(dtype, array.dtype):
            raise DtypeError(f"{where}: expected a dtype with a name, which is what the format holds, got {dtype}")
        self.content += bytes(-len(self.content) % _ALIGNMENT)
        offset = len(self.content)
        self.content += array.tobytes()
        return {
            KIND: "ndarray",
            "shape": array.shape,
            "order": "C",
            "dtype": dtype,
            "npyfile": self.name,
            "npyoff": offset,
            "size": array.nbytes,
        }


class ArrayReader:
    """Turns descriptions of arrays into arrays: read-only views of the files, which stay open as long as these.

    Args:
        directory: Where the files are.
        where: What the descriptions are from, for errors.
    """

    def __init__(self, directory: Path, where: str) -> None:
        self._directory = directory
        self._where = where
        self._files: dict[str, mmap.mmap | bytes] = {}

    def decode(self, item: dict[str, Any]) -> Any:
        """The array that a JSON object describes; an object that describes none as it is.

        Raises:
            DamagedTraceError: If there is no such array.
        """
        kind = item.get(KIND)
        if not (isinstance(kind, str) and kind == "ndarray"):
            return item
        try:
            return self._array(**{key: value for key, value in item.items() if key != KIND})
        except (TypeError, ValueError, OverflowError, OSError, SyntaxError) as error:
            raise DamagedTraceError(f"{self._where}: expected an array, got {item}: {error}") from error

    def _array(self, *, shape: Any, dtype: Any, npyfile: Any, npyoff: Any, order: Any = "C", size: Any = None) -> Array:
        file, numbers = self._file(npyfile), _dtype(dtype)
        if type(npyoff) is not int or not 0 <= npyoff <= len(file):
            raise ValueError(f"expected an offset in a file of {len(file)} bytes")
        if order != "C":
            raise ValueError("expected the order 'C'")
        # The first version of the format has no sizes, and at each offset a whole file of NumPy's own format.
        if size is None and file[npyoff : npyoff + len(_NPY_MAGIC)] == _NPY_MAGIC:
            return self._npy(npyfile, npyoff, shape, numbers)
        needed = _nbytes(shape, numbers)
        if size is not None and size != needed:
            raise ValueError(f"expected a size of {needed} bytes")
        return _view(file, npyoff, shape, numbers, "C")

    def _npy(self, name: str, offset: int, shape: Any, dtype: np.dtype[Any]) -> Array:
        with (self._directory / name).open("rb") as file:
            file.seek(offset)
            version = np.lib.format.read_magic(file)
            if version not in _NPY_HEADERS:
                raise ValueError(f"expected version 1.0 or 2.0 of NumPy's file format, got {version}")
            try:
                found, is_fortran, described = _NPY_HEADERS[version](file)
            except Exception as error:  # of the tokenizer that NumPy calls, among others
                raise ValueError(f"the binary file has no header of NumPy's there: {error}") from error
            if list(found) != shape or described != dtype:
                raise ValueError(f"the binary file has an array of shape {found} and dtype {described} there")
            return _view(self._file(name), file.tell(), shape, dtype, "F" if is_fortran else "C")

    def _file(self, name: Any) -> mmap.mmap | bytes:
        # A name only: a path could lead out of the directory.
        if type(name) is not str or not is_file_name(name):
            raise ValueError("expected the name of a file beside it")
        if name not in self._files:
            with (self._directory / name).open("rb") as file:
                empty = file.seek(0, 2) == 0
                self._files[name] = b"" if empty else mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return self._files[name]


_NPY_HEADERS: dict[tuple[int, int], Any] = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def _view(file: mmap.mmap | bytes, offset: int, shape: Any, dtype: np.dtype[Any], order: Any) -> Array:
    if offset + _nbytes(shape, dtype) > len(file):
        raise ValueError(f"the binary file ends before it, at {len(file)} bytes")
    view: Array = np.ndarray(shape, dtype, file, offset, order=order)
    return view if view.flags.aligned else view.copy()


def _nbytes(shape: Any, dtype: np.dtype[Any]) -> int:
    if type(shape) is not list or not all(type(side) is int and side >= 0 for side in shape):
        raise ValueError("expected a shape")
    return math.prod(shape) * dtype.itemsize


def _dtype(name: Any) -> np.dtype[Any]:
    if type(name) is not str:
        raise TypeError("expected the name of a dtype")
    dtype: np.dtype[Any] = np.dtype(name)
    if dtype.hasobject:
        raise ValueError("Python objects are not read, as that would run code from the file")
    if dtype.kind not in "biufcmMSUV" or dtype.names or dtype.subdtype or not dtype.itemsize:
        raise ValueError("expected the dtype of numbers or text")
    return dtype


def _is_name_of(name: str, dtype: np.dtype[Any]) -> bool:
    """Whether `np.dtype(name)` is this dtype, as it is not for structured ones and those with objects."""
    try:
        return not dtype.hasobject and bool(np.dtype(name) == dtype)
    except TypeError:
        return False
