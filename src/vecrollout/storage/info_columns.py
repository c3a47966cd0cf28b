"""Typed columns of infos: values of one kind under one path of keys."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vecrollout.data.plain import dumps
from vecrollout.errors import DamagedTraceError
from vecrollout.storage.arrow import ArrowErrors, pa
from vecrollout.storage.columns import field_metadata
from vecrollout.storage.format import METADATA_KEY
from vecrollout.storage.items import Item, item_from_json


@dataclass(frozen=True)
class InfoColumn:
    """A typed column: the path of keys to its values, what they are, and its name."""

    path: tuple[str, ...]
    item: Item
    name: str

    def field(self) -> Any:
        """The `pyarrow.Field`."""
        described = {"path": list(self.path), "item": self.item.to_json()}
        return pa.field(self.name, self.item.arrow_type, metadata={METADATA_KEY: dumps(described)})

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
            column = cls(tuple(map(str, described["path"])), item_from_json(described["item"]), field.name)
            fits = bool(column.path) and column.item.arrow_type == field.type
        except ArrowErrors as error:
            raise DamagedTraceError(f"column {field.name!r}: expected a path and an item, got {described}") from error
        if not fits:
            raise DamagedTraceError(f"column {field.name!r}: expected values as in {described}, got {field.type}")
        return column

    def encode(self, values: Sequence[Any]) -> Any:
        """A `pyarrow.Array` of a value or None for each row."""
        return self.item.encode(values)

    def decode(self, column: Any) -> Sequence[Any]:
        """The value of each row, None where there is none.

        Raises:
            DamagedTraceError: If the column does not hold such values.
        """
        return self.item.decode(column)
