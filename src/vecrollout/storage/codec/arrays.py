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
        validity, nulls = bitmap(missing)
        if self.is_text:
            return self._encode_text(values, missing, validity, nulls)
        if self._is_flag:
            packed = pa.py_buffer(np.packbits(values, bitorder="little"))
            return pa.Array.from_buffers(self._scalar_type, rows, [validity, packed], nulls)
        stored = pa.py_buffer(self._stored(values))
        if self._is_plain:
            return pa.Array.from_buffers(self._scalar_type, rows, [validity, stored], nulls)
        numbers = pa.Array.from_buffers(self._scalar_type, rows * self.width, [None, stored])
        return pa.Array.from_buffers(self.arrow_type, rows, [validity], nulls, children=[numbers])

    def decode(self, column: Any) -> Array:
        """All rows of a `pyarrow.Array`, shape `(n, *shape)`; a read-only view of its memory where there is one."""
        rows = len(column)
        if self.width == 0:
            decoded = np.zeros((rows, *self.shape), self.dtype)
        elif self._is_view or self._is_raw:
            # Its offset is 0, as it comes from a file and not from a slice.
            buffer = column.buffers()[-1] if rows else b""
            if column.offset or buffer is None:
                raise DamagedTraceError(f"expected the values of {rows} rows, got none")
            if self._is_view:
                decoded = np.ndarray((rows, *self.shape), self._native, buffer)
            else:
                # Arrow aligns to 8 bytes, a long double wants 16.
                packed = np.frombuffer(buffer, np.uint8, rows * self.width).copy() if rows else np.empty(0, np.uint8)
                stored = self.dtype if self.dtype.kind == "V" else self._native
                decoded = packed.view(stored).reshape(rows, *self.shape)
            if not self.dtype.isnative:
                decoded = decoded.astype(self.dtype)
        elif self.is_text:
            decoded = self.text_rows(self.texts(column), rows, self.dtype)
        else:
            decoded = bits(column)
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
    def _is_view(self) -> bool:
        """Whether the bytes in Arrow are the array's, in the order of this machine."""
        return not (self.is_text or self._is_flag or self._is_raw)

    @cached_property
    def _native(self) -> np.dtype[Any]:
        native: np.dtype[Any] = self.dtype.newbyteorder("=")
        return native

    @cached_property
    def _scalar_numpy(self) -> np.dtype[Any]:
        native = self._native
        if self._is_raw or native.kind == "b":
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
        if self._is_flag:
            return pa.bool_()
        try:
            return pa.from_numpy_dtype(self._scalar_numpy)
        except pa.ArrowException as error:
            raise DtypeError(f"expected a dtype that can be stored, got {self.dtype}") from error

    def _stored(self, values: Array) -> Array:
        values = np.ascontiguousarray(values)
        if not self.dtype.isnative and self.dtype.kind != "V":
            values = values.astype(self._native)
        return values.reshape(-1).view(self._scalar_numpy)

    def _encode_text(self, values: Array, missing: Any, validity: Any, nulls: int) -> Any:
        texts = values.reshape(-1).tolist()
        if self._is_plain:
            return pa.array(texts, self._scalar_type, mask=missing)
        children = [pa.array(texts, self._scalar_type)]
        return pa.Array.from_buffers(self.arrow_type, len(values), [validity], nulls, children=children)


def taken(leaf: Array, rows: Array) -> Array:
    """Some rows of an array, as a copy; the last one for rows behind it."""
    if leaf.dtype.hasobject or leaf.ndim < 2 or not leaf.size:
        return leaf.take(rows, axis=0, mode="clip")
    found: Array = _opaque(leaf).take(rows, mode="clip").view(leaf.dtype).reshape(len(rows), *leaf.shape[1:])
    return found


def chosen(leaf: Array, is_chosen: npt.NDArray[np.bool_]) -> Array:
    """The rows of an array that a mask chooses, as a copy."""
    if leaf.dtype.hasobject or leaf.ndim < 2 or not leaf.size:
        return leaf[is_chosen]
    found: Array = _opaque(leaf)[is_chosen].view(leaf.dtype).reshape(-1, *leaf.shape[1:])
    return found


def _opaque(leaf: Array) -> Array:
    """Each row as one opaque value, which NumPy moves in one piece."""
    flat = np.ascontiguousarray(leaf).reshape(len(leaf), -1)
    opaque: Array = flat.view(np.dtype((np.void, flat.shape[1] * flat.itemsize))).reshape(-1)
    return opaque


def bits(column: Any) -> npt.NDArray[np.bool_]:
    """The rows of a `pyarrow.BooleanArray`, shape `(n,)`; anything where they are null."""
    rows, offset, buffer = len(column), column.offset, column.buffers()[1]
    if buffer is None:
        return np.ones(rows, dtype=bool)
    packed = np.frombuffer(buffer, np.uint8)
    return np.unpackbits(packed, count=offset + rows, bitorder="little")[offset:].view(bool)


def numbers(array: Array, missing: npt.NDArray[np.bool_] | None = None) -> Any:
    """A `pyarrow.Array` of integers or floats in one dimension, in their memory."""
    mask, nulls = bitmap(missing)
    return pa.Array.from_buffers(pa.from_numpy_dtype(array.dtype), len(array), [mask, pa.py_buffer(array)], nulls)


def sparse_text(rows: int, at: Any, texts: list[str]) -> Any:
    """A `pyarrow.Array` with texts at some rows, which are in order, and null at all others."""
    packed = [text.encode() for text in texts]
    missing = np.ones(rows, dtype=bool)
    missing[at] = False
    lengths = np.zeros(rows + 1, np.int64)
    lengths[1:][~missing] = [len(each) for each in packed]
    offsets = np.cumsum(lengths)
    if offsets[-1] > _MAX_TEXT_BYTES:
        raise DtypeError(
            f"infos: expected at most {_MAX_TEXT_BYTES} bytes of JSON in {rows} rows that are written at once, got "
            f"{offsets[-1]}; choose by record_infos what is kept"
        )
    mask, nulls = bitmap(missing)
    buffers = [mask, pa.py_buffer(offsets.astype(np.int32)), pa.py_buffer(b"".join(packed))]
    return pa.Array.from_buffers(pa.string(), rows, buffers, nulls)


def encodable(texts: Array) -> bool:
    """Whether text can be written as UTF-8: a lone surrogate cannot."""
    try:
        "".join(texts.reshape(-1).tolist()).encode()
    except UnicodeEncodeError:
        return False
    return True


def bitmap(missing: npt.NDArray[np.bool_] | None) -> tuple[Any, int]:
    """Arrow's bitmap of the rows that are there, and the number of those that are not."""
    if missing is None or not missing.any():
        return None, 0
    return pa.py_buffer(np.packbits(~missing, bitorder="little")), int(np.count_nonzero(missing))
