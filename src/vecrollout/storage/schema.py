"""A shard's schema: its columns, and what its metadata says about the trace."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vecrollout.data.plain import dumps
from vecrollout.errors import DamagedTraceError
from vecrollout.storage.arrow import pa
from vecrollout.storage.columns import Column, field_metadata
from vecrollout.storage.format import FORMAT_VERSION, METADATA_KEY, check_version, parsed
from vecrollout.storage.infos import InfoColumns
from vecrollout.storage.layout import Layout

FIXED_FIELDS = (
    pa.field("episode", pa.int64()),
    pa.field("step", pa.int64()),
    pa.field("env", pa.int32()),
    pa.field("terminated", pa.bool_()),
    pa.field("truncated", pa.bool_()),
    pa.field("info_json", pa.string()),
    pa.field("episode_json", pa.string()),
)
"""Columns that every shard has, whatever the trajectories hold."""


@dataclass(frozen=True)
class TraceSchema:
    """Which columns a shard has, and what is said about the trace as a whole."""

    layout: Layout
    infos: InfoColumns
    about: Mapping[str, Any]
    """Writer's name, spaces, versions, the user's metadata: what the manifest says too."""

    def to_arrow(self) -> Any:
        """The `pyarrow.Schema`, columns in the order in which a person reads them."""
        fixed = {field.name: field for field in FIXED_FIELDS}
        fields = [
            *(fixed[name] for name in ("episode", "step", "env")),
            *(column.field() for column in self.layout.columns),
            *(fixed[name] for name in ("terminated", "truncated")),
            *(column.field() for column in self.infos.columns),
            *(fixed[name] for name in ("info_json", "episode_json")),
        ]
        described = {"format_version": FORMAT_VERSION, **self.about, "layout": self.layout.to_json()}
        return pa.schema(fields, metadata={METADATA_KEY: dumps(described)})

    @classmethod
    def from_arrow(cls, schema: Any, where: str) -> TraceSchema:
        """The schema of a shard.

        Args:
            schema: The `pyarrow.Schema`.
            where: The shard's name, for errors.

        Raises:
            TraceVersionError: If a newer version of the package wrote it.
            DamagedTraceError: If it is not the schema of a trace.
        """
        text = (schema.metadata or {}).get(METADATA_KEY)
        if text is None:
            raise DamagedTraceError(f"{where}: expected a shard of a trace, got an Arrow file of something else")
        described = parsed(text, where)
        check_version(described, where)
        missing = [field.name for field in FIXED_FIELDS if schema.get_all_field_indices(field.name) == []]
        if missing or len(set(schema.names)) != len(schema.names):
            raise DamagedTraceError(f"{where}: expected the columns of a trace, each once; missing are {missing}")
        if any(schema.field(field.name).type != field.type for field in FIXED_FIELDS):
            raise DamagedTraceError(f"{where}: expected the types of a trace's columns, got {schema.types}")
        about = {key: value for key, value in described.items() if key not in ("format_version", "layout")}
        try:
            columns = {field.name: Column.from_field(field) for field in schema if _holds_arrays(field)}
            layout = Layout.from_json(described.get("layout"), columns)
            return cls(layout, InfoColumns.from_schema(schema), about)
        except DamagedTraceError as error:
            raise DamagedTraceError(f"{where}: {error}") from error


def _holds_arrays(field: Any) -> bool:
    described = field_metadata(field)
    return "dtype" in described and "path" not in described
