"""A reader of traces written from `docs/format.md` alone: pyarrow, NumPy and JSON, and no code of the library."""

from __future__ import annotations

import base64
import json
import math
import re
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from gymnasium.spaces import GraphInstance

SHARD = re.compile(r"(\d{8}T\d{6}\.\d{9}Z-[0-9a-f]{16})-(\d{6,})\.arrow")


def read(directory: Path) -> list[dict[str, Any]]:
    """All trajectories, in the order that the document gives."""
    found = []
    for path in sorted(directory.iterdir()):
        if match := SHARD.fullmatch(path.name):
            found += [(match[1], *each) for each in trajectories(path)]
    return [each[-1] for each in sorted(found, key=lambda each: each[:3])]


def trajectories(path: Path) -> list[tuple[int, int, dict[str, Any]]]:
    content = path.read_bytes()
    if content.endswith(b"ARROW1"):
        table = pa.ipc.open_file(pa.BufferReader(content)).read_all()
    else:
        table = unfinished(content)
    rows = table.to_pylist()
    about = json.loads(table.schema.metadata[b"vecrollout"])
    assert about["format_version"] == 1
    columns = {field.name: values(field, table.column(field.name).combine_chunks()) for field in table.schema}
    found = []
    begin = None
    for i, row in enumerate(rows):
        if begin is None and row["trajectory"]:
            begin = i
        elif begin is not None and row["terminated"] is None:
            found.append((row["episode"], rows[begin]["step"], trajectory(rows, columns, about, begin, i)))
            begin = None
    return found


def unfinished(content: bytes) -> pa.Table:
    """An Arrow stream behind the first 8 bytes, as far as whole batches go."""
    reader = pa.ipc.open_stream(pa.BufferReader(content[8:]))
    batches = []
    while True:
        try:
            batches.append(reader.read_next_batch())
        except (StopIteration, pa.ArrowInvalid, OSError):
            return pa.Table.from_batches(batches, reader.schema)


def trajectory(rows: Any, columns: Any, about: Any, begin: int, last: int) -> dict[str, Any]:
    layout = about["layout"]
    (story,) = rows[begin]["trajectory"]
    assert story["steps"] == last - begin
    story |= json.loads(story["extra"] or "{}")
    obs = tree(layout["obs"], columns, slice(begin, last + 1), story)
    infos: list[dict[str, Any]] | None = None
    if story["has_infos"]:
        infos = [info_of(columns, rows, i) for i in range(begin, last)]
        for each, i in zip(infos, range(begin, last), strict=True):
            for key in json.loads(rows[i]["info_json"] or "{}").get("$final_obs", []):
                each[key] = last_of(obs)
    return {
        "obs": obs,
        "acts": tree(layout["acts"], columns, slice(begin, last), story),
        "rews": None if layout["rews"] is None else stacked(columns[layout["rews"]][begin:last], False),
        "infos": infos,
        "terminated": rows[last - 1]["terminated"],
        "truncated": rows[last - 1]["truncated"],
        "episode": story,
    }


def info_of(columns: Any, rows: Any, i: int) -> dict[str, Any]:
    info: dict[str, Any] = {}
    for column in columns.values():
        if isinstance(column, InfoColumn) and column.values[i] is not None:
            here = info
            for key in column.path[:-1]:
                here = here.setdefault(key, {})
            here[column.path[-1]] = column.values[i]
    merge(info, {key: python(value) for key, value in plain_or_pairs(json.loads(rows[i]["info_json"] or "{}"))})
    return info


def plain_or_pairs(packed: Any) -> Any:
    if "$dict" in packed:
        return [(python(key), value) for key, value in packed["$dict"]]
    return [(key, value) for key, value in packed.items() if key != "$final_obs"]


def merge(info: Any, rest: Any) -> None:
    for key, value in rest.items():
        if isinstance(value, dict) and value and isinstance(info.get(key), dict):
            merge(info[key], value)
        else:
            info[key] = value


class InfoColumn:
    def __init__(self, path: list[str], values: list[Any]) -> None:
        self.path = path
        self.values = values


class Objects(list[Any]):
    """The values of a column of objects."""


def values(field: pa.Field, column: Any) -> Any:
    """A value for each row: arrays and objects as NumPy has them, None where null."""
    about = json.loads((field.metadata or {}).get(b"vecrollout", b"{}"))
    if "path" in about:
        return InfoColumn(about["path"], items(about["item"], column))
    if "item" in about:
        return Objects(items(about["item"], column))
    if "dtype" in about:
        return items(["array", about["dtype"], about["shape"]], column)
    return None


def items(item: Any, column: Any) -> list[Any]:
    kind, *rest = item
    if kind in ("bool", "int", "float", "str"):
        return column.to_pylist()
    if kind == "nothing":
        return [None] * len(column)
    if kind == "json":
        return [None if text is None else python(json.loads(text)) for text in column.to_pylist()]
    if kind in ("scalar", "array"):
        dtype, shape = np.lib.format.descr_to_dtype(tuples(rest[0])), tuple(rest[1]) if kind == "array" else ()
        decoded = [
            None if each is None and math.prod(shape) else array(each, dtype, shape) for each in column.to_pylist()
        ]
        return [each[()] if kind == "scalar" and each is not None else each for each in decoded]
    if kind == "rows":
        dtype, shape = np.dtype(rest[0]), tuple(rest[1])
        return [
            None if each is None else np.array([array(row, dtype, shape) for row in each], dtype).reshape(-1, *shape)
            for each in column.to_pylist()
        ]
    if kind == "sequence":
        flat, ends = items(rest[0], column.values), column.offsets.to_pylist()
        valid = column.is_valid().to_pylist()
        return [tuple(flat[a:b]) if ok else None for a, b, ok in zip(ends, ends[1:], valid, strict=False)]
    fields = [items(child, column.field(i)) for i, (_, child) in enumerate(rest[0])]
    keys = [key for key, _ in rest[0]]
    rows = zip(*fields, strict=True)
    made = [dict(zip(keys, row, strict=True)) if kind == "dict" else row for row in rows]
    made = [GraphInstance(*row) for row in made] if kind == "graph" else made
    return [each if ok else None for each, ok in zip(made, column.is_valid().to_pylist(), strict=True)]


def tuples(descr: Any) -> Any:
    return descr if isinstance(descr, str) else [(each[0], tuples(each[1]), *map(tuple, each[2:])) for each in descr]


def array(value: Any, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Any:
    """An item of numbers, of the plain number or the flat list that it is stored as."""
    flat = value if isinstance(value, list) else [value]
    if math.prod(shape) == 0:
        return np.zeros(shape, dtype)
    if dtype.kind in "US":
        return np.array(flat, dtype.kind).reshape(shape)
    if dtype.kind == "V" or dtype.newbyteorder("=").char in "gG":
        return np.frombuffer(bytes(flat), dtype).reshape(shape)
    native = dtype.newbyteorder("=")
    if dtype.kind == "c":
        return np.array(flat, f"f{dtype.itemsize // 2}").view(native).astype(dtype).reshape(shape)
    if dtype.kind in "mM":
        return np.array(flat, np.int64).view(native).astype(dtype).reshape(shape)
    return np.array(flat, native).astype(dtype).reshape(shape)


def tree(layout: Any, columns: Any, rows: slice, story: Any) -> Any:
    """Dicts and tuples of arrays, a row a step."""
    if isinstance(layout, str):
        dtype = story.get("dtypes", {}).get(layout)
        column = columns[layout]
        stack = stacked(column[rows], isinstance(column, Objects))
        return stack if dtype is None else stack.astype(np.dtype(dtype))
    ((kind, entries),) = layout.items()
    if kind == "dict":
        return {python(key): tree(child, columns, rows, story) for key, child in entries}
    return tuple(tree(child, columns, rows, story) for _, child in entries)


def stacked(column: list[Any], is_objects: bool) -> Any:
    made = np.empty(len(column), object) if is_objects else np.empty((len(column), *column[0].shape), column[0].dtype)
    for i, each in enumerate(column):
        made[i] = each
    return made


def last_of(obs: Any) -> Any:
    if isinstance(obs, dict):
        return {key: last_of(child) for key, child in obs.items()}
    return tuple(map(last_of, obs)) if isinstance(obs, tuple) else obs[-1, ...]


def python(packed: Any) -> Any:
    """A value of the document's JSON."""
    if isinstance(packed, list):
        return [python(each) for each in packed]
    if not isinstance(packed, dict):
        return packed
    if len(packed) != 1 or not next(iter(packed)).startswith("$"):
        return {key: python(value) for key, value in packed.items()}
    ((kind, content),) = packed.items()
    if kind == "$tuple":
        return tuple(map(python, content))
    if kind == "$dict":
        return {python(key): python(value) for key, value in content}
    if kind == "$float":
        return float(content) if content in ("nan", "inf", "-inf") else struct.unpack(">d", bytes.fromhex(content))[0]
    if kind == "$bytes":
        return base64.b64decode(content)
    if kind == "$graph":
        return GraphInstance(*map(python, content))
    if kind == "$obs":
        return python(content)
    if kind == "$objects":
        made = np.empty(len(content[1]), dtype=object)
        for i, each in enumerate(content[1]):
            made[i] = python(each)
        return made.reshape(content[0])
    assert kind in ("$array", "$scalar")
    dtype = np.lib.format.descr_to_dtype(tuples(content[0]))
    data = base64.b64decode(content[-1])
    if kind == "$scalar":
        return np.frombuffer(data, dtype)[0] if data else dtype.type()
    return np.frombuffer(data, dtype).reshape(content[1])
