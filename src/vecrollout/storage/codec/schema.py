"""A shard's schema: its columns, and what its metadata says about the trace."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from vecrollout.data.kinds import Kind
from vecrollout.data.plain import dumps
from vecrollout.errors import DamagedTraceError
from vecrollout.storage.arrow import Parsing, pa
from vecrollout.storage.codec.columns import Column
from vecrollout.storage.codec.infos import InfoColumns, unpacked_info
from vecrollout.storage.codec.layout import ShardLayout
from vecrollout.storage.codec.metadata import FORMAT_VERSION, METADATA_KEY, check_version, parsed
from vecrollout.storage.codec.spaces import space_from_json

FIELDS = ("obs", "acts", "rews", "infos")
"""What of a trajectory can be read by itself."""

LARGE_ROW_BYTES = 1024
"""Rows of at least this size are large, such as images."""

LAST_OF_HEAD = "trajectory"
"""The last column of a record batch's head. Where rows are large, the head has a checksum of its own."""

TRAJECTORY_FIELDS = (
    pa.field("recording", pa.string()),
    pa.field("id", pa.int64()),
    pa.field("env_index", pa.int32()),
    pa.field("start_step", pa.int64()),
    pa.field("seed", pa.int64()),
    pa.field("ended_by", pa.string()),
    pa.field("steps", pa.int64()),
    pa.field("has_infos", pa.bool_()),
    pa.field("extra", pa.string()),
)
"""What there is to say of a trajectory as a whole."""

NO_RESET_INFO = '{"reset_info":{}}'
"""What `extra` says of most trajectories: the reset returned an empty info."""

FIXED_FIELDS = (
    pa.field("episode", pa.int64()),
    pa.field("step", pa.int64()),
    pa.field("env", pa.int32()),
    pa.field("terminated", pa.bool_()),
    pa.field("truncated", pa.bool_()),
    pa.field("info_json", pa.string()),
    pa.field("trajectory", pa.list_(pa.struct(TRAJECTORY_FIELDS))),
)
"""Columns that every shard has, whatever the trajectories hold."""


@dataclass(frozen=True)
class TraceSchema:
    """Which columns a shard has, and what is said about the trace as a whole."""

    layout: ShardLayout
    infos: InfoColumns
    about: Mapping[str, Any]
    """Writer's name, spaces, versions, the user's metadata: what the journal's header says too."""
    number: int | None = None
    """Number of the shard; None: it does not say."""

    def to_arrow(self) -> Any:
        """The `pyarrow.Schema`; the columns of a record batch's head come first."""
        fixed = {field.name: field for field in FIXED_FIELDS}
        layout = self.layout
        fields = [
            *(fixed[name] for name in ("episode", "step", "env")),
            *([] if layout.rews is None else [layout.rews.field()]),
            *(fixed[name] for name in ("terminated", "truncated", LAST_OF_HEAD)),
            *(column.field() for column in (*layout.obs.columns, *layout.acts.columns)),
            *(column.field() for column in self.infos.columns),
            fixed["info_json"],
        ]
        described = {
            "format_version": FORMAT_VERSION,
            **self.about,
            "number": self.number,
            "layout": self.layout.to_json(),
        }
        return pa.schema(fields, metadata={METADATA_KEY: dumps(described)})

    @classmethod
    def from_arrow(cls, schema: Any, where: str) -> TraceSchema:
        """The schema of a shard, checked."""
        text = (schema.metadata or {}).get(METADATA_KEY)
        if text is None:
            raise DamagedTraceError(f"{where}: expected a shard of a trace, got an Arrow file of something else")
        described = parsed(text, where)
        check_version(described, where)
        number = described.get("number")
        about = {key: each for key, each in described.items() if key not in ("format_version", "layout", "number")}
        with Parsing(where):  # names may be no text
            missing = [field.name for field in FIXED_FIELDS if schema.get_all_field_indices(field.name) == []]
            if missing or len(set(schema.names)) != len(schema.names):
                raise ValueError(f"expected the columns of a trace, each once; missing are {missing}")
            if any(schema.field(field.name).type != field.type for field in FIXED_FIELDS):
                raise ValueError(f"expected the types of a trace's columns, got {schema.types}")
            columns = [column for column in map(Column.from_field, schema) if column is not None]
            layout = ShardLayout.from_json(
                described.get("layout"), {each.name: each for each in columns if not each.path}
            )
            infos = InfoColumns([each for each in columns if each.path])
            return cls(layout, infos, about, number if type(number) is int else None)

    def arrow_columns(self, fields: Sequence[str]) -> list[str]:
        """Names of the columns that some of a trajectory's fields are in."""
        names: list[str] = []
        # The last info may refer to the last observation.
        if "obs" in fields or "infos" in fields:
            names += [column.name for column in self.layout.obs.columns]
        if "acts" in fields:
            names += [column.name for column in self.layout.acts.columns]
        if "rews" in fields and self.layout.rews is not None:
            names.append(self.layout.rews.name)
        if "infos" in fields:
            names += [*(column.name for column in self.infos.columns), "info_json"]
        return [*names, "trajectory"]

    @cached_property
    def groups(self) -> list[list[str]]:
        """Columns that are read together: small ones of arrays, each large one by itself, and those of infos."""
        columns = self.layout.columns
        large = [column.name for column in columns if column.row_bytes >= LARGE_ROW_BYTES]
        small = [column.name for column in columns if column.name not in large]
        return [small, *([name] for name in large), [*(column.name for column in self.infos.columns), "info_json"]]

    @cached_property
    def kind(self) -> Kind:
        """Structures, dtypes and shapes."""
        return self.layout.kind()


def read_about(about: Mapping[str, Any], where: str) -> dict[str, Any]:
    """What is said of the trace as a whole, spaces and metadata as they were given."""
    spaces = about.get("spaces")
    if spaces is not None and (not isinstance(spaces, list) or len(spaces) != 2):
        raise DamagedTraceError(f"{where}: expected two spaces, got {spaces!r}")
    spec = about.get("env_spec")
    if spec is not None and not isinstance(spec, str):
        raise DamagedTraceError(f"{where}: expected an env_spec of text, got {spec!r}")
    read = None if spaces is None else tuple(map(space_from_json, spaces))
    return {**about, "spaces": read, "env_spec": spec, "metadata": unpacked_info(about.get("metadata", {}), where)}
