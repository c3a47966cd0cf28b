"""What is written comes back: to the bit, in structure, dtype and identity."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from traces import alike, assert_same_trajectory, of_space

from vecrollout import DictObs, Episode, TraceWriter, Trajectory, TrajectoryWithRew, open_traces
from vecrollout.storage.writing.intake import BATCH_ROWS
from vecrollout.testing import SPACES, assert_same
from vecrollout.testing.strategies import leaf_spaces, nested_spaces, trajectories

COMPRESSIONS = ("zstd", "lz4", None)


def stored(directory: Path | str, written: list[Any], **options: Any) -> list[Trajectory]:
    with TraceWriter(directory, **options) as writer:
        for each in written:
            writer.append(each)
    return list(open_traces(directory))


@st.composite
def similar_trajectories(draw: st.DrawFn) -> list[TrajectoryWithRew]:
    """Several with the same spaces and dtypes, ids in order."""
    obs_space, act_space = draw(nested_spaces()), draw(leaf_spaces())
    drawn = draw(st.lists(trajectories(obs_space, act_space), min_size=1, max_size=4))
    return alike(drawn)


@given(similar_trajectories(), st.sampled_from(COMPRESSIONS))
def test_any_trajectories_come_back(written: list[TrajectoryWithRew], compression: Any) -> None:
    with tempfile.TemporaryDirectory() as directory:
        read = stored(directory, written, compression=compression)
        assert len(read) == len(written)
        for actual, expected in zip(read, written, strict=True):
            assert_same_trajectory(actual, expected)


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("space", SPACES)
def test_every_space_comes_back(space: str, compression: Any, tmp_path: Path) -> None:
    written = [of_space(space, steps, number) for number, steps in enumerate((1, 2, 7))]
    for actual, expected in zip(stored(tmp_path, written, compression=compression), written, strict=True):
        assert_same_trajectory(actual, expected)


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("shard_bytes", [4096, 1 << 20])
def test_lengths_around_the_limits(compression: Any, shard_bytes: int, tmp_path: Path) -> None:
    """A trajectory has a row more than steps; shards of the smaller size end after every batch."""
    lengths = [BATCH_ROWS + off for off in (-2, -1, 0, 1)] + [1, 2 * BATCH_ROWS, 1, 1, BATCH_ROWS // 2 - 1] * 2
    written = []
    for number, steps in enumerate(lengths):
        rows = np.arange(number, number + steps + 1)
        obs = DictObs({"a": rows, "b": rows[:, np.newaxis] / np.float32([3, 7])})
        written.append(TrajectoryWithRew(obs, rows[1:], None, True, rews=rows[1:] / 2, episode=Episode(id=number)))
    read = stored(tmp_path, written, compression=compression, max_shard_bytes=shard_bytes)
    for actual, expected in zip(read, written, strict=True):
        assert_same_trajectory(actual, expected)


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_a_trajectory_larger_than_a_piece_of_one(
    compression: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vecrollout.storage.writing.shards.SPLIT_BYTES", 1000)
    infos = [{"step": i, "odd": [i] if i % 7 == 0 else i} for i in range(300)]
    written = [of_space("text", 300, infos=infos), of_space("text", 1, 1), of_space("text", 299, 2)]
    written[0] = TrajectoryWithRew(**vars(written[0]))
    read = stored(tmp_path, written, compression=compression)
    for actual, expected in zip(read, written, strict=True):
        assert_same_trajectory(actual, expected)
    part = open_traces(tmp_path).episode(0, 17, 211)
    assert_same(part.obs, written[0].obs[17:212])
    assert_same(list(part.infos if part.infos is not None else []), infos[17:211])


DTYPES = [
    *("?", "<f2", ">f4", "<f8", ">i2", "<u8", "<c8", ">c16", "<M8[us]", "<m8[D]", "S3", ">U2"),
    np.dtype([("a", "<i2"), ("b", "<f4", (2,))]),
    np.dtype(np.longdouble),
    np.dtype(np.longdouble).newbyteorder(),
    np.dtype(np.clongdouble),
]


@pytest.mark.parametrize("shape", [(), (3,), (2, 0), (2, 2)])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_dtype_comes_back(dtype: Any, shape: tuple[int, ...], tmp_path: Path) -> None:
    numbers = np.arange(5 * int(np.prod(shape))).reshape(5, *shape)
    obs = np.zeros(numbers.shape, dtype)
    if obs.dtype.names:
        obs["a"], obs["b"] = numbers, numbers[..., None]
    else:
        obs[...] = numbers.astype(dtype)
    written = Trajectory(obs=obs, acts=obs[:4], infos=None, terminal=False)
    assert_same_trajectory(stored(tmp_path, [written, written])[1], written)


def test_objects_come_back(tmp_path: Path) -> None:
    obs = np.empty(3, dtype=object)
    obs[:] = [(1, {"a": np.arange(3)}), None, [[], b"bytes", float("nan"), np.float32(1)]]
    written = Trajectory(obs=DictObs({"x": obs}), acts=obs[:2], infos=None, terminal=False)
    assert_same_trajectory(stored(tmp_path, [written])[0], written)


def test_keys_that_would_share_a_column_name(tmp_path: Path) -> None:
    numbers = np.arange(4)
    obs = {"a.b": numbers, "a": {"b": numbers * 2}, "a.b#2": numbers * 3}
    infos = [{"x.y": i, "x": {"y": -i}} for i in range(3)]
    written = Trajectory(obs=obs, acts=numbers[:3], infos=infos, terminal=False)
    assert_same_trajectory(stored(tmp_path, [written])[0], written)


def test_identity_and_metadata(tmp_path: Path) -> None:
    episode = Episode(id=7, env_index=2, start_step=40, seed=np.int64(3), reset_info={"a": (1,)}, ended_by="closed")
    written = of_space("box", 5, terminal=False, episode=episode)
    with TraceWriter(tmp_path) as writer:
        writer.append(written, metadata={"task": "walk", "weights": np.arange(3)})
    traces = open_traces(tmp_path)
    assert traces[0].episode == episode
    assert_same(traces.metadata_of(0), {"task": "walk", "weights": np.arange(3)})
    assert traces.episode(0, 2, 4).episode == Episode(7, 2, 42, 3, {"a": (1,)}, None)


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_a_range_of_steps(compression: Literal["zstd", "lz4"] | None, tmp_path: Path) -> None:
    whole = of_space("nested", 9, infos=[{"i": i} for i in range(9)], terminated=True, truncated=True)
    stored(tmp_path, [of_space("nested", 3, 5), whole], compression=compression)
    traces = open_traces(tmp_path)
    number = next(i for i, each in enumerate(traces) if len(each) == 9)
    for start in range(9):
        for stop in range(start + 1, 10):
            part = traces.episode(number, start, stop)
            assert isinstance(part, TrajectoryWithRew)
            assert_same(part.obs, whole.obs[start : stop + 1])
            assert_same(part.acts, whole.acts[start:stop])
            assert_same(part.rews, whole.rews[start:stop])
            assert part.infos is not None
            assert [info["i"] for info in part.infos] == list(range(start, stop))
            assert part.terminated == part.truncated == (stop == 9)
            fields = traces.columns(number, ["rews", "obs"], start, stop)
            assert list(fields) == ["rews", "obs"]
            assert_same(fields["obs"], whole.obs[start : stop + 1])


def test_uncompressed_arrays_are_views_of_the_file(tmp_path: Path) -> None:
    stored(tmp_path, [of_space("image", 9, number) for number in range(3)], compression=None)
    allocated = pa.total_allocated_bytes()
    image = open_traces(tmp_path)[1].obs
    assert isinstance(image, np.ndarray)
    assert pa.total_allocated_bytes() == allocated
    assert not image.flags.owndata
    assert not image.flags.writeable


@pytest.mark.parametrize("shape", [(), (2,), (2, 0)])
def test_byte_order_of_a_trajectory_in_several_batches(
    shape: tuple[int, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vecrollout.storage.writing.shards.SPLIT_BYTES", 200)
    rows = np.arange(41 * int(np.prod(shape))).reshape(41, *shape)
    written = Trajectory(obs=rows.astype(">f4"), acts=rows[:40].astype(">i2"), infos=None, terminal=False)
    assert_same_trajectory(stored(tmp_path, [written])[0], written)


def test_bools_of_numpy_among_those_of_python(tmp_path: Path) -> None:
    infos = [{"flag": True}] * 3
    later = [{"flag": np.True_}, {"flag": False}, {"flag": np.False_}]
    with TraceWriter(tmp_path) as writer:
        writer.append(of_space("box", 3, 0, infos=infos))
        writer.flush()
        writer.append(of_space("box", 3, 1, infos=later))
    read = open_traces(tmp_path)[1].infos
    assert read is not None
    assert_same(list(read), later)
