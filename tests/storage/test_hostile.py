"""Files made to do harm: a clear error, and none of what they bring along is run."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import xxhash
from traces import of_space, write

from vecrollout import Trajectory, open_traces, repair_traces, verify_traces
from vecrollout.errors import DamagedTraceError
from vecrollout.storage.format import METADATA_KEY

MARK = Path(__file__).with_name("executed")


class Executes:
    """Unpickled, it leaves a mark."""

    def __reduce__(self) -> Any:
        return os.mkdir, (str(MARK),)


@pytest.fixture(autouse=True)
def nothing_is_run() -> Any:
    yield
    was_run = MARK.exists()
    if was_run:
        MARK.rmdir()
    assert not was_run


def forged(directory: Path, change: Callable[[pa.Table], pa.Table], written: Any = None) -> Path:
    """A sound trace, and beside it one whose only shard was changed; it needs no manifest."""
    origin = directory / "sound"
    each = written or of_space("dict", 3, infos=[{"odd": [i]} for i in range(3)], seed=1)
    write(origin, [each], compression=None)
    (shard,) = origin.glob("*.arrow")
    table = change(pa.ipc.open_file(str(shard)).read_all())
    target = directory / "forged"
    target.mkdir()
    with pa.ipc.new_file(str(target / shard.name), table.schema) as writer:
        writer.write_table(table)
    return target


def with_text(column: str, row: int, text: str) -> Callable[[pa.Table], pa.Table]:
    def change(table: pa.Table) -> pa.Table:
        texts = table.column(column).to_pylist()
        texts[row] = text
        at = table.schema.get_field_index(column)
        return table.set_column(at, table.schema.field(at), pa.array(texts, pa.string()))

    return change


def with_metadata(change_of: Callable[[dict[str, Any]], Any]) -> Callable[[pa.Table], pa.Table]:
    def change(table: pa.Table) -> pa.Table:
        described = json.loads(table.schema.metadata[METADATA_KEY])
        change_of(described)
        return table.replace_schema_metadata({METADATA_KEY: json.dumps(described)})

    return change


def with_field(column: str, metadata: dict[bytes, Any]) -> Callable[[pa.Table], pa.Table]:
    def change(table: pa.Table) -> pa.Table:
        at = table.schema.get_field_index(column)
        field = table.schema.field(at)
        field = field.with_metadata({**(field.metadata or {}), **metadata})
        return table.cast(table.schema.set(at, field))

    return change


def checksum_of(document: dict[str, Any]) -> str:
    text = json.dumps(document, sort_keys=True, separators=(",", ":"))
    return xxhash.xxh3_64_hexdigest(text.encode())


def read_everything(directory: Path) -> None:
    traces = open_traces(directory)
    for number, each in enumerate(traces):
        traces.about(number)
        list(each.infos if each.infos is not None else [])


def enormous() -> dict[str, Any]:
    everywhere = {"everywhere": 0.0}
    return {"kind": "Box", "shape": [1 << 20, 1 << 20], "dtype": "<f8", "low": everywhere, "high": everywhere}


BOMB = pickle.dumps(Executes()).hex()
INFOS = {
    "objects in an array": '{"x":{"$array":["|O",[1],"AAAAAAAAAAA="]}}',
    "more than there is": '{"x":{"$array":["<f8",[1000000000000],""]}}',
    "a shape that overflows": '{"x":{"$array":["<f8",[4294967296,4294967296,4294967296],""]}}',
    "a kind that is not known": '{"x":{"$pickle":"' + BOMB + '"}}',
    "a dtype that is code": '{"x":{"$array":["__import__(\'os\').mkdir(\'executed\')",[1],""]}}',
    "a dtype that is nested": '{"x":{"$array":[[["a",[["b",[["c","|O"]]]]]],[1],""]}}',
    "no object": "[1, 2]",
    "no JSON": "{",
    "very deep": '{"x":' + "[" * 200_000 + "]" * 200_000 + "}",
    "keys that cannot be": '{"x":{"$dict":[[[1],2]]}}',
    "another key of a last observation": '{"$final_obs":["__class__"]}',
    "no base64": '{"x":{"$bytes":"%%%"}}',
    "a tree of nothing": '{"x":{"$obs":3}}',
}
STORIES = {
    "nothing": "",
    "no identity": "{}",
    "text for a number": '{"id":"__import__","start_step":0,"ended_by":null,"has_infos":true}',
    "another ending": '{"id":0,"start_step":0,"ended_by":"os.system","has_infos":true}',
    "an array for a dict": '{"id":0,"start_step":0,"ended_by":null,"has_infos":true,"reset_info":[1]}',
}
SCHEMAS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "no layout": lambda described: described.pop("layout"),
    "a column that is not there": lambda described: described["layout"].update(acts="missing"),
    "a tree of a number": lambda described: described["layout"].update(obs=1.5),
    "a key that is a list": lambda described: described["layout"].update(obs={"dict": [[[1], "reward"]]}),
    "a key that comes twice": lambda described: described["layout"].update(obs={"dict": [["a", "reward"]] * 2}),
    "a tree that is none": lambda described: described["layout"].update(obs={"pickle": []}),
    "one space": lambda described: described.update(spaces=[{"kind": "unknown"}]),
    "spaces that are none": lambda described: described.update(spaces=5),
    "bounds that fill any memory": lambda described: described.update(spaces=[enormous(), enormous()]),
    "no version": lambda described: described.update(format_version="1"),
}


FIELDS: dict[str, dict[str, Any]] = {
    "a dtype that is code": {"dtype": "__import__('os').mkdir('executed')", "shape": [2]},
    "objects": {"dtype": "|O", "shape": [], "item": ["array", "|O", []]},
    "objects of nothing known": {"dtype": "|O", "shape": [], "item": ["pickle"]},
    "another dtype": {"dtype": "<f4", "shape": [2]},
    "another shape": {"dtype": "<f8", "shape": [3]},
    "a negative shape": {"dtype": "<f8", "shape": [-2]},
    "an enormous shape": {"dtype": "<f8", "shape": [2**62, 2**62]},
}


@pytest.mark.parametrize("name", INFOS)
def test_infos(name: str, tmp_path: Path) -> None:
    directory = forged(tmp_path, with_text("info_json", 1, INFOS[name]))
    with pytest.raises(DamagedTraceError):
        read_everything(directory)


@pytest.mark.parametrize("name", STORIES)
def test_stories(name: str, tmp_path: Path) -> None:
    directory = forged(tmp_path, with_text("episode_json", 0, STORIES[name]))
    with pytest.raises(DamagedTraceError):
        read_everything(directory)


@pytest.mark.parametrize("name", SCHEMAS)
def test_schemas(name: str, tmp_path: Path) -> None:
    directory = forged(tmp_path, with_metadata(SCHEMAS[name]))
    with pytest.raises(DamagedTraceError):
        read_everything(directory)


@pytest.mark.parametrize("name", FIELDS)
def test_fields(name: str, tmp_path: Path) -> None:
    directory = forged(tmp_path, with_field("obs.position", {METADATA_KEY: json.dumps(FIELDS[name])}))
    with pytest.raises(DamagedTraceError):
        read_everything(directory)


def test_an_extension_type_that_would_be_unpickled(tmp_path: Path) -> None:
    extension = {
        b"ARROW:extension:name": b"arrow.py_extension_type",
        b"ARROW:extension:metadata": pickle.dumps(Executes()),
    }
    directory = forged(tmp_path, with_field("obs.position", extension))
    with contextlib.suppress(DamagedTraceError):
        read_everything(directory)
    verify_traces(directory)
    repair_traces(directory)


@pytest.mark.parametrize("value", [3, [[8]], []])
def test_an_index_of_other_shapes_is_not_used(value: Any, tmp_path: Path) -> None:
    """Where no manifest has its checksum, whatever is beside a shard is looked at."""
    written = of_space("box", 3)
    write(tmp_path, [written])
    next(tmp_path.glob("*.json")).unlink()
    (path,) = tmp_path.glob("*.index")
    table = pa.ipc.open_file(pa.BufferReader(path.read_bytes())).read_all()
    for name in ("offset", "bytes", "rows"):
        described = json.loads(table.schema.metadata[METADATA_KEY])
        described["batches"][name] = value
        altered = table.replace_schema_metadata({METADATA_KEY: json.dumps(described)})
        with pa.ipc.new_file(str(path), altered.schema) as writer:
            writer.write_table(altered)
        assert open_traces(tmp_path)[0] == written
        verify_traces(tmp_path)


@pytest.mark.parametrize("file", ["../outside.arrow", "/outside.arrow", "sub/outside.arrow"])
def test_a_manifest_that_leads_out_of_the_directory(file: str, tmp_path: Path) -> None:
    directory = tmp_path / "traces"
    write(directory, [of_space("box", 3)])
    (manifest,) = directory.glob("*.json")
    document = json.loads(manifest.read_bytes())
    document["shards"][0]["file"] = file
    document.pop("xxh3_64")
    manifest.write_text(json.dumps({**document, "xxh3_64": checksum_of(document)}))
    with pytest.raises(DamagedTraceError, match="expected shards of this writer"):
        open_traces(directory)


def test_lengths_of_arrays_that_point_anywhere(tmp_path: Path) -> None:
    """Also without checksums, which whoever alters a file can write anew."""
    obs = np.empty(4, object)
    for i in range(4):
        obs[i] = np.full(i + 1, i)
    write(tmp_path, [Trajectory(obs, np.zeros(3), None, True)], compression=None)
    (shard,) = tmp_path.glob("*.arrow")
    offsets, altered = np.array([[0, 1, 3, 6, 10], [0, 1, 1 << 30, 6, 10]], np.int32)
    content = shard.read_bytes()
    assert content.count(offsets.tobytes()) == 1
    shard.write_bytes(content.replace(offsets.tobytes(), altered.tobytes()))
    with pytest.raises(DamagedTraceError, match="batch 0"):
        open_traces(tmp_path, check=False)[0]
