"""Columns are decompressed when somebody asks for them, and by what the shard says of itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from journals import lines_of, only, parts_of, with_shard
from traces import write

from vecrollout import TraceWriter, Trajectory, TrajectoryWithRew, open_traces
from vecrollout.errors import DamagedTraceError


def images(dtype: type = np.uint8) -> TrajectoryWithRew:
    obs = np.arange(101, dtype=dtype)[:, None, None] * np.ones((256, 256), dtype)
    return TrajectoryWithRew(obs, np.arange(100), None, True, rews=np.arange(100) / 2)


def test_rewards_of_images_leave_the_images_where_they_are(tmp_path: Path) -> None:
    written = images()
    write(tmp_path, [written])
    (batch,) = open_traces(tmp_path).batches()
    before = pa.total_allocated_bytes()
    assert np.array_equal(batch.rews, written.rews)
    assert np.array_equal(batch.acts, written.acts)
    assert pa.total_allocated_bytes() - before < written.obs.nbytes / 10
    assert np.array_equal(batch.obs, written.obs)
    assert pa.total_allocated_bytes() - before >= written.obs.nbytes
    assert batch.episodes[0] == written.episode


def test_a_shard_that_still_grows(tmp_path: Path) -> None:
    written = images()
    with TraceWriter(tmp_path) as writer:
        writer.append(written)
        writer.flush()
        (batch,) = open_traces(tmp_path).batches()
        assert np.array_equal(batch.rews, written.rews)
        assert np.array_equal(batch.obs, written.obs)


def test_a_footer_that_tells_other_columns(tmp_path: Path) -> None:
    """With a right checksum."""
    write(tmp_path / "it", [images()])
    write(tmp_path / "other", [images(np.int8)])
    contents = [only(tmp_path / name, ".arrow").read_bytes() for name in ("it", "other")]
    ends = [parts_of(tmp_path / name)[-1][1] for name in ("it", "other")]
    forged = contents[0][: ends[0]] + contents[1][ends[1] :]
    only(tmp_path / "it", ".arrow").write_bytes(forged)
    journal = only(tmp_path / "it", ".journal")
    journal.write_bytes(with_shard(lines_of(journal), forged))
    with pytest.raises(DamagedTraceError):
        list(open_traces(tmp_path / "it"))
    (batch,) = open_traces(tmp_path / "it").batches()
    with pytest.raises(DamagedTraceError, match="footer"):
        _ = batch.obs


def test_the_cache_counts_text_that_was_decompressed(tmp_path: Path) -> None:
    text = "x" * (1 << 20)
    infos = [{"text": text}] * 8
    with TraceWriter(tmp_path) as writer:
        for _ in range(20):
            writer.append(Trajectory(np.zeros(9), np.zeros(8), infos, True))
            writer.flush()
    traces = open_traces(tmp_path)
    before = pa.total_allocated_bytes()
    assert all(trajectory.infos is not None and trajectory.infos[0]["text"] == text for trajectory in traces)
    # The cache has 64 MiB, and the 20 record batches have 160 MiB.
    assert pa.total_allocated_bytes() - before < 80 << 20
