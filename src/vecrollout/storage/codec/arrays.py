"""Arrays as Arrow arrays, and back: one item a row, bits unchanged.

An item of numbers becomes a flat fixed-size list, one without dimensions a plain number. Where Arrow has no such
numbers the bytes are kept under the nearest type that every reader knows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from vecrollout._typing import Array
from vecrollout.errors import DamagedTraceError, DtypeError
from vecrollout.storage.arrow import pa

# What 32 bits can count; Arrow's text has such offsets.
_MAX_TEXT_BYTES = (1 << 31) - 1


@dataclass(frozen=True)
class ArrayType:
    """Dtype and shape of one row's item; any dtype without objects."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    @property
    def is_text(self) -> bool:
        """Whether items are text or byte strings, whose longest one decides on the dtype."""
        return self.dtype.kind in "US"

    @cached_property
    def width(self) -> int:
        """Numbers a row, as Arrow has them; 0 where an item is empty."""
        items = math.prod(self.shape)
        if self.dtype.kind == "c" and self.dtype.itemsize <= 16:
            return items * 2
        return items * self.dtype.itemsize if self._is_raw else items

    @cached_property
    def arrow_type(self) -> Any:
        """The `pyarrow.DataType`."""
        if self.dtype.hasobject:
            raise DtypeError(f"expected a dtype that can be stored, got {self.dtype}, which refers to objects")
        if self.width == 0:
            return pa.null()
        return self._scalar_type if self._is_plain else pa.list_(self._scalar_type, self.width)

    def encode(self, values: Array, missing: npt.NDArray[np.bool_] | None = None) -> Any:
        """Rows as a `pyarrow.Array`, not copied where contiguous; null where `missing`, whatever `values` has there."""
        rows = len(values)
        if self.width == 0:
            return pa.nulls(rows)
        missing_items = missing if self._is_plain else None
        if self.is_text:
            items = pa.array(values.reshape(-1).tolist(), self._scalar_type, mask=missing_items)
        else:
            items = numbers(self._stored(values), missing_items)
        if self._is_plain:
            return items
        validity, nulls = _bitmap(missing)
        return pa.Array.from_buffers(self.arrow_type, rows, [validity], nulls, children=[items])

    def decode(self, column: Any) -> Array:
        """All rows of a `pyarrow.Array`, shape `(n, *shape)`; a read-only view of its memory where there is one."""
        rows = len(column)
        if self.width == 0:
            decoded = np.zeros((rows, *self.shape), self.dtype)
        elif self.is_text:
            decoded = self.text_rows(self.texts(column), rows, self.dtype)
        else:
            # Its offset is 0, as it comes from a file and not from a slice.
            buffer = column.buffers()[-1] if rows else b""
            if column.offset or buffer is None:
                raise DamagedTraceError(f"expected the values of {rows} rows, got none")
            if self._is_flag:
                packed = np.frombuffer(buffer, np.uint8)
                decoded = np.unpackbits(packed, count=rows, bitorder="little").view(bool)
            elif not self._is_raw:
                decoded = np.ndarray((rows, *self.shape), self._native, buffer)
            else:
                # Arrow aligns to 8 bytes, a long double wants 16.
                packed = np.frombuffer(buffer, np.uint8, rows * self.width).copy() if rows else np.empty(0, np.uint8)
                stored = self.dtype if self.dtype.kind == "V" else self._native
                decoded = packed.view(stored).reshape(rows, *self.shape)
            if not self.dtype.isnative:
                decoded = decoded.astype(self.dtype)
        decoded.flags.writeable = False
        return decoded

    def texts(self, column: Any) -> list[Any]:
        """All texts of a column of text, item by item; empty where rows are null."""
        if self.width == 0:
            return []
        texts: list[Any] = (column if self._is_plain else column.values).to_pylist()
        empty: Any = "" if self.dtype.kind == "U" else b""
        return [empty if text is None else text for text in texts] if None in texts else texts

    def text_rows(self, texts: Sequence[Any], rows: int, dtype: np.dtype[Any]) -> Array:
        """Some rows of text as an array; wider than `dtype` where a text is longer."""
        longest = max(map(len, texts), default=0)
        width = max(dtype.itemsize // (4 if dtype.kind == "U" else 1), longest)
        sized = np.dtype(f"{dtype.kind}{width}").newbyteorder(dtype.byteorder)
        # As many rows of it as there are have been in memory before.
        return np.array(texts, sized).reshape(rows, *self.shape)

    @property
    def _is_flag(self) -> bool:
        return self.dtype.kind == "b" and not self.shape

    @cached_property
    def _is_raw(self) -> bool:
        """Whether Arrow has no numbers like these: structured ones, and floats of more than 64 bits."""
        return self.dtype.kind == "V" or (self.dtype.kind in "fc" and self._native.char in "gG")

    @cached_property
    def _is_plain(self) -> bool:
        return self.width == 1 and not self.shape and not self._is_raw

    @cached_property
    def _native(self) -> np.dtype[Any]:
        native: np.dtype[Any] = self.dtype.newbyteorder("=")
        return native

    @cached_property
    def _scalar_numpy(self) -> np.dtype[Any]:
        native = self._native
        if self._is_raw or (native.kind == "b" and not self._is_flag):
            return np.dtype(np.uint8)
        if native.kind in "mM":
            return np.dtype(np.int64)
        if native.kind == "c":
            return np.dtype(f"f{native.itemsize // 2}")
        return native

    @cached_property
    def _scalar_type(self) -> Any:
        if self.is_text:
            return pa.string() if self.dtype.kind == "U" else pa.binary()
        try:
            return pa.from_numpy_dtype(self._scalar_numpy)
        except pa.ArrowException as error:
            raise DtypeError(f"expected a dtype that can be stored, got {self.dtype}") from error

    def _stored(self, values: Array) -> Array:
        values = np.ascontiguousarray(values)
        if not self.dtype.isnative and self.dtype.kind != "V":
            values = values.astype(self._native)
        return values.reshape(-1).view(self._scalar_numpy)


def numbers(array: Array, missing: npt.NDArray[np.bool_] | None = None) -> Any:
    """A `pyarrow.Array` of bools, integers or floats in one dimension; but for bools, in their memory."""
    # Quicker than `pyarrow.array` with a mask.
    mask, nulls = _bitmap(missing)
    packed = np.packbits(array, bitorder="little") if array.dtype == bool else array
    return pa.Array.from_buffers(pa.from_numpy_dtype(array.dtype), len(array), [mask, pa.py_buffer(packed)], nulls)


def sparse_text(rows: int, at: Any, texts: list[str]) -> Any:
    """A `pyarrow.Array` with texts of ASCII at some rows, and null at all others."""
    nbytes = sum(map(len, texts))
    if nbytes > _MAX_TEXT_BYTES:
        raise DtypeError(
            f"infos: expected at most {_MAX_TEXT_BYTES} bytes of JSON in {rows} rows that are written at once, got "
            f"{nbytes}; choose by record_infos what is kept"
        )
    number, missing = np.zeros(rows, np.int64), np.ones(rows, bool)
    number[at], missing[at] = np.arange(len(texts)), False
    return pa.array(texts, pa.string()).take(numbers(number, missing))


def _bitmap(missing: npt.NDArray[np.bool_] | None) -> tuple[Any, int]:
    """Arrow's bitmap of the rows that are there, and the number of those that are not."""
    if missing is None or not missing.any():
        return None, 0
    return pa.py_buffer(np.packbits(~missing, bitorder="little")), int(np.count_nonzero(missing))
