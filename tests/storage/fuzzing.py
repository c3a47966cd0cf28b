"""Reads a trace with altered bytes, again and again: `python fuzzing.py SEED TIMES HOW TRACE...`.

Only errors of the library may be raised, in 2 GB of memory. `HOW` says which bytes are altered, and whether the
journal has their checksums, so that a parser sees the bytes.
"""

from __future__ import annotations

import contextlib
import copy
import json
import os
import random
import resource
import shutil
import sys
import warnings
from pathlib import Path
from typing import Any

import pyarrow as pa
import xxhash
from journals import lines_of, of_lines, only, parts_of, with_shard

from vecrollout import open_traces, repair_traces, verify_traces
from vecrollout.errors import VecrolloutError

LIMIT_BYTES = 2 << 30


def altered(content: bytes, parts: list[tuple[str, int, int]], generator: random.Random, how: str) -> bytes:
    """The shard with other bytes: one anywhere, or several in what pyarrow parses."""
    changed = bytearray(content)
    if how == "anywhere":
        changed[generator.randrange(len(content))] ^= 1 << generator.randrange(8)
        return bytes(changed)
    _, begin, end = generator.choice(parts)
    # A message begins with its metadata, and the footer is nothing else.
    end = min(end, begin + 4000)
    for _ in range(generator.choice([1, 2, 2, 3])):
        at = generator.randrange(begin, end)
        changed[at] = generator.choice([0, 1, 255, 127, 128, changed[at] ^ (1 << generator.randrange(8)), 4])
        if generator.random() < 0.2:
            changed[at : at + 8] = generator.choice([bytes(8), b"\xff" * 8, (1 << 40).to_bytes(8, "little")])
    return bytes(changed[: len(content)])


CRAFTED: list[Any] = [
    *(None, True, -1, 0, 2**31, 2**63, 2**70, 1e308, "", "x", "obs", "$tuple", [], [[]], {}, [0, 1, 2], [-1], [2**40]),
    *(
        "<M8[ns/0]",
        "<U500000000",
        "|O",
        "<f4",
        "|V99999999",
        [["a", "<f8"]],
        ["array", "|O", []],
        ["sequence", ["json"]],
    ),
    *(
        {"$array": ["<f8", [2**40], ""]},
        {"$scalar": ["<M8[0ns]", ""]},
        {"$obs": {}},
        {"$final_obs": [[]]},
        {"$dict": [1]},
    ),
    {"kind": "Box", "shape": [1 << 24], "dtype": "<f8", "low": {"everywhere": 0.0}, "high": {"everywhere": 1.0}},
    {"kind": "Tuple", "spaces": [{"kind": "MultiBinary", "n": 2**40}] * 9},
    {"dict": [["a", "obs.level"], ["a", "obs.level"]]},
    json.loads("[" * 400 + "]" * 400),
]


def crafted(document: Any, generator: random.Random) -> Any:
    """A JSON document with one value replaced."""
    if not isinstance(document, dict | list) or not document or generator.random() < 0.15:
        return copy.deepcopy(generator.choice(CRAFTED))
    changed = copy.deepcopy(document)
    key: Any = generator.choice(list(document)) if isinstance(document, dict) else generator.randrange(len(document))
    if isinstance(document, dict) and generator.random() < 0.1:
        del changed[key]
    else:
        changed[key] = crafted(document[key], generator)
    return changed


def of_crafted_json(content: bytes, lines: list[Any], generator: random.Random) -> tuple[bytes, bytes]:
    """Shard and journal with another value somewhere in their JSON."""
    table = pa.ipc.open_file(pa.BufferReader(content)).read_all()
    place = generator.choice(["journal", "schema", "field", "info", "extra"])
    if place == "journal":
        at = generator.randrange(len(lines))
        lines[at] = crafted(lines[at], generator)
        return content, of_lines(lines)
    if place == "schema":
        described = crafted(json.loads(table.schema.metadata[b"vecrollout"]), generator)
        table = table.replace_schema_metadata({b"vecrollout": json.dumps(described)})
    elif place == "field":
        at = generator.choice([i for i, field in enumerate(table.schema) if field.metadata])
        field = table.schema.field(at)
        described = crafted(json.loads(field.metadata[b"vecrollout"]), generator)
        field = field.with_metadata({b"vecrollout": json.dumps(described)})
        table = table.set_column(at, field, table.column(at))
    else:
        name = "info_json" if place == "info" else "trajectory"
        rows, at = table.column(name).to_pylist(), table.schema.get_field_index(name)
        row = generator.choice([i for i, value in enumerate(rows) if value])
        if place == "info":
            rows[row] = json.dumps(crafted(json.loads(rows[row]), generator))
        else:
            rows[row][0]["extra"] = json.dumps(crafted(json.loads(rows[row][0]["extra"]), generator))
        field = table.schema.field(at)
        table = table.set_column(at, field, pa.array(rows, field.type))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table.combine_chunks())
    shard = sink.getvalue().to_pybytes()
    return shard, with_shard(lines, shard)


def with_sums(journal: Path, content: bytes) -> bytes:
    """The journal with the checksums of other bytes."""

    def of(begin: int, end: int) -> str:
        return xxhash.xxh3_64_hexdigest(content[begin:end])

    lines = lines_of(journal)
    end = 0
    for line in lines:
        if "shard" in line:
            end = line["shard"][1]
            line["shard"][2] = of(0, end)
        for piece in line.get("batch", [0, []])[1]:
            end = piece[0] + piece[1]
            piece[3] = of(piece[0], end)
            if piece[4:]:
                piece[5] = of(piece[0], piece[0] + piece[4])
        if "finished" in line:
            line["finished"][2] = of(end, line["finished"][1])
    return of_lines(lines)


def read(directory: Path) -> None:
    traces = open_traces(directory)
    with contextlib.suppress(VecrolloutError):
        traces.to_arrow()
    for number in range(len(traces)):
        with contextlib.suppress(VecrolloutError):
            trajectory = traces[number]
            list(trajectory.infos if trajectory.infos is not None else [])
            traces.about(number)
            traces.metadata_of(number)
        with contextlib.suppress(VecrolloutError):
            traces.columns(number, ["obs"])
    for batch in traces.batches():
        batch.transitions()


def main(origin: Path, seed: int, times: int, how: str) -> None:
    warnings.simplefilter("ignore")
    generator = random.Random(seed)
    parts = parts_of(origin)
    shard, journal = only(origin, ".arrow"), only(origin, ".journal")
    content, sound = shard.read_bytes(), journal.read_bytes()
    target = origin.with_name(f"{origin.name}-{seed}-{how}")
    read(origin)
    resource.setrlimit(resource.RLIMIT_AS, (LIMIT_BYTES, LIMIT_BYTES))
    for number in range(times):
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir()
        changed = altered(content, parts, generator, how)
        (target / shard.name).write_bytes(changed)
        if how == "json":
            changed, lines = of_crafted_json(content, lines_of(journal), generator)
            (target / shard.name).write_bytes(changed)
            (target / journal.name).write_bytes(lines)
        # So that a crash names it.
        (origin.parent / f"last-{origin.name}-{seed}-{how}").write_text(str(number))
        if how == "journal":
            altered_lines = bytearray(sound)
            altered_lines[generator.randrange(len(sound))] ^= 1 << generator.randrange(8)
            (target / journal.name).write_bytes(altered_lines)
            (target / shard.name).write_bytes(content)
        elif how == "forged":
            (target / journal.name).write_bytes(with_sums(journal, changed))
        elif how not in ("lost", "json"):
            (target / journal.name).write_bytes(sound)
        for function in (read, verify_traces, repair_traces, read):
            with contextlib.suppress(VecrolloutError):
                function(target)
    print("survived", os.getpid())


if __name__ == "__main__":
    for trace in sys.argv[4:]:
        main(Path(trace), int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
