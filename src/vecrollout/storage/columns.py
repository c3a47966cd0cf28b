"""Array leaves as Arrow columns, and back: one item a row, bits unchanged.

An item of numbers becomes a flat fixed-size list (a 0-dimensional one a plain number). Where Arrow has no such numbers
the bytes are kept under the nearest type that every reader knows; the field's metadata has NumPy's dtype and the shape.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from vecrollout._typing import Array
from vecrollout.errors import DamagedTraceError, DtypeError
from vecrollout.storage.arrow import pa
from vecrollout.storage.dtypes import dtype_from_json, dtype_to_json
from vecrollout.storage.format import METADATA_KEY, parsed
from vecrollout.storage.payload import UnstorableError, dumps, pack, unpack


@dataclass(frozen=True)
class Column:
    """A column of arrays: its name, and dtype and shape of one row's item."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    @property
    def is_text(self) -> bool:
        """Whether rows are text or byte strings, whose longest one decides on the dtype."""
        return self.dtype.kind in "US"

    def field(self, **metadata: Any) -> Any:
        """The `pyarrow.Field`."""
        described = {"dtype": dtype_to_json(self.dtype), "shape": list(self.shape), **metadata}
        return pa.field(self.name, self._arrow_type(), metadata={METADATA_KEY: dumps(described)})

    @classmethod
    def from_field(cls, field: Any) -> Column:
        """The column that a `pyarrow.Field` describes.

        Raises:
            DamagedTraceError: If its metadata or its type are not as written.
        """
        described = field_metadata(field)
        try:
            column = cls(field.name, dtype_from_json(described["dtype"]), tuple(map(int, described["shape"])))
            fits = field.type == column._arrow_type()
        except (LookupError, TypeError, ValueError) as error:
            raise DamagedTraceError(f"column {field.name!r}: expected a dtype and a shape, got {described}") from error
        if not fits:
            raise DamagedTraceError(f"column {field.name!r}: expected {column._arrow_type()}, got {field.type}")
        return column

    def encode(self, values: Array, missing: npt.NDArray[np.bool_] | None = None) -> Any:
        """Rows as a `pyarrow.Array`.

        Args:
            values: Shape `(n, *shape)`, in the column's dtype; not copied where it is contiguous.
            missing: Which rows are null, shape `(n,)`; what `values` has there does not matter.

        Raises:
            DtypeError: If text cannot be encoded, or objects are not plain data.
        """
        rows, width = len(values), self._width()
        if width == 0:
            return pa.nulls(rows)
        if self._is_json():
            return pa.array(
                [None if missing is not None and missing[i] else self._json(values[i]) for i in range(rows)],
                pa.string(),
            )
        if self.is_text:
            return self._encode_text(values, missing)
        stored = self._stored(values)
        validity, nulls = _validity(missing)
        scalar = self._scalar_type()
        if self._is_plain():
            return pa.Array.from_buffers(scalar, rows, [validity, pa.py_buffer(stored)], nulls)
        numbers = pa.Array.from_buffers(scalar, rows * width, [None, pa.py_buffer(stored)])
        return pa.Array.from_buffers(self._arrow_type(), rows, [validity], nulls, children=[numbers])

    def decode(self, column: Any) -> Array:
        """All rows of a `pyarrow.Array`, shape `(n, *shape)`; a read-only view of its memory where there is one.

        Raises:
            DamagedTraceError: If the array does not hold such rows.
        """
        rows, width = len(column), self._width()
        if width == 0:
            decoded = np.zeros((rows, *self.shape), self.dtype)
        elif self._is_json():
            decoded = np.empty((rows, *self.shape), dtype=object)
            for i, text in enumerate(column.to_pylist()):
                decoded[i] = None if text is None else unpack(parsed_item(text, self.name))
        elif self.is_text:
            decoded = self._decode_text(column)
        else:
            # Its offset is 0, as it comes from a file and not from a slice.
            numbers, buffer = self._scalar_numpy(), column.buffers()[-1]
            if column.offset or (buffer is None and rows):
                raise DamagedTraceError(f"column {self.name!r}: expected the values of {rows} rows, got none")
            flat = np.frombuffer(buffer, numbers, rows * width) if rows else np.empty(0, numbers)
            decoded = self._from_stored(flat, rows)
        decoded.flags.writeable = False
        return decoded

    def _width(self) -> int:
        """Numbers a row, as Arrow has them; 0 where an item is empty."""
        items = math.prod(self.shape)
        if self.dtype.kind == "c" and self.dtype.itemsize <= 16:
            return items * 2
        return items * self.dtype.itemsize if self._is_raw() else items

    def _is_json(self) -> bool:
        return self.dtype == object

    def _is_raw(self) -> bool:
        """Whether Arrow has no numbers like these: structured ones, and floats of more than 64 bits."""
        return self.dtype.kind == "V" or (self.dtype.kind in "fc" and self._native().char in "gG")

    def _is_plain(self) -> bool:
        return self._width() == 1 and not self.shape and not self._is_raw()

    def _native(self) -> np.dtype[Any]:
        native: np.dtype[Any] = self.dtype.newbyteorder("=")
        return native

    def _scalar_numpy(self) -> np.dtype[Any]:
        native = self._native()
        if self._is_raw() or native.kind == "b":
            return np.dtype(np.uint8)
        if native.kind in "mM":
            return np.dtype(np.int64)
        if native.kind == "c":
            return np.dtype(f"f{native.itemsize // 2}")
        return native

    def _scalar_type(self) -> Any:
        if self._is_json() or self.dtype.kind == "U":
            return pa.string()
        if self.dtype.kind == "S":
            return pa.binary()
        try:
            return pa.from_numpy_dtype(self._scalar_numpy())
        except pa.ArrowException as error:
            raise DtypeError(f"{self.name}: expected a dtype that can be stored, got {self.dtype}") from error

    def _arrow_type(self) -> Any:
        if self._width() == 0:
            return pa.null()
        if self._is_json() or self._is_plain():
            return self._scalar_type()
        return pa.list_(self._scalar_type(), self._width())

    def _json(self, item: Any) -> str:
        try:
            return dumps(pack(item))
        except UnstorableError as error:
            raise DtypeError(f"{self.name}: expected objects of plain data and arrays, got others: {error}") from error

    def _stored(self, values: Array) -> Array:
        values = np.ascontiguousarray(values)
        if not self.dtype.isnative and self.dtype.kind != "V":
            values = values.astype(self._native())
        return values.reshape(-1).view(self._scalar_numpy())

    def _from_stored(self, flat: Array, rows: int) -> Array:
        if self._is_raw():
            # Arrow aligns to 8 bytes, a long double wants 16.
            raw: Array = flat.copy().view(self.dtype).reshape(rows, *self.shape)
            return raw
        native: Array = flat.view(self._native()).reshape(rows, *self.shape)
        in_order: Array = native if self.dtype.isnative else native.astype(self.dtype)
        return in_order

    def _encode_text(self, values: Array, missing: npt.NDArray[np.bool_] | None) -> Any:
        scalar, width = self._scalar_type(), self._width()
        texts = values.reshape(-1).tolist()
        if self._is_plain():
            return pa.array(texts, scalar, mask=missing)
        validity, nulls = _validity(missing)
        return pa.Array.from_buffers(
            pa.list_(scalar, width), len(values), [validity], nulls, children=[pa.array(texts, scalar)]
        )

    def _decode_text(self, column: Any) -> Array:
        texts = (column if self._is_plain() else column.values).fill_null("" if self.dtype.kind == "U" else b"")
        # As long as the longest needs: a trajectory's own dtype is put back where it is known.
        decoded = np.array(texts.to_pylist(), dtype=self.dtype.kind).reshape(len(column), *self.shape)
        return decoded if decoded.dtype.itemsize >= self.dtype.itemsize else decoded.astype(self.dtype)


def field_metadata(field: Any) -> dict[str, Any]:
    """What a field's metadata says for this package; empty where it says nothing.

    Raises:
        DamagedTraceError: If it is no JSON object.
    """
    text = (field.metadata or {}).get(METADATA_KEY)
    return {} if text is None else parsed(text, f"column {field.name!r}")


def parsed_item(text: str, where: str) -> Any:
    """A JSON value of any kind.

    Raises:
        DamagedTraceError: If the text is none.
    """
    return parsed(f'{{"value":{text}}}', where)["value"]


def encodable(values: Array) -> bool:
    """Whether text can be written as UTF-8: a lone surrogate cannot."""
    try:
        "".join(values.reshape(-1).tolist()).encode()
    except UnicodeEncodeError:
        return False
    return True


def _validity(missing: npt.NDArray[np.bool_] | None) -> tuple[Any, int]:
    """Arrow's bitmap of the rows that are there, and the number of those that are not."""
    if missing is None or not missing.any():
        return None, 0
    return pa.py_buffer(np.packbits(~missing, bitorder="little")), int(missing.sum())
