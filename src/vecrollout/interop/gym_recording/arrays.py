"""Arrays of a batch: the JSON file describes them, the binary file has their bytes."""

from __future__ import annotations

import math
import mmap
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vecrollout._typing import Array
from vecrollout.data.array_tree import ArrayTree
from vecrollout.data.dtypes import dtype_from_name
from vecrollout.errors import DamagedTraceError, DtypeError, StructureError
from vecrollout.interop.gym_recording.directory import open_regular
from vecrollout.storage.files.names import is_file_name

KIND = "__type"
"""The key that tells the description of an array from a dict."""

_ALIGNMENT = 8

# The header that `numpy.save` writes; it is not given to Python's parser.
_NPY_MAGIC = b"\x93NUMPY"
_NPY_LENGTH_BYTES = {b"\x01\x00": 2, b"\x02\x00": 4}
_NPY_HEADER = re.compile(
    rb"\{'descr': '(?P<dtype>[^']{1,99})', 'fortran_order': (?P<order>True|False), "
    rb"'shape': \((?P<shape>(\d{1,19}L?(, \d{1,19}L?){0,63},?)?)\), \}\s*"
)

# Arrays lie behind one another, so a sound file is read once. One that describes the same bytes again and again would
# fill the memory.
_MOST_READS = 8


class ArrayFile:
    """A binary file in the making."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.content = bytearray()

    def encode(self, value: Any, where: str) -> Any:
        """A value as JSON, with its arrays appended to the file.

        Like gym-recording, it makes a list of dicts and lists, one a step, of a tree and of an array of objects.
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
            f"{where}: expected arrays or plain data, as the format has nothing else, got {type(value).__name__}"
        )

    def _append(self, array: Array, where: str) -> dict[str, Any]:
        if array.dtype.itemsize == 0:  # empty text, which has no bytes
            array = array.astype(f"{array.dtype.kind}1")
        dtype = str(array.dtype)
        if not _is_name_of(dtype, array.dtype):
            raise DtypeError(f"{where}: expected a dtype with a name, as the format writes names, got {dtype}")
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
    """Turns descriptions of arrays into read-only views of the binary files, which stay open while a view exists."""

    def __init__(self, directory: Path, where: str) -> None:
        self._directory = directory
        self._where = where
        self._files: dict[str, mmap.mmap | bytes] = {}
        self._read_bytes: Counter[str] = Counter()

    def decode(self, item: dict[str, Any]) -> Any:
        """The array that a JSON object describes; an object that describes none as it is."""
        kind = item.get(KIND)
        if not (isinstance(kind, str) and kind == "ndarray"):
            return item
        try:
            return self._array(**{key: value for key, value in item.items() if key != KIND})
        except (TypeError, ValueError, OverflowError, OSError) as error:
            raise DamagedTraceError(f"{self._where}: expected an array, got {item}: {error}") from error

    def _array(self, *, shape: Any, dtype: Any, npyfile: Any, npyoff: Any, order: Any = "C", size: Any = None) -> Array:
        file, kind = self._file(npyfile), _dtype(dtype)
        if type(npyoff) is not int or not 0 <= npyoff <= len(file):
            raise ValueError(f"expected an offset in a file of {len(file)} bytes")
        if order != "C":
            raise ValueError("expected the order 'C'")
        needed = _nbytes(shape, kind)
        if size is not None and size != needed:
            raise ValueError(f"expected a size of {needed} bytes")
        self._read_bytes[npyfile] += needed
        if self._read_bytes[npyfile] > _MOST_READS * len(file):
            raise ValueError(f"expected arrays behind one another, got the same {len(file)} bytes again and again")
        # The first version of the format has no sizes, and at each offset a whole file of NumPy's own format.
        if size is None and file[npyoff : npyoff + len(_NPY_MAGIC)] == _NPY_MAGIC:
            return _npy(file, npyoff, shape, kind)
        return _view(file, npyoff, shape, kind, "C")

    def _file(self, name: Any) -> mmap.mmap | bytes:
        # A name only: a path could lead out of the directory.
        if type(name) is not str or not is_file_name(name):
            raise ValueError("expected the name of a file beside it")
        if name not in self._files:
            with open_regular(self._directory / name) as file:
                empty = file.seek(0, 2) == 0
                self._files[name] = b"" if empty else mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return self._files[name]


def _npy(file: mmap.mmap | bytes, offset: int, shape: Any, dtype: np.dtype[Any]) -> Array:
    begin = offset + len(_NPY_MAGIC)
    version = file[begin : begin + 2]
    if version not in _NPY_LENGTH_BYTES:
        raise ValueError(f"expected version 1.0 or 2.0 of NumPy's file format, got {version.hex()}")
    begin += 2 + _NPY_LENGTH_BYTES[version]
    end = begin + int.from_bytes(file[begin - _NPY_LENGTH_BYTES[version] : begin], "little")
    header = _NPY_HEADER.fullmatch(file[begin:end])
    if header is None:
        raise ValueError("the binary file has no header of NumPy's there")
    found = [int(side) for side in re.findall(rb"\d+", header["shape"])]
    described = _dtype(header["dtype"].decode("latin-1"))
    if found != shape or described != dtype:
        raise ValueError(f"the binary file has an array of shape {found} and dtype {described} there")
    return _view(file, end, shape, dtype, "F" if header["order"] == b"True" else "C")


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
    """The dtype of a name as `str(dtype)` writes it."""
    try:
        dtype = dtype_from_name(name)
    except ValueError:
        dtype = np.dtype(object)
    if dtype.hasobject or not dtype.itemsize:
        raise ValueError("expected the dtype of numbers or text; Python objects are not read, as that could run code")
    return dtype


def _is_name_of(name: str, dtype: np.dtype[Any]) -> bool:
    """Whether reading finds this dtype. It does not for structured dtypes and objects."""
    try:
        return _dtype(name) == dtype
    except ValueError:
        return False
