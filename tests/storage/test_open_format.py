"""Shards open without this package, in columns that a person understands."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from traces import of_space, write

COMPRESSIONS = ("zstd", "lz4", None)


@pytest.fixture(params=COMPRESSIONS, ids=str)
def shard(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    infos = [{"lives": 3, "episode": {"r": 1.5}, "odd": (1, 2)}] * 4
    written = [of_space("nested", 4, 0, infos=infos), of_space("nested", 2, 1, infos=infos[:2])]
    write(tmp_path, written, compression=request.param)
    (path,) = tmp_path.glob("*.arrow")
    return path


def test_pyarrow(shard: Path) -> None:
    with pa.memory_map(str(shard)) as source:
        table = pa.ipc.open_file(source).read_all()
    assert table.column_names == [
        *("episode", "step", "env", "reward", "terminated", "truncated", "trajectory"),
        *("obs.arm.angle", "obs.arm.grip", "obs.pair.0", "obs.pair.1"),
        *("action.arm.angle", "action.arm.grip", "action.pair.0", "action.pair.1"),
        *("info.lives", "info.episode.r", "info_json"),
    ]
    assert table["episode"].to_pylist() == [0] * 5 + [1] * 3
    assert table["step"].to_pylist() == [0, 1, 2, 3, 4, 0, 1, 2]
    assert table["obs.pair.0"].to_pylist() == [0, 1, 2, 3, 4, 1, 2, 3]
    assert table["action.pair.0"].to_pylist() == [0, 1, 2, 3, None, 1, 2, None]
    assert table["terminated"].to_pylist() == [False, False, False, True, None, False, True, None]
    assert table["info.lives"].to_pylist() == [3, 3, 3, 3, None, 3, 3, None]
    assert table["info_json"][0].as_py() == '{"odd":{"$tuple":[1,2]}}'


def test_polars(shard: Path) -> None:
    polars = pytest.importorskip("polars")
    frame = polars.read_ipc(shard)
    assert frame["step"].to_list() == [0, 1, 2, 3, 4, 0, 1, 2]
    returns = frame.group_by("episode", maintain_order=True).agg(polars.col("reward").sum())
    np.testing.assert_allclose(returns["reward"].to_list(), [2.0, 1 / 3])


def test_pandas(shard: Path) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.read_feather(shard)
    np.testing.assert_allclose(frame.groupby("episode")["reward"].sum(), [2.0, 1 / 3])
    assert frame["obs.arm.angle"][3].tolist() == [3.0, 3.0]


def test_datasets(shard: Path, tmp_path: Path) -> None:
    """In a process of its own, as it warns of much."""
    pytest.importorskip("datasets")
    code = f"""
import datasets
data = datasets.load_dataset("arrow", data_files=[{str(shard)!r}], split="train", cache_dir={str(tmp_path / "cache")!r})
assert data["step"][:] == [0, 1, 2, 3, 4, 0, 1, 2]
assert data[3]["obs.arm.angle"] == [3.0, 3.0]
"""
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_no_pickle_in_what_is_written(shard: Path) -> None:
    import pickle

    for path in shard.parent.iterdir():
        content = path.read_bytes()
        assert not content.startswith(pickle.PROTO)
