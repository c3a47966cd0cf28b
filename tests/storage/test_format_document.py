"""What `docs/format.md` says is enough to write a reader from."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import plain_reader
import pytest
from hypothesis import given
from hypothesis import strategies as st
from traces import alike, of_space

from vecrollout import DictObs, TraceWriter, Trajectory, TrajectoryWithRew, TupleObs
from vecrollout.testing import SPACES, assert_same
from vecrollout.testing.strategies import leaf_spaces, nested_spaces, ragged_spaces, trajectories


def assert_reads(written: list[Any], directory: Path | str) -> None:
    read = plain_reader.read(Path(directory))
    assert len(read) == len(written)
    for actual, expected in zip(read, written, strict=True):
        assert_same(actual["obs"], plain(expected.obs))
        assert_same(actual["acts"], plain(expected.acts))
        assert_same(actual["rews"], expected.rews)
        assert actual["terminated"] == expected.terminated
        assert actual["truncated"] == expected.truncated
        assert_same(actual["infos"], None if expected.infos is None else list(expected.infos))
        for name in ("id", "env_index", "start_step", "seed", "ended_by"):
            assert actual["episode"][name] == getattr(expected.episode, name)


def plain(tree: Any) -> Any:
    return tree.unwrap() if isinstance(tree, DictObs | TupleObs) else tree


@pytest.mark.parametrize("compression", ["zstd", "lz4", None])
@pytest.mark.parametrize("space", SPACES)
def test_every_space(space: str, compression: Any, tmp_path: Path) -> None:
    infos = [{"i": i, "nested": {"a": np.float32(i), "odd": [i, (1,)]}, "some": i} for i in range(5)]
    infos[3] = {
        "i": None,
        "array": np.arange(3),
        7: b"bytes",
        "nan": float("nan"),
        "signed": [-float("nan")],
        "nested": {},
    }
    written = [of_space(space, 5, 0, infos=infos), of_space(space, 2, 1)]
    with TraceWriter(tmp_path, compression=compression) as writer:
        for each in written:
            writer.append(each)
    assert_reads(written, tmp_path)


@st.composite
def similar_trajectories(draw: st.DrawFn) -> list[TrajectoryWithRew]:
    spaces, actions = draw(nested_spaces() | ragged_spaces()), draw(leaf_spaces())
    drawn = draw(st.lists(trajectories(spaces, actions), min_size=1, max_size=3))
    return alike(drawn)


@given(similar_trajectories())
def test_any_trajectories(written: list[TrajectoryWithRew]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        with TraceWriter(directory) as writer:
            for each in written:
                writer.append(each)
        assert_reads(written, directory)


def test_a_shard_without_its_footer_and_a_long_trajectory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vecrollout.storage.writing.shards.SPLIT_BYTES", 2000)
    written = [of_space("dict", 300, 0, infos=[{}] * 300), of_space("dict", 3, 1)]
    with TraceWriter(tmp_path) as writer:
        for each in written:
            writer.append(each)
            writer.flush()
        assert_reads(written, tmp_path)


def test_dtypes_that_arrow_does_not_have(tmp_path: Path) -> None:
    structured = np.dtype([("a", "<i2"), ("b", "<f4", (2,))])
    leaves: dict[str, Any] = {
        name: np.arange(8).reshape(4, 2).astype(dtype)
        for name, dtype in {"big": ">i4", "complex": ">c8", "time": "<M8[us]", "bytes": "S3", "long": "g"}.items()
    }
    leaves["structured"] = np.zeros(4, structured)
    written = Trajectory(DictObs(leaves), np.zeros((3, 2, 0)), None, False)
    object.__setattr__(written, "rews", None)
    with TraceWriter(tmp_path) as writer:
        writer.append(written)
    assert_reads([written], tmp_path)
