"""Where rows are large, the episode table reads the head of each record batch alone, whose checksum it compares."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import xxhash
from journals import lines_of, of_lines, only

from vecrollout import Episode, TraceWriter, TrajectoryWithRew, open_traces, repair_traces, verify_traces
from vecrollout.errors import DamagedTraceError

COMPRESSIONS = ("zstd", "lz4", None)


def image_trajectory(number: int, steps: int) -> TrajectoryWithRew:
    generator = np.random.default_rng(number)
    return TrajectoryWithRew(
        obs=generator.integers(0, 256, (steps + 1, 2, 32, 32), np.uint8),
        acts=np.arange(steps),
        infos=[{"lives": i, "odd": (i,)} for i in range(steps)],
        terminal=True,
        rews=generator.random(steps, np.float32),
        episode=Episode(id=number, seed=40 + number, recording="one", reset_info={"start": number}),
    )


@pytest.fixture(params=COMPRESSIONS, ids=str)
def compression(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def directory(compression: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A shard of two record batches of short trajectories, and of a long one, in pieces if it is compressed."""
    monkeypatch.setattr("vecrollout.storage.writing.shards.SPLIT_BYTES", 32 << 10)
    with TraceWriter(tmp_path, compression=compression) as writer:
        for number, steps in enumerate((3, 5, 4, 60)):
            writer.append(image_trajectory(number, steps), metadata={"number": number})
            if number != 1:
                writer.flush()
    return tmp_path


def pieces_of(directory: Path) -> list[list[Any]]:
    """All record batches, as the journal lists them."""
    return [piece for line in lines_of(only(directory, ".journal")) if "batch" in line for piece in line["batch"][1]]


def rewrite(path: Path, content: bytes) -> None:
    path.unlink()  # what is mapped stays as it is
    path.write_bytes(content)


def test_no_altered_byte_alters_the_table(directory: Path) -> None:
    """Bytes of heads are damage, also to the table; bytes of images are damage to trajectories."""
    shard, table = only(directory, ".arrow"), open_traces(directory).to_arrow()
    content = shard.read_bytes()
    generator = random.Random(0)
    for offset, size, _, _, head_bytes, _ in pieces_of(directory):
        heads = range(offset, offset + head_bytes)
        for at in {*heads[:: max(1, head_bytes // 60)], heads[-1], *generator.sample(heads, 10)}:
            rewrite(shard, content[:at] + bytes([content[at] ^ 1 << generator.randrange(8)]) + content[at + 1 :])
            with pytest.raises(DamagedTraceError, match=r"batch \d+: altered"):
                open_traces(directory).to_arrow()
        for at in (heads.stop, offset + size - 1):
            rewrite(shard, content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
            traces = open_traces(directory)
            assert traces.to_arrow().equals(table)
            with pytest.raises(DamagedTraceError, match=r"batch \d+: altered"):
                list(traces)
            assert not verify_traces(directory).ok


def test_a_selection_by_return_of_altered_rewards(tmp_path: Path) -> None:
    with TraceWriter(tmp_path, compression=None) as writer:
        writer.extend([image_trajectory(0, 3), image_trajectory(1, 5)])
    shard, rews = only(tmp_path, ".arrow"), image_trajectory(0, 3).rews
    content = shard.read_bytes()
    assert content.count(rews.tobytes()) == 1
    rewrite(shard, content.replace(rews.tobytes(), (rews + 100).tobytes()))
    traces = open_traces(tmp_path)
    for select in (
        lambda: traces.filter(pc.field("return_") > 50),
        lambda: traces.summary(),
        lambda: traces.to_pandas(),
        lambda: traces[:1].to_arrow(),
    ):
        with pytest.raises(DamagedTraceError, match="batch 0: altered"):
            select()


def test_the_table_needs_nothing_but_heads(directory: Path) -> None:
    shard, table = only(directory, ".arrow"), open_traces(directory).to_arrow()
    content = bytearray(shard.read_bytes())
    pieces = pieces_of(directory)
    for offset, size, *_, head_bytes, _ in pieces:
        assert head_bytes < size / 3
        content[offset + head_bytes : offset + size] = bytes(size - head_bytes)
    rewrite(shard, bytes(content))
    assert open_traces(directory).to_arrow().equals(table)
    expected = [float(image_trajectory(*each).rews.sum(dtype=np.float64)) for each in enumerate((3, 5, 4, 60))]
    assert table.column("return_").to_pylist() == pytest.approx(expected, abs=1e-12)
    assert table.column("number").to_pylist() == [0, 1, 2, 3]


def test_heads_are_as_the_document_says(directory: Path) -> None:
    """The head ends where the first buffer behind the column `trajectory` begins."""
    content, pieces = only(directory, ".arrow").read_bytes(), pieces_of(directory)
    schema = pa.ipc.open_stream(content[8:]).schema
    names = schema.names[: schema.names.index("trajectory") + 1]
    assert names == ["episode", "step", "env", "reward", "terminated", "truncated", "trajectory"]
    for offset, size, _, _, head_bytes, head_sum in pieces:
        assert xxhash.xxh3_64_hexdigest(content[offset : offset + head_bytes]) == head_sum
        message = content[offset : offset + size]
        batch = pa.ipc.read_record_batch(pa.ipc.read_message(message), schema)
        if not is_compressed(schema):
            begin = message.index(batch.column("obs").buffers()[-1].to_pybytes()[:64])
            assert begin == head_bytes


def is_compressed(schema: pa.Schema) -> bool:
    return b'"compression":null' not in schema.metadata[b"vecrollout"]


@pytest.mark.parametrize("change", [{4: 1 << 40}, {4: -8}, {4: "8"}, {4: True}, {5: 7}, {5: None}], ids=str)
def test_a_head_that_cannot_be(change: dict[int, Any], directory: Path) -> None:
    journal = only(directory, ".journal")
    lines = lines_of(journal)
    batch = next(line for line in lines if "batch" in line)
    for at, value in change.items():
        batch["batch"][1][0][at] = value
    journal.write_bytes(of_lines(lines))
    with pytest.raises(DamagedTraceError, match="expected a line of a journal"):
        open_traces(directory)
    assert not verify_traces(directory).ok
    repair_traces(directory)
    assert verify_traces(directory).ok
    assert len(open_traces(directory).to_arrow()) == 4


def test_a_head_with_another_checksum(directory: Path) -> None:
    """The record batch is sound, and its journal is not: verifying tells, and repairing mends."""
    table = open_traces(directory).to_arrow()
    journal = only(directory, ".journal")
    lines = lines_of(journal)
    batch = [line for line in lines if "batch" in line][-1]
    batch["batch"][1][0][5] = "0" * 16
    journal.write_bytes(of_lines(lines))
    with pytest.raises(DamagedTraceError, match="batch 2: altered"):
        open_traces(directory).to_arrow()
    assert [problem.place for problem in verify_traces(directory).problems] == ["batch 2"]
    assert repair_traces(directory).trajectories == 3
    assert verify_traces(directory).ok
    assert open_traces(directory).to_arrow().equals(table[:3])


def test_repaired_traces_have_heads(directory: Path) -> None:
    table = open_traces(directory).to_arrow()
    shard = only(directory, ".arrow")
    shard.write_bytes(shard.read_bytes()[:-1])
    assert repair_traces(directory).trajectories == 4
    assert all(piece[4] for piece in pieces_of(directory))
    assert open_traces(directory).to_arrow().equals(table)
    assert verify_traces(directory).ok


def test_without_checksums_and_without_heads(directory: Path) -> None:
    """Whoever writes a journal may leave heads out: the table then reads whole record batches."""
    table = open_traces(directory).to_arrow()
    assert open_traces(directory, check=False).to_arrow().equals(table)
    journal = only(directory, ".journal")
    lines = lines_of(journal)
    for line in lines:
        for piece in line.get("batch", [0, []])[1]:
            del piece[4:]
    journal.write_bytes(of_lines(lines))
    assert open_traces(directory).to_arrow().equals(table)
    assert verify_traces(directory).ok


def test_small_rows_have_no_heads(tmp_path: Path) -> None:
    with TraceWriter(tmp_path) as writer:
        writer.append(TrajectoryWithRew(np.zeros((4, 3)), np.zeros(3), None, True, rews=np.ones(3)))
    assert [len(piece) for piece in pieces_of(tmp_path)] == [4]
