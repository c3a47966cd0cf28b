"""Columns of a trajectory's arrays: what a row's item is, and its Arrow field."""

from __future__ import annotations

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
from vecrollout.storage.arrays import ArrayType
from vecrollout.storage.arrow import ArrowErrors, pa
from vecrollout.storage.format import METADATA_KEY, parsed
from vecrollout.storage.item_kinds import item_of
from vecrollout.storage.items import JSON, Item, Json, item_from_json


@dataclass(frozen=True)
class Column:
    """A column of arrays: its name, and dtype and shape of one row's item."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    item: Item = JSON
    """What the objects are made of, where the dtype is `object`."""

    @property
    def is_text(self) -> bool:
        """Whether rows are text or byte strings, whose longest one decides on the dtype."""
        return self._arrays.is_text

    @property
    def has_objects(self) -> bool:
        """Whether rows are objects."""
        return self.dtype == object

    @cached_property
    def is_plain(self) -> bool:
        """Whether rows are neither text nor objects: what was decoded can be handed out as it is."""
        return not self.is_text and not self.has_objects

    @cached_property
    def arrow_type(self) -> Any:
        """The `pyarrow.DataType`.

        Raises:
            DtypeError: If Arrow has none.
        """
        return self.item.arrow_type if self.has_objects else self._arrays.arrow_type

    def field(self) -> Any:
        """The `pyarrow.Field`.

        Raises:
            DtypeError: If Arrow has no type for it.
        """
        # First: of dtypes that Arrow has none for, NumPy makes no JSON either.
        arrow_type = self.arrow_type
        described: dict[str, Any] = {"dtype": dtype_to_json(self.dtype), "shape": list(self.shape)}
        if self.has_objects:
            described["item"] = self.item.to_json()
        return pa.field(self.name, arrow_type, metadata={METADATA_KEY: dumps(described)})

    @classmethod
    def from_field(cls, field: Any) -> Column:
        """The column that a `pyarrow.Field` describes.

        Raises:
            DamagedTraceError: If its metadata or its type are not as written.
        """
        described = field_metadata(field)
        try:
            column = cls(field.name, dtype_from_json(described["dtype"]), tuple(map(int, described["shape"])))
            if column.has_objects:
                column = cls(column.name, column.dtype, column.shape, item_from_json(described["item"]))
            fits = field.type == column.arrow_type and (isinstance(column.item, Json) or not column.shape)
        except ArrowErrors as error:
            raise DamagedTraceError(f"column {field.name!r}: expected a dtype and a shape, got {described}") from error
        if not fits:
            raise DamagedTraceError(f"column {field.name!r}: expected {column.arrow_type}, got {field.type}")
        return column

    def encode(self, values: Array, missing: npt.NDArray[np.bool_] | None = None) -> Any:
        """Rows as a `pyarrow.Array`.

        Args:
            values: Shape `(n, *shape)`, in the column's dtype; not copied where it is contiguous.
            missing: Which rows are null, shape `(n,)`; what `values` has there does not matter.

        Raises:
            DtypeError: If text cannot be encoded, or objects are not plain data.
        """
        if not self.has_objects:
            return self._arrays.encode(values, missing)
        objects = [values[i] for i in range(len(values))]
        if missing is not None:
            objects = [None if gone else each for each, gone in zip(objects, missing.tolist(), strict=True)]
        try:
            return self.item.encode(objects)
        except ValueError as error:
            raise DtypeError(f"{self.name}: expected objects of plain data and arrays, got others: {error}") from error

    def decode(self, column: Any) -> Array:
        """All rows of a `pyarrow.Array`, shape `(n, *shape)`; a read-only view of its memory where there is one.

        Raises:
            DamagedTraceError: If the array does not hold such rows.
        """
        if not self.has_objects:
            return self._arrays.decode(column)
        decoded = np.empty((len(column), *self.shape), dtype=object)
        for i, item in enumerate(self.item.decode(column)):  # one by one: NumPy would look into lists
            decoded[i] = item
        decoded.flags.writeable = False
        return decoded

    def widened(self, objects: Sequence[Any], *, may_narrow: bool) -> Column:
        """The column that has these objects too; itself where it has none at all.

        Args:
            objects: Those of some rows.
            may_narrow: Whether what they are outweighs what was expected.
        """
        if not self.has_objects or isinstance(self.item, Json):
            return self
        item = item_of(objects, self.item) or (item_of(objects) if may_narrow else None) or JSON
        return self if item == self.item else replace(self, item=item)

    @cached_property
    def _arrays(self) -> ArrayType:
        return ArrayType(self.dtype, self.shape)


def field_metadata(field: Any) -> dict[str, Any]:
    """What a field's metadata says for this package; empty where it says nothing.

    Raises:
        DamagedTraceError: If it is no JSON object.
    """
    text = (field.metadata or {}).get(METADATA_KEY)
    return {} if text is None else parsed(text, f"column {field.name!r}")
