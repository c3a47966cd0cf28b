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
from journals import lines_of, of_lines, only, with_shard
from traces import of_space, write

from vecrollout import TraceDataset, Trajectory, open_traces, repair_traces, verify_traces
from vecrollout.errors import DamagedTraceError

METADATA_KEY = b"vecrollout"

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


def forged(
    directory: Path,
    change: Callable[[pa.Table], pa.Table],
    written: Any = None,
    change_about: Callable[[dict[str, Any]], Any] = lambda described: None,
) -> Path:
    """A trace whose only shard was changed, with a journal of right checksums."""
    each = written or of_space("dict", 3, infos=[{"odd": [i]} for i in range(3)], seed=1)
    write(directory, [each], compression=None, metadata={"when": np.datetime64(1, "ns")})
    shard, journal = only(directory, ".arrow"), only(directory, ".journal")
    table = change(pa.ipc.open_file(pa.BufferReader(shard.read_bytes())).read_all())
    shard.unlink()
    with pa.ipc.new_file(str(shard), table.schema) as writer:
        writer.write_table(table)
    header, *lines = lines_of(journal)
    described = {**header, "layout": {}}
    change_about(described)
    described.pop("layout", None)
    journal.write_bytes(with_shard([described, *lines], shard.read_bytes()))
    return directory


def unchanged(table: pa.Table) -> pa.Table:
    return table


def with_trajectory(**fields: Any) -> Callable[[pa.Table], pa.Table]:
    """With other values of what is said of the trajectory as a whole."""

    def change(table: pa.Table) -> pa.Table:
        entries = table.column("trajectory").to_pylist()
        entries[0] = [{**entries[0][0], **fields}]
        at = table.schema.get_field_index("trajectory")
        return table.set_column(at, table.schema.field(at), pa.array(entries, table.schema.field(at).type))

    return change


def with_entries(entries: Callable[[list[Any]], list[Any]]) -> Callable[[pa.Table], pa.Table]:
    def change(table: pa.Table) -> pa.Table:
        at = table.schema.get_field_index("trajectory")
        changed = pa.array(entries(table.column("trajectory").to_pylist()), table.schema.field(at).type)
        return table.set_column(at, table.schema.field(at), changed)

    return change


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


def read_everything(directory: Path) -> None:
    traces = open_traces(directory)
    for number, each in enumerate(traces):
        traces.about(number)
        traces.metadata_of(number)
        list(each.infos if each.infos is not None else [])


def refused(directory: Path) -> None:
    """Reading raises, and neither verifying nor repairing does."""
    with pytest.raises(DamagedTraceError):
        read_everything(directory)
    verify_traces(directory)
    repair_traces(directory)


def enormous() -> dict[str, Any]:
    everywhere = {"everywhere": 0.0}
    return {"kind": "Box", "shape": [1 << 20, 1 << 20], "dtype": "<f8", "low": everywhere, "high": everywhere}


def many_large() -> dict[str, Any]:
    box = {"kind": "Box", "shape": [1 << 24], "dtype": "<f8", "low": {"everywhere": 0.0}, "high": {"everywhere": 1.0}}
    return {"kind": "Tuple", "spaces": [box] * 100}


BOMB = pickle.dumps(Executes()).hex()
INFOS = {
    "objects in an array": '{"x":{"$array":["|O",[1],"AAAAAAAAAAA="]}}',
    "more than there is": '{"x":{"$array":["<f8",[1000000000000],""]}}',
    "a shape that overflows": '{"x":{"$array":["<f8",[4294967296,4294967296,4294967296],""]}}',
    "a kind that is not known": '{"x":{"$pickle":"' + BOMB + '"}}',
    "a dtype that is code": '{"x":{"$array":["__import__(\'os\').mkdir(\'executed\')",[1],""]}}',
    "a dtype that is nested": '{"x":{"$array":[[["a",[["b",[["c","|O"]]]]]],[1],""]}}',
    "a unit that divides by zero": '{"x":{"$array":["<M8[ns/0]",[1],"AAAAAAAAAAA="]}}',
    "a scalar of such a unit": '{"x":{"$scalar":["<M8[ns/0]","AAAAAAAAAAA="]}}',
    "text as long as memory": '{"x":{"$array":["<U500000000",[1],""]}}',
    "no object": "[1, 2]",
    "no JSON": "{",
    "very deep": '{"x":' + "[" * 200_000 + "]" * 200_000 + "}",
    "keys that cannot be": '{"x":{"$dict":[[[1],2]]}}',
    "another key of a last observation": '{"$final_obs":["__class__"]}',
    "a key of a last observation that is a list": '{"$final_obs":[[]]}',
    "last observations that are no list": '{"$final_obs":3}',
    "no base64": '{"x":{"$bytes":"%%%"}}',
    "a tree of nothing": '{"x":{"$obs":3}}',
}
TRAJECTORIES: dict[str, Callable[[pa.Table], pa.Table]] = {
    "another ending": with_trajectory(ended_by="os.system"),
    "no number of steps": with_trajectory(steps=None),
    "fewer steps": with_trajectory(steps=2),
    "more steps": with_trajectory(steps=4),
    "endless steps": with_trajectory(steps=2**62),
    "negative steps": with_trajectory(steps=-1),
    "a negative start": with_trajectory(start_step=-1),
    "no start": with_trajectory(start_step=None),
    "no JSON": with_trajectory(extra="{"),
    "a list": with_trajectory(extra="[1]"),
    "an array for a dict": with_trajectory(extra='{"reset_info":[1]}'),
    "text for a number": with_trajectory(extra='{"seed":"__import__"}'),
    "metadata that is none": with_trajectory(extra='{"metadata":3}'),
    "two entries": with_entries(lambda entries: [entries[0] * 2, *entries[1:]]),
    "an entry in another row": with_entries(lambda entries: [*entries[1:], entries[0]]),
    "no entry": with_entries(lambda entries: [[] for _ in entries]),
    "null": with_entries(lambda entries: [entries[0], None, *entries[2:]]),
    "an entry of null": with_entries(lambda entries: [[None], *entries[1:]]),
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
    "spaces that fill any memory": lambda described: described.update(spaces=[many_large(), many_large()]),
    "metadata of a unit that divides by zero": lambda described: described.update(
        metadata={"when": {"$scalar": ["<M8[ns/0]", "AAAAAAAAAAA="]}}
    ),
    "no version": lambda described: described.update(format_version="1"),
}


FIELDS: dict[str, dict[str, Any]] = {
    "a dtype that is code": {"dtype": "__import__('os').mkdir('executed')", "shape": [2]},
    "objects": {"dtype": "|O", "shape": [], "item": ["array", "|O", []]},
    "objects of nothing known": {"dtype": "|O", "shape": [], "item": ["pickle"]},
    "another dtype": {"dtype": "<f4", "shape": [2]},
    "a unit that divides by zero": {"dtype": "<M8[ns/0]", "shape": [2]},
    "text as long as memory": {"dtype": "<U500000000", "shape": [2]},
    "another shape": {"dtype": "<f8", "shape": [3]},
    "a negative shape": {"dtype": "<f8", "shape": [-2]},
    "an enormous shape": {"dtype": "<f8", "shape": [2**62, 2**62]},
}


@pytest.mark.parametrize("name", INFOS)
def test_infos(name: str, tmp_path: Path) -> None:
    refused(forged(tmp_path, with_text("info_json", 1, INFOS[name])))


@pytest.mark.parametrize("name", TRAJECTORIES)
def test_trajectories(name: str, tmp_path: Path) -> None:
    refused(forged(tmp_path, TRAJECTORIES[name]))


@pytest.mark.parametrize("name", SCHEMAS)
def test_schemas(name: str, tmp_path: Path) -> None:
    refused(forged(tmp_path, with_metadata(SCHEMAS[name]), change_about=SCHEMAS[name]))


@pytest.mark.parametrize("name", FIELDS)
def test_fields(name: str, tmp_path: Path) -> None:
    refused(forged(tmp_path, with_field("obs.position", {METADATA_KEY: json.dumps(FIELDS[name])})))


def test_a_dtype_of_text_as_long_as_memory(tmp_path: Path) -> None:
    written = Trajectory(np.array(["a", "b", "c"]), np.array([0, 1]), None, True)
    refused(forged(tmp_path, with_trajectory(extra='{"dtypes":{"obs":"<U500000000"}}'), written))


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


def of_line(kind: str, change: Callable[[dict[str, Any]], Any]) -> Callable[[list[dict[str, Any]]], Any]:
    return lambda lines: change(next(line for line in lines if kind in line))


JOURNALS: dict[str, Callable[[list[dict[str, Any]]], Any]] = {
    "no header": lambda lines: lines.pop(0),
    "another writer": lambda lines: lines[0].update(writer="20300101T000000.000000000Z-0123456789abcdef"),
    "a path for a number": of_line("shard", lambda line: line["shard"].__setitem__(0, "../outside")),
    "a negative number": of_line("shard", lambda line: line["shard"].__setitem__(0, -1)),
    "a head without end": of_line("shard", lambda line: line["shard"].__setitem__(1, 2**70)),
    "a shard twice": lambda lines: lines.insert(2, dict(lines[1])),
    "no batch": of_line("batch", lambda line: line["batch"].__setitem__(1, [])),
    "a batch of text": of_line("batch", lambda line: line["batch"].__setitem__(1, "text")),
    "a batch elsewhere": of_line("batch", lambda line: line["batch"][1][0].__setitem__(0, 1)),
    "a batch without end": of_line("batch", lambda line: line["batch"][1][0].__setitem__(1, 2**61)),
    "a batch of nothing": of_line("batch", lambda line: line["batch"][1][0].__setitem__(1, 0)),
    "rows that are none": of_line("batch", lambda line: line.update(rows=4)),
    "no rows": of_line("batch", lambda line: line.update(rows=[])),
    "negative rows": of_line("batch", lambda line: line.update(rows=[-4, 8])),
    "large rows": of_line("batch", lambda line: line.update(rows=[2**70])),
    "fewer rows": of_line("batch", lambda line: line.update(rows=[3])),
    "rows whose sum wraps around": of_line("batch", lambda line: line.update(rows=[2**62] * 3 + [2**62 + 4])),
    "more trajectories": of_line("batch", lambda line: line.update(rows=[2, 2])),
    "an episode of text": of_line("batch", lambda line: line.update(episode="text")),
    "no episode": of_line("batch", lambda line: line.pop("episode")),
    "more episodes": of_line("batch", lambda line: line.update(episode=[0, 1])),
    "another ending": of_line("batch", lambda line: line.update(ended=4)),
    "an end before the beginning": of_line("finished", lambda line: line["finished"].__setitem__(1, 3)),
    "a line of another kind": lambda lines: lines.insert(1, {"pickle": [0, 1]}),
    "an empty line": lambda lines: lines.insert(1, {}),
    "lines behind the end": lambda lines: lines.append({"flushed": [0, 1]}),
}


@pytest.mark.parametrize("name", JOURNALS)
def test_journals(name: str, tmp_path: Path) -> None:
    """With right checksums, but lines that cannot be."""
    write(tmp_path, [of_space("box", 3)])
    journal = only(tmp_path, ".journal")
    lines = lines_of(journal)
    JOURNALS[name](lines)
    journal.write_bytes(of_lines(lines))
    refused(tmp_path)


@pytest.mark.parametrize("spec", [5, {"id": "text"}, ["text"]], ids=str)
def test_a_spec_that_is_no_text(spec: Any, tmp_path: Path) -> None:
    """The caller is not blamed for it when the trace is written anew."""
    write(tmp_path / "trace", [of_space("box", 3)])
    journal = only(tmp_path / "trace", ".journal")
    header, *lines = lines_of(journal)
    journal.write_bytes(of_lines([{**header, "env_spec": spec}, *lines]))
    with pytest.raises(DamagedTraceError, match="env_spec of text"):
        open_traces(tmp_path / "trace").write(tmp_path / "copy")
    assert not (tmp_path / "copy").exists()
    del header["env_spec"]
    journal.write_bytes(of_lines([header, *lines]))
    open_traces(tmp_path / "trace").write(tmp_path / "copy")
    assert len(open_traces(tmp_path / "copy")) == 1


@pytest.mark.parametrize("text", [b"[1]", b'"text"', b"5", b"nothing", b"[" * 100_000])
def test_a_line_that_is_no_object(text: bytes, tmp_path: Path) -> None:
    import xxhash

    write(tmp_path, [of_space("box", 3)])
    journal = only(tmp_path, ".journal")
    line = text + b" " + xxhash.xxh3_64_hexdigest(text).encode() + b"\n"
    for content in (line, journal.read_bytes() + line, line + journal.read_bytes()):
        journal.write_bytes(content)
        refused(tmp_path)


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
    changed = content.replace(offsets.tobytes(), altered.tobytes())
    shard.write_bytes(changed)
    journal = only(tmp_path, ".journal")
    journal.write_bytes(with_shard(lines_of(journal), changed))
    with pytest.raises(DamagedTraceError, match="batch 0"):
        open_traces(tmp_path)[0]


READS: dict[str, Callable[[TraceDataset], Any]] = {
    "a trajectory": lambda traces: traces[1],
    "all trajectories": list,
    "identities": lambda traces: next(traces.batches()).episodes,
    "metadata": lambda traces: traces.metadata_of(1),
    "the table": lambda traces: traces.to_arrow(),
}


def with_text_that_points_anywhere(directory: Path, obs: Any) -> TraceDataset:
    """Three trajectories, of which one says in what lies behind the file how it ended."""
    write(directory, [Trajectory(obs, np.zeros(2), None, True) for _ in range(3)], compression=None)
    shard = only(directory, ".arrow")
    offsets, altered = np.array([[0, 10, 20, 30], [0, 10, 1 << 30, 30]], np.int32)  # of "terminated"
    content = shard.read_bytes()
    assert content.count(offsets.tobytes()) == 1
    shard.write_bytes(content.replace(offsets.tobytes(), altered.tobytes()))
    return open_traces(directory)


@pytest.mark.parametrize("name", READS)
def test_text_of_identities_that_points_anywhere(name: str, tmp_path: Path) -> None:
    with_text_that_points_anywhere(tmp_path, np.zeros(3))
    journal = only(tmp_path, ".journal")
    journal.write_bytes(with_shard(lines_of(journal), only(tmp_path, ".arrow").read_bytes()))
    with pytest.raises(DamagedTraceError, match="batch 0"):
        READS[name](open_traces(tmp_path))


def test_altered_identities_beside_images(tmp_path: Path) -> None:
    """The table does not compare the checksums of images."""
    traces = with_text_that_points_anywhere(tmp_path, np.zeros((3, 64, 64), np.uint8))
    with pytest.raises(DamagedTraceError, match="batch 0"):
        traces.to_arrow()
