"""Typed columns of infos: values of one kind under one path of keys."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from vecrollout.errors import DamagedTraceError
from vecrollout.storage.arrow import pa
from vecrollout.storage.columns import Column, field_metadata
from vecrollout.storage.format import METADATA_KEY
from vecrollout.storage.payload import dumps


class Kind(NamedTuple):
    """What all values of a typed column are."""

    name: str
    """`bool`, `int`, `float` or `str` for Python's own, `scalar` and `array` for NumPy's."""
    dtype: str
    """NumPy's."""
    shape: tuple[int, ...] = ()


_PLAIN = {bool: Kind("bool", "|b1"), int: Kind("int", "<i8"), float: Kind("float", "<f8"), str: Kind("str", "|O")}
_NAMES = ("bool", "int", "float", "str", "scalar", "array")


def kind_of(value: Any) -> Kind | None:
    """The kind of column that a value fits; None: none does."""
    plain = _PLAIN.get(type(value))
    if plain is not None:
        if plain.name == "int":
            return plain if -(2**63) <= value < 2**63 else None
        return plain if plain.name != "str" or is_writable(value) else None
    # Of an empty array a column could not tell whether it is there.
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf" and value.dtype.itemsize <= 8 and value.size:
        return Kind("array", value.dtype.str, value.shape)
    if isinstance(value, np.generic) and value.dtype.kind in "biuf" and value.dtype.itemsize <= 8:
        return Kind("scalar", value.dtype.str)
    return None


def is_writable(text: str) -> bool:
    """Whether UTF-8 can write a text: lone surrogates it cannot."""
    try:
        return text.isascii() or bool(text.encode())
    except UnicodeEncodeError:
        return False


@dataclass(frozen=True)
class InfoColumn:
    """A typed column: the path of keys to its values, what they are, and its name."""

    path: tuple[str, ...]
    kind: Kind
    name: str

    @property
    def _is_flag(self) -> bool:
        return self.kind.dtype == "|b1" and self.kind.name != "array"

    @property
    def _numbers(self) -> Column:
        return Column(self.name, np.dtype(self.kind.dtype), self.kind.shape)

    def field(self) -> Any:
        """The `pyarrow.Field`."""
        described = {
            "path": list(self.path),
            "kind": self.kind.name,
            "dtype": self.kind.dtype,
            "shape": list(self.kind.shape),
        }
        if self.kind.name == "str":
            arrow_type = pa.string()
        else:
            arrow_type = pa.bool_() if self._is_flag else self._numbers.field().type
        return pa.field(self.name, arrow_type, metadata={METADATA_KEY: dumps(described)})

    @classmethod
    def from_field(cls, field: Any) -> InfoColumn | None:
        """The column that a `pyarrow.Field` describes; None where it is none of infos.

        Raises:
            DamagedTraceError: If its metadata or its type are not as written.
        """
        described = field_metadata(field)
        if "path" not in described:
            return None
        try:
            kind = Kind(described["kind"], described["dtype"], tuple(map(int, described["shape"])))
            column = cls(tuple(map(str, described["path"])), kind, field.name)
            fits = kind.name in _NAMES and bool(column.path) and column.field().type == field.type
        except (LookupError, TypeError, ValueError) as error:
            raise DamagedTraceError(f"column {field.name!r}: expected a path and a kind, got {described}") from error
        if not fits:
            raise DamagedTraceError(f"column {field.name!r}: expected values as in {described}, got {field.type}")
        return column

    def encode(self, rows: int, at: list[int], values: list[Any]) -> Any:
        """A `pyarrow.Array` with the values at some rows, and nulls at all others."""
        if self.kind.name == "str":
            texts: npt.NDArray[np.object_] = np.full(rows, None, dtype=object)
            texts[at] = values
            return pa.array(texts, pa.string())
        missing = np.ones(rows, dtype=bool)
        missing[at] = False
        array = np.zeros((rows, *self.kind.shape), self.kind.dtype)
        if at:
            array[at] = np.stack(values) if self.kind.shape else np.array(values, self.kind.dtype)
        return pa.array(array, mask=missing) if self._is_flag else self._numbers.encode(array, missing)

    def decode(self, column: Any) -> Sequence[Any]:
        """The value of each row, None where there is none.

        Raises:
            DamagedTraceError: If the column does not hold such values.
        """
        if self.kind.name in ("bool", "int", "float", "str"):
            values: list[Any] = column.to_pylist()
            return values
        if self._is_flag:
            return [None if value is None else np.bool_(value) for value in column.to_pylist()]
        array = self._numbers.decode(column)
        return [array[i] if valid else None for i, valid in enumerate(column.is_valid().to_pylist())]
