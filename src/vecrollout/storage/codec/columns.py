"""Columns of a shard: what a row's item is, and its Arrow field."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from vecrollout._typing import Array
from vecrollout.data.dtypes import dtype_from_json, dtype_to_json
from vecrollout.data.plain import dumps
from vecrollout.errors import DamagedTraceError, DtypeError
from vecrollout.storage.arrow import Parsing, pa
from vecrollout.storage.codec.arrays import ArrayType
from vecrollout.storage.codec.fitting import item_of
from vecrollout.storage.codec.metadata import METADATA_KEY, field_metadata
from vecrollout.storage.codec.objects import JSON, Json, ObjectType, item_from_json

OBJECT: np.dtype[Any] = np.dtype(object)


@dataclass(frozen=True)
class Column:
    """A column of the data: a leaf of observations or actions, the rewards, or a key of infos."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    item: ObjectType = JSON
    """What the objects are made of, where the dtype is `object`."""
    path: tuple[str, ...] = ()
    """In infos, the keys that lead to the values; a row without a value is null."""

    @property
    def is_text(self) -> bool:
        """Whether rows are text or byte strings, whose longest one decides on the dtype."""
        return self.dtype.kind in "US"

    @property
    def has_objects(self) -> bool:
        """Whether rows are objects."""
        return self.dtype == OBJECT

    @property
    def row_bytes(self) -> int:
        """Memory of a row in the column's dtype."""
        return self.dtype.itemsize * math.prod(self.shape)

    @cached_property
    def is_plain(self) -> bool:
        """Whether rows are neither text nor objects: what was decoded can be handed out as it is."""
        return not self.is_text and not self.has_objects

    @cached_property
    def arrow_type(self) -> Any:
        """The `pyarrow.DataType`."""
        return self.item.arrow_type if self.has_objects else self.arrays.arrow_type

    @cached_property
    def arrays(self) -> ArrayType:
        """How rows that are no objects lie in Arrow."""
        return ArrayType(self.dtype, self.shape)

    def field(self) -> Any:
        """The `pyarrow.Field`."""
        # First: of dtypes that Arrow has none for, NumPy makes no JSON either.
        arrow_type = self.arrow_type
        described: dict[str, Any]
        if self.path:
            described = {"path": list(self.path), "item": self.item.to_json()}
        else:
            described = {"dtype": dtype_to_json(self.dtype), "shape": list(self.shape)}
            if self.has_objects:
                described["item"] = self.item.to_json()
        return pa.field(self.name, arrow_type, metadata={METADATA_KEY: dumps(described)})

    @classmethod
    def from_field(cls, field: Any) -> Column | None:
        """The column that a `pyarrow.Field` describes; None where it is none of the data."""
        described = field_metadata(field)
        with Parsing(f"column {field.name!r}: expected what it holds, got {described}"):
            if "path" in described:
                path = described["path"]
                column = cls(field.name, OBJECT, (), item_from_json(described["item"]), tuple(path))
                fits = bool(path) and all(type(key) is str for key in path)
            elif "dtype" in described:
                dtype, shape = dtype_from_json(described["dtype"]), described["shape"]
                item = item_from_json(described["item"]) if dtype == OBJECT else JSON
                column = cls(field.name, dtype, tuple(shape), item)
                fits = all(type(length) is int and length >= 0 for length in shape)
                fits = fits and (isinstance(item, Json) or not shape)
            else:
                return None
            fits = fits and field.type == column.arrow_type
        if not fits:
            raise DamagedTraceError(f"column {field.name!r}: expected values as in {described}, got {field.type}")
        return column

    def encode(self, values: Array, missing: npt.NDArray[np.bool_] | None = None) -> Any:
        """Rows as a `pyarrow.Array`, not copied where contiguous; null where `missing`, whatever `values` has there."""
        if not self.has_objects:
            return self.arrays.encode(values, missing)
        objects = list(values)
        if missing is not None:
            objects = [None if gone else each for each, gone in zip(objects, missing.tolist(), strict=True)]
        try:
            return self.item.encode(objects)
        except ValueError as error:
            raise DtypeError(f"{self.name}: expected objects of plain data and arrays, got others: {error}") from error

    def decode(self, column: Any) -> Array:
        """All rows of a `pyarrow.Array`, shape `(n, *shape)`; a read-only view of its memory where there is one."""
        if not self.has_objects:
            return self.arrays.decode(column)
        decoded = np.empty((len(column), *self.shape), dtype=object)
        for i, item in enumerate(self.item.decode(column)):  # one by one: NumPy would look into lists
            decoded[i] = item
        decoded.flags.writeable = False
        return decoded

    def widened(self, objects: Sequence[Any], *, may_narrow: bool) -> Column:
        """The column that has these objects, too; with `may_narrow` the objects outweigh what was expected."""
        if not self.has_objects or isinstance(self.item, Json):
            return self
        item = item_of(objects, self.item) or (item_of(objects) if may_narrow else None) or JSON
        return self if item == self.item else replace(self, item=item)
