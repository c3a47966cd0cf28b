"""The episode table of a directory: a row a trajectory, made without reading observations."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from vecrollout.data.conditions import COLUMN_TYPES, IDENTITY_COLUMNS
from vecrollout.data.plain import UnstorableError, dumps, pack
from vecrollout.storage.arrow import pa
from vecrollout.storage.codec.decode import DecodedBatch
from vecrollout.storage.codec.infos import unpacked_info
from vecrollout.storage.codec.metadata import parsed
from vecrollout.storage.reading.catalog import Located, Place

COLUMNS = {name: pa.type_for_alias(type_) for name, type_ in COLUMN_TYPES.items()} | {"writer": pa.string()}
"""Columns that each table has; the keys of the user's metadata follow them."""

Read: TypeAlias = Callable[[Place, int], DecodedBatch]
"""Reads rewards and identities of a piece of a group."""

_TOLD = {name: field for name, field in IDENTITY_COLUMNS.items() if name != "start_step"}
_PLAIN = (type(None), bool, int, float, str)


def table_of(groups: Sequence[Place], located: Located, read: Read) -> Any:
    """The table of trajectories in the order of `located`, made in one pass over the files."""
    told: dict[str, list[Any]] = {name: [pa.array([], COLUMNS[name])] for name in ("return_", "writer", *_TOLD)}
    notes: list[Mapping[str, Any] | None] = []
    abouts: dict[tuple[str, str], tuple[dict[str, Any], int]] = {}
    for place in groups:
        first = read(place, 0)
        count = len(first.entries)
        everything = pa.array(np.arange(count))
        for name, field in _TOLD.items():
            # A copy, so that the record batch can be freed.
            told[name].append(first.entries.column(field).take(everything))
        told["return_"].append(_returns(place, first, read))
        told["writer"].append(pa.repeat(pa.scalar(place.journal.writer, pa.string()), count))
        notes += [_note(text, place.shard) for text in first.entries.column("extra").to_pylist()]
        journal = place.journal
        metadata = unpacked_info((journal.about or {}).get("metadata", {}), journal.name)
        key = str(place.folder), journal.name
        abouts[key] = metadata, abouts.get(key, ({}, 0))[1] + count
    counts = [len(each.group.trajectories) for each in groups]
    order = (np.cumsum([0, *counts])[:-1][located.group] + located.place).astype(np.int64)
    columns = {name: pa.concat_arrays(parts).take(order) for name, parts in told.items()}
    columns |= {
        "length": located.steps,
        "start_step": located.start_step,
        "terminated": located.ended & 1 > 0,
        "truncated": located.ended & 2 > 0,
    }
    table = pa.table([columns[name] for name in COLUMNS], names=list(COLUMNS))
    for name, values in _metadata_columns(list(abouts.values()), notes).items():
        table = table.append_column(name, values.take(order))
    return table


def joined_tables(tables: Sequence[Any]) -> Any:
    """Tables one behind another; columns of metadata whose types do not fit together become text."""
    types: dict[str, set[Any]] = {}
    for table in tables:
        for field in table.schema:
            types.setdefault(field.name, set()).add(field.type)
    texts = [name for name, found in types.items() if not _fit_together(found - {pa.null()})]
    for name in texts:
        tables = [
            table.set_column(table.schema.get_field_index(name), name, table.column(name).cast(pa.string()))
            if name in table.column_names
            else table
            for table in tables
        ]
    return pa.concat_tables(tables, promote_options="permissive")


def with_columns(table: Any, columns: Mapping[str, Any]) -> Any:
    """A table in which some columns are others."""
    for name, values in columns.items():
        table = table.set_column(table.schema.get_field_index(name), name, pa.chunked_array([pa.array(values)]))
    return table


def _fit_together(types: set[Any]) -> bool:
    return len(types) < 2 or all(pa.types.is_integer(each) or pa.types.is_floating(each) for each in types)


def _returns(place: Place, first: DecodedBatch, read: Read) -> Any:
    """The sum of each trajectory's rewards, in float64; nulls where there are none, or vectors."""
    column = first.schema.layout.rews
    if column is None or column.shape:
        return pa.nulls(len(first.entries), pa.float64())
    if len(place.group.pieces) == 1:
        begins = np.cumsum(first.lengths) - first.lengths
        return pa.array(np.add.reduceat(first.column("rews").astype(np.float64), begins))
    # The last row of a trajectory has no reward.
    steps, total = int(first.lengths[0]), 0.0
    for piece in range(len(place.group.pieces)):
        batch = first if piece == 0 else read(place, piece)
        rows = min(batch.rows, steps)
        total, steps = total + float(batch.array(column)[:rows].sum(dtype=np.float64)), steps - rows
    return pa.array([total])


def _note(extra: str | None, where: str) -> Mapping[str, Any] | None:
    """The user's metadata of a trajectory; None: none."""
    if extra is None or '"metadata"' not in extra:
        return None
    return unpacked_info(parsed(extra, where).get("metadata", {}), where)


def _metadata_columns(
    of_writers: Iterable[tuple[Mapping[Any, Any], int]], notes: Sequence[Mapping[Any, Any] | None]
) -> dict[str, Any]:
    """A column for each key of the metadata of writers, which hold for so many trajectories each, and trajectories."""
    writers = list(of_writers)
    keys = dict.fromkeys(key for metadata in [*(each for each, _ in writers), *filter(None, notes)] for key in metadata)
    found = {}
    for key in keys:
        name = f"metadata.{key}" if str(key) in COLUMNS else str(key)
        values = [value for metadata, count in writers for value in [_plain(metadata.get(key))] * count]
        for i, note in enumerate(notes):
            if note is not None and key in note:
                values[i] = _plain(note[key])
        found[name] = _array(values)
    return found


def _plain(value: Any) -> Any:
    """A value for a column; JSON if it is neither a number nor text."""
    value = value.item() if isinstance(value, np.generic) else value
    if isinstance(value, _PLAIN):
        return value
    try:
        return dumps(pack(value))
    except UnstorableError:
        return str(value)


def _array(values: list[Any]) -> Any:
    try:
        return pa.array(values)
    except (ValueError, TypeError, OverflowError):  # of several types, or more than 64 bits
        return pa.array([value if value is None or isinstance(value, str) else str(value) for value in values])
