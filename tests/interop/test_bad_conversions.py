"""What conversions refuse, and files whose content is not that of their format."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces as kinds
from trajectories import episode

from vecrollout import DictObs, TraceWriter, Trajectory, TrajectoryWithRew, open_traces
from vecrollout.errors import ArgumentTypeError, DamagedTraceError, DtypeError, ShapeError, StructureError

pytest.importorskip("h5py")
pytest.importorskip("pyarrow")

import h5py
import pyarrow as pa
from pyarrow import parquet

from vecrollout.data.png import decoded
from vecrollout.interop.csv import from_csv, to_csv
from vecrollout.interop.d3rlpy import from_d3rlpy, to_d3rlpy
from vecrollout.interop.d4rl import from_d4rl, to_d4rl
from vecrollout.interop.huggingface import from_hf, to_hf, to_parquet
from vecrollout.interop.lerobot import from_lerobot, to_lerobot
from vecrollout.interop.minari import from_minari, to_minari
from vecrollout.interop.npz import from_npz, to_npz
from vecrollout.interop.rllib import from_rllib, to_rllib
from vecrollout.interop.robomimic import from_robomimic, to_robomimic
from vecrollout.interop.torchrl import from_torchrl, to_torchrl

SPACES = kinds.Box(-np.inf, np.inf, (4,), np.float32), kinds.Discrete(2)


def lerobot(trajectories: Any, path: Path) -> Any:
    return to_lerobot(trajectories, path, fps=30)


def of(obs: Any, acts: Any = None) -> TrajectoryWithRew:
    return TrajectoryWithRew(obs, np.zeros(2) if acts is None else acts, None, True, rews=np.zeros(2))


def images() -> TrajectoryWithRew:
    return of(np.random.default_rng(0).integers(0, 256, (3, 20, 30, 3), np.uint8))


@pytest.mark.parametrize("write", [to_csv, to_hf, lerobot, to_npz, to_parquet])
def test_some_without_rewards(write: Callable[..., Any], tmp_path: Path) -> None:
    one = episode(2)
    bare = Trajectory(one.obs, one.acts, None, True)
    for given in ([one, bare], [bare, one]):
        with pytest.raises(ArgumentTypeError, match="trajectory 1: expected all with rewards or all without"):
            write(given, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_spaces_and_environments(tmp_path: Path) -> None:
    for spaces in (3, SPACES[:1], (*SPACES, SPACES[0]), ("a", "b")):
        with pytest.raises(ArgumentTypeError, match=r"spaces: expected \(observation_space, action_space\)"):
            to_minari([episode(2)], tmp_path / "data-v0", spaces=spaces)  # type: ignore[arg-type]
    with pytest.raises(ArgumentTypeError, match="env_spec: expected an EnvSpec or its JSON, got int"):
        to_minari([episode(2)], tmp_path / "data-v0", spaces=SPACES, env_spec=3)
    assert list(tmp_path.iterdir()) == []
    # A name is no description of an environment.
    to_minari([episode(2)], tmp_path / "data-v0", spaces=SPACES, env_spec="CartPole-v1")
    with from_minari(tmp_path / "data-v0") as found:
        assert found.env_spec is None


def test_the_card_names_environment_and_images(tmp_path: Path) -> None:
    spec = gym.spec("CartPole-v1").to_json()
    with TraceWriter(tmp_path / "traces", env_spec=spec) as writer:
        writer.append(images())
    to_hf(open_traces(tmp_path / "traces"), tmp_path / "data")
    text = (tmp_path / "data" / "README.md").read_text()
    assert "# CartPole-v1" in text
    assert "| environment | `CartPole-v1` |" in text
    assert "| `obs` | image |" in text


def test_text_that_hdf5_cuts(tmp_path: Path) -> None:
    for write in (to_minari, to_robomimic):
        options: Any = {"spaces": (kinds.Text(3), kinds.Discrete(2))} if write is to_minari else {}
        with pytest.raises(DtypeError, match="null characters"):
            write([of(np.array(["a\0b", "c", "d"]))], tmp_path / "data-v0", **options)
    assert list(tmp_path.iterdir()) == []


def test_names_that_csv_lacks(tmp_path: Path) -> None:
    with pytest.raises(DtypeError, match="brackets"):
        to_csv([of(DictObs({"a[0]": np.zeros(3)}))], tmp_path / "data")


def test_spaces_come_back(tmp_path: Path) -> None:
    binary = kinds.Dict(one=kinds.MultiBinary(3), two=kinds.MultiBinary([2, 3]), text=kinds.Text(5, min_length=2))
    obs = {"one": np.zeros((3, 3), np.int8), "two": np.zeros((3, 2, 3), np.int8), "text": np.array(["ab"] * 3)}
    to_minari([of(obs, np.zeros(2, int))], tmp_path / "data-v0", spaces=(binary, kinds.Discrete(2)))
    with from_minari(tmp_path / "data-v0") as found:
        assert found.observation_space == binary


def rewritten(path: Path, change: Callable[[Any], Any]) -> None:
    table = parquet.read_table(path)
    path.unlink()
    parquet.write_table(change(table), path)


def put(table: Any, name: str, column: Any) -> Any:
    return table.set_column(table.schema.get_field_index(name), name, column)


@pytest.mark.parametrize(
    ("name", "column", "message"),
    [
        ("acts", [0, None, 1, None], "acts: expected a value in each row, got 1 nulls"),
        ("obs", ["a", "b", "c", "d"], "obs: expected numbers"),
        ("rews", ["a", "b", "c", None], "rews: expected numbers"),
        ("obs", [[1.0], [1.0], [], [1.0, 2.0]], "obs: expected lists of one length"),
        ("obs", [[[1.0], [1.0]]] * 3 + [[[], [1.0, 1.0]]], "obs: expected lists of one length"),
    ],
)
def test_other_columns_of_parquet(name: str, column: Any, message: str, tmp_path: Path) -> None:
    to_parquet([episode(3)], tmp_path / "data.parquet")
    rewritten(tmp_path / "data.parquet", lambda table: put(table, name, pa.array(column)))
    with from_hf(tmp_path / "data.parquet") as found, pytest.raises(DamagedTraceError, match=message):
        found[0]


@pytest.mark.parametrize("name", ["obs", "acts"])
def test_missing_columns_of_parquet(name: str, tmp_path: Path) -> None:
    to_parquet([episode(3)], tmp_path / "data.parquet")
    rewritten(tmp_path / "data.parquet", lambda table: table.drop_columns([name]))
    with pytest.raises(DamagedTraceError, match=name), from_hf(tmp_path / "data.parquet") as found:
        found[0]


def without_bytes(table: Any, name: str) -> Any:
    """As if the images lay in files beside it."""
    column = table.column(name)
    blobs = pa.nulls(len(column), pa.binary())
    paths = pa.array(["a.png"] * len(column))
    return put(table, name, pa.StructArray.from_arrays([blobs, paths], ["bytes", "path"]))


def test_other_images(tmp_path: Path) -> None:
    to_parquet([images()], tmp_path / "data.parquet")
    rewritten(tmp_path / "data.parquet", lambda table: without_bytes(table, "obs"))
    with from_hf(tmp_path / "data.parquet") as found, pytest.raises(DamagedTraceError, match="outside of it"):
        found[0]
    with pytest.raises(DamagedTraceError, match="image: expected an image"):
        decoded(b"\x89PNG\r\n\x1a\n" + bytes(60), "image")


def lerobot_data(tmp_path: Path) -> tuple[Path, Path, str]:
    """A data set with images, its data, and the name of the images."""
    to_lerobot([images()], tmp_path / "data", fps=30)
    (path,) = (tmp_path / "data" / "data").glob("*/*.parquet")
    (name,) = [each.name for each in parquet.read_schema(path) if pa.types.is_struct(each.type)]
    return tmp_path / "data", path, name


def small_images(table: Any, name: str) -> Any:
    from vecrollout.data.png import encoded

    blobs = [encoded(np.zeros((5, 6, 3), np.uint8))] * len(table)
    column = pa.StructArray.from_arrays([pa.array(blobs), pa.nulls(len(table), pa.string())], ["bytes", "path"])
    return put(table, name, column)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without_bytes, "images in the file itself"),
        (small_images, r"expected an image of \(20, 30, 3\)"),
        (lambda table, name: put(table, name, pa.array([1] * len(table))), "expected encoded images"),
        (lambda table, name: table.slice(1), "frames in its file"),
        (lambda table, name: table.drop_columns(["action"]), "action"),
    ],
)
def test_other_content_of_lerobot(change: Callable[[Any, str], Any], message: str, tmp_path: Path) -> None:
    data, path, name = lerobot_data(tmp_path)
    rewritten(path, lambda table: change(table, name))
    with pytest.raises(DamagedTraceError, match=message), from_lerobot(data) as found:
        found[0]


def test_other_metadata_of_lerobot(tmp_path: Path) -> None:
    data, _, _ = lerobot_data(tmp_path)
    (episodes,) = (data / "meta" / "episodes").glob("*/*.parquet")
    episodes.unlink()
    with pytest.raises(DamagedTraceError, match="the episodes' metadata, there is none"):
        from_lerobot(data)


def test_videos_of_other_times(tmp_path: Path) -> None:
    pytest.importorskip("av")
    to_lerobot([images()], tmp_path / "data", fps=30, video="lossless")
    info = tmp_path / "data" / "meta" / "info.json"
    known = json.loads(info.read_text())
    for fps in (0, 2.5, True, "30", None):
        info.write_text(json.dumps({**known, "fps": fps}))
        with pytest.raises(DamagedTraceError, match="fps, a positive integer"):
            from_lerobot(tmp_path / "data")


Change = Callable[[Any], None]


def replaced(name: str, value: Any) -> Change:
    def change(file: Any) -> None:
        del file[name]
        file[name] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (replaced("version", "9.9"), "version"),
        (replaced("rewards_0", np.zeros((1, 1), np.float32)), "rews"),
        (replaced("observations_0", np.zeros((1, 4), np.float32)), "obs"),
        (replaced("num_episodes", 9), "layout"),
    ],
)
def test_other_content_of_d3rlpy(change: Change, message: str, tmp_path: Path) -> None:
    to_d3rlpy([episode(3)], tmp_path / "data")
    with h5py.File(tmp_path / "data", "a") as file:
        change(file)
    with pytest.raises(DamagedTraceError, match=message), from_d3rlpy(tmp_path / "data") as found:
        found[0]


@pytest.mark.parametrize(
    "change",
    [
        replaced("rewards", np.zeros(2, np.float32)),
        replaced("terminals", np.zeros(2, bool)),
        replaced("terminals", np.full(3, 7)),
        replaced("next_observations", np.ones((3, 4), np.float32)),
    ],
)
def test_other_content_of_d4rl(change: Change, tmp_path: Path) -> None:
    to_d4rl([episode(3)], tmp_path / "data")
    with h5py.File(tmp_path / "data", "a") as file:
        change(file)
    with pytest.raises(DamagedTraceError, match="D4RL's layout"):
        from_d4rl(tmp_path / "data")


def test_other_content_of_robomimic(tmp_path: Path) -> None:
    to_robomimic([episode(3)], tmp_path / "data")
    with h5py.File(tmp_path / "data", "a") as file:
        (demo,) = file["data"].values()
        replaced("rewards", np.zeros(1, np.float32))(demo)
    with pytest.raises(DamagedTraceError, match="rews"), from_robomimic(tmp_path / "data") as found:
        found[0]


@pytest.mark.parametrize("rows", [1, 3, 4, 5])
def test_other_infos_of_minari(rows: int, tmp_path: Path) -> None:
    to_minari([episode(3)], tmp_path / "data-v0", spaces=SPACES)
    with h5py.File(tmp_path / "data-v0" / "data" / "main_data.hdf5", "a") as file:
        del file["episode_0/infos"]
        file["episode_0/infos/x"] = np.arange(rows)
    with from_minari(tmp_path / "data-v0") as found:
        if rows not in (3, 4):
            with pytest.raises(DamagedTraceError, match=r"infos of 4 rows, got \[" + str(rows)):
                found[0]
            return
        # Without an info of the reset, where Minari's collector did not make the data.
        assert [info["x"] for info in found[0].infos] == ([0, 1, 2] if rows == 3 else [1, 2, 3])
        assert found[0].episode.reset_info == (None if rows == 3 else {"x": 0})


def test_other_lengths_in_minari(tmp_path: Path) -> None:
    to_minari([episode(3)], tmp_path / "data-v0", spaces=SPACES)
    with h5py.File(tmp_path / "data-v0" / "data" / "main_data.hdf5", "a") as file:
        replaced("rewards", np.zeros(1))(file["episode_0"])
    with from_minari(tmp_path / "data-v0") as found, pytest.raises(DamagedTraceError, match="rews"):
        found[0]


@pytest.mark.parametrize(
    "change",
    [
        lambda lines: [lines[0].replace("obs[1]", "obs[7]"), *lines[1:]],
        lambda lines: [*lines[:2], lines[2].replace(lines[2].split(",")[2], "", 1), *lines[3:]],
        lambda lines: [lines[0], *(line.replace("0,", "x,", 1) for line in lines[1:])],
        lambda lines: [lines[0].replace("acts", "other"), *lines[1:]],
        lambda lines: [lines[0].replace("obs", "other"), *lines[1:]],
    ],
)
def test_other_content_of_csv(change: Callable[[list[str]], list[str]], tmp_path: Path) -> None:
    to_csv([episode(3)], tmp_path / "data.csv")
    lines = (tmp_path / "data.csv").read_text().splitlines()
    (tmp_path / "data.csv").write_text("\n".join(change(lines)))
    with pytest.raises(DamagedTraceError):
        from_csv(tmp_path / "data.csv")


@pytest.mark.parametrize("name", ["action", "observation"])
def test_missing_columns_of_torchrl(name: str, tmp_path: Path) -> None:
    to_torchrl([episode(3)], tmp_path / "data")
    path = tmp_path / "data" / "meta.json"
    known = json.loads(path.read_text())
    path.write_text(json.dumps({key: value for key, value in known.items() if key != name}))
    with pytest.raises(DamagedTraceError):
        from_torchrl(tmp_path / "data")


@pytest.mark.parametrize("name", ["obs", "actions", "new_obs"])
def test_missing_columns_of_rllib(name: str, tmp_path: Path) -> None:
    to_rllib([episode(3)], tmp_path / "data")
    rewritten(tmp_path / "data" / "data.parquet", lambda table: table.drop_columns([name]))
    with pytest.raises(DamagedTraceError, match=name):
        from_rllib(tmp_path / "data")


@pytest.mark.parametrize("name", ["obs", "acts", "lengths"])
def test_missing_columns_of_npz(name: str, tmp_path: Path) -> None:
    to_npz([episode(3)], tmp_path / "data.npz")
    arrays = {key: each for key, each in np.load(tmp_path / "data.npz").items() if key != name}
    np.savez(tmp_path / "other.npz", **arrays)
    with pytest.raises(DamagedTraceError, match=name):
        from_npz(tmp_path / "other.npz")


@pytest.mark.parametrize("write", [to_rllib, to_torchrl])
def test_no_elements(write: Callable[..., Any], tmp_path: Path) -> None:
    with pytest.raises(ShapeError):
        write([of(np.zeros((3, 0)))], tmp_path / "data")
    assert list(tmp_path.iterdir()) == []


def test_buffers_of_other_structures() -> None:
    pytest.importorskip("stable_baselines3")
    from stable_baselines3.common.buffers import DictReplayBuffer, ReplayBuffer

    from vecrollout.interop.sb3 import to_replay_buffer

    box = kinds.Box(-1, 1, (3,), np.float32)
    flat = ReplayBuffer(10, box, kinds.Discrete(2), device="cpu")
    of_dicts = DictReplayBuffer(10, kinds.Dict(a=box), kinds.Discrete(2), device="cpu")
    rows, acts = np.zeros((3, 3), np.float32), np.zeros(2, int)
    for one, buffer, message in (
        (of({"a": rows}, acts), flat, "obs: expected arrays of the buffer's space"),
        (of({"a": (rows,)}, acts), of_dicts, "no nesting"),
        (of(rows, {"x": acts}), flat, "acts: expected arrays of the buffer's space"),
    ):
        with pytest.raises(StructureError, match=message):
            to_replay_buffer([one], buffer)
        assert buffer.size() == 0
