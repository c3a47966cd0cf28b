"""What all conversions do alike: what they take, and that a result is absent or complete."""

from __future__ import annotations

import contextlib
import copy
import io
import itertools
import multiprocessing
import os
import pickle
import shutil
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces as kinds
from trajectories import assert_equal, endings, episode, with_rews

from vecrollout import DictObs, TraceWriter, Trajectory, TrajectoryBatch, TrajectoryWithRew, TupleObs, open_traces
from vecrollout.errors import (
    ArgumentTypeError,
    DamagedTraceError,
    DtypeError,
    MissingDependencyError,
    OptionError,
    ProtocolError,
    ShapeError,
    SpaceMismatchError,
    StructureError,
    TraceWriteError,
)

pytest.importorskip("h5py")
pytest.importorskip("pyarrow")

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


def minari(trajectories: Any, path: Any, **options: Any) -> Any:
    return to_minari(trajectories, path, spaces=SPACES, **options)


def lerobot(trajectories: Any, path: Any, **options: Any) -> Any:
    return to_lerobot(trajectories, path, fps=32, **options)


WRITERS: dict[str, Callable[..., Any]] = {
    "csv": to_csv,
    "d3rlpy": to_d3rlpy,
    "d4rl": to_d4rl,
    "hf": to_hf,
    "lerobot": lerobot,
    "minari": minari,
    "npz": to_npz,
    "parquet": to_parquet,
    "rllib": to_rllib,
    "robomimic": to_robomimic,
    "torchrl": to_torchrl,
}
READERS: dict[str, Callable[..., Any]] = {
    "csv": from_csv,
    "d3rlpy": from_d3rlpy,
    "d4rl": from_d4rl,
    "hf": from_hf,
    "lerobot": from_lerobot,
    "minari": from_minari,
    "npz": from_npz,
    "parquet": from_hf,
    "rllib": from_rllib,
    "robomimic": from_robomimic,
    "torchrl": from_torchrl,
}
DIRECTORIES = {"hf", "lerobot", "minari", "rllib", "torchrl"}
every_format = pytest.mark.parametrize("name", WRITERS)
every_other = pytest.mark.parametrize("name", sorted(set(WRITERS) - {"minari"}))


@every_format
@pytest.mark.parametrize("form", ["list", "iterator", "batch", "dataset"])
def test_takes_whatever_has_trajectories(name: str, form: str, tmp_path: Path) -> None:
    episodes = endings()
    forms: dict[str, Any] = {
        "list": episodes,
        "iterator": iter(episodes),
        "batch": TrajectoryBatch.from_trajectories(episodes),
    }
    if form == "dataset":
        with TraceWriter(tmp_path / "traces") as writer:
            writer.extend(episodes)
        forms["dataset"] = open_traces(tmp_path / "traces")
    report = WRITERS[name](forms[form], tmp_path / "out-v0")
    assert (report.episodes, report.steps, report.path) == (4, sum(map(len, episodes)), tmp_path / "out-v0")
    found = READERS[name](tmp_path / "out-v0")
    assert [len(each) for each in found] == [len(each) for each in episodes]


@every_format
def test_views_of_a_data_set(name: str, tmp_path: Path) -> None:
    with TraceWriter(tmp_path / "traces", spaces=SPACES) as writer:
        writer.extend(endings())
    view = open_traces(tmp_path / "traces")[1:3]
    assert WRITERS[name](view, tmp_path / "out-v0").episodes == 2
    assert [len(each) for each in READERS[name](tmp_path / "out-v0")] == [3, 4]


@every_format
def test_data_sets_with_several_spaces(name: str, tmp_path: Path) -> None:
    for actions in (2, 3):
        spaces = SPACES[0], kinds.Discrete(actions)
        with TraceWriter(tmp_path / "traces", spaces=spaces, mix_spaces=True) as writer:
            writer.append(episode(3))
    traces = open_traces(tmp_path / "traces")
    assert WRITERS[name](traces, tmp_path / "out-v0").episodes == 2
    with pytest.raises(SpaceMismatchError):
        to_minari(traces, tmp_path / "minari-v0")


def test_reports_name_what_is_lost(tmp_path: Path) -> None:
    episodes = [with_rews(each, each.rews.astype(np.float64)) for each in endings()]
    reports = {name: repr(write(episodes, tmp_path / f"{name}-v0")) for name, write in WRITERS.items()}
    assert reports == {
        "csv": "<ConversionReport CSV: 4 episodes, 14 steps; lost: obs (float32 -> float64)>",
        "d3rlpy": "<ConversionReport d3rlpy: 4 episodes, 14 steps; lost: 1 fragments, 1 second flags, "
        "2 last observations, rews (float64 -> float32)>",
        "d4rl": "<ConversionReport D4RL: 4 episodes, 14 steps; lost: 1 fragments>",
        "hf": "<ConversionReport Hugging Face: 4 episodes, 14 steps>",
        "lerobot": "<ConversionReport LeRobot: 4 episodes, 14 steps>",
        "minari": "<ConversionReport Minari: 4 episodes, 14 steps>",
        "npz": "<ConversionReport npz: 4 episodes, 14 steps>",
        "parquet": "<ConversionReport Parquet: 4 episodes, 14 steps>",
        "rllib": "<ConversionReport RLlib: 4 episodes, 14 steps>",
        "robomimic": "<ConversionReport robomimic: 4 episodes, 14 steps>",
        "torchrl": "<ConversionReport TorchRL: 4 episodes, 14 steps; lost: 1 fragments>",
    }


@every_other
def test_infos_are_reported(name: str, tmp_path: Path) -> None:
    one = TrajectoryWithRew(**{**vars(episode(3)), "infos": [{}, {"a": 1}, {"b": 2}]})
    assert WRITERS[name]([one], tmp_path / "out").infos == 2


@every_format
def test_an_existing_result_is_kept(name: str, tmp_path: Path) -> None:
    (tmp_path / "out-v0").write_text("mine")
    with pytest.raises(OptionError, match=r"out-v0, which exists; remove it first"):
        WRITERS[name]([episode(3)], tmp_path / "out-v0")
    assert (tmp_path / "out-v0").read_text() == "mine"


@every_format
@pytest.mark.parametrize("bad", [None, 5, "traces", episode(2), [episode(2), None]])
def test_no_trajectories(name: str, bad: Any, tmp_path: Path) -> None:
    with pytest.raises(ArgumentTypeError, match="trajector"):
        WRITERS[name](bad, tmp_path / "out-v0")
    assert list(tmp_path.iterdir()) == []


@every_other
def test_none(name: str, tmp_path: Path) -> None:
    with pytest.raises(ShapeError, match="expected at least one, got none"):
        WRITERS[name]([], tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["d3rlpy", "d4rl", "minari", "rllib", "robomimic", "torchrl"])
def test_rewards_are_needed(name: str, tmp_path: Path) -> None:
    without = Trajectory(np.zeros((3, 4), np.float32), np.zeros(2), None, True)
    with pytest.raises(ArgumentTypeError, match="expected rewards, which"):
        WRITERS[name]([without], tmp_path / "out-v0")


@pytest.mark.parametrize("name", ["csv", "hf", "lerobot", "npz", "parquet"])
def test_rewards_are_not_needed(name: str, tmp_path: Path) -> None:
    without = Trajectory(np.zeros((3, 4), np.float32), np.zeros(2), None, True)
    WRITERS[name]([without], tmp_path / "out")
    (found,) = READERS[name](tmp_path / "out")
    assert found == without


@every_format
def test_other_shapes_or_structures_are_refused(name: str, tmp_path: Path) -> None:
    wide = TrajectoryWithRew(np.zeros((3, 5), np.float32), np.zeros(2, int), None, True, rews=np.zeros(2, np.float32))
    with pytest.raises(ShapeError, match=r"trajectory 1: obs: expected rows of shape .* as in the first"):
        WRITERS[name]([episode(3), wide], tmp_path / "out-v0")
    tree = TrajectoryWithRew({"a": np.zeros((3, 4))}, np.zeros(2, int), None, True, rews=np.zeros(2))  # type: ignore[arg-type]
    with pytest.raises(StructureError, match=r"trajectory 1: obs: expected the entries"):
        WRITERS[name]([episode(3), tree], tmp_path / "out-v0")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["csv", "d4rl", "npz"])
def test_dtypes_that_change(name: str, tmp_path: Path) -> None:
    """One array serves all trajectories: a narrower dtype becomes that of the first, a wider one is refused."""
    narrow, wide = episode(3), with_rews(episode(2), np.ones(2))
    report = WRITERS[name]([wide, narrow], tmp_path / "out")
    assert "float32 -> float64" in report.dtypes.values()
    found = READERS[name](tmp_path / "out")
    assert [each.rews.dtype for each in found] == [np.float64] * 2
    with pytest.raises(DtypeError, match="expected float32 as in the trajectories before"):
        WRITERS[name]([narrow, wide], tmp_path / "other")


@pytest.mark.parametrize(
    ("name", "obs"),
    [
        ("d4rl", DictObs({"a": np.zeros((3, 2))})),
        ("d3rlpy", DictObs({"a": np.zeros((3, 2))})),
        ("d3rlpy", TupleObs((np.zeros((3, 2)), (np.zeros(3),)))),  # type: ignore[arg-type]
        ("robomimic", TupleObs((np.zeros((3, 2)),))),
        ("robomimic", DictObs({"a": {"b": np.zeros((3, 2))}})),  # type: ignore[dict-item]
        ("npz", DictObs({"a/b": np.zeros((3, 2))})),
        ("csv", DictObs({"": np.zeros((3, 2))})),
    ],
)
def test_structures_that_a_format_lacks(name: str, obs: Any, tmp_path: Path) -> None:
    one = TrajectoryWithRew(obs=obs, acts=np.zeros(2), rews=np.zeros(2), infos=None, terminal=True)
    with pytest.raises(StructureError):
        WRITERS[name]([one], tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@every_format
def test_dtypes_that_a_format_lacks(name: str, tmp_path: Path) -> None:
    obs = np.array(["2020-01-01"] * 3, "datetime64[s]")
    one = TrajectoryWithRew(obs=obs, acts=np.zeros(2), rews=np.zeros(2), infos=None, terminal=True)
    if name == "npz":
        to_npz([one], tmp_path / "out")
        assert_equal(from_npz(tmp_path / "out")[0], one)
        return
    with pytest.raises(DtypeError):
        WRITERS[name]([one], tmp_path / "out-v0")


@every_other
def test_objects(name: str, tmp_path: Path) -> None:
    obs = np.array([{}, {}, {}], object)
    one = TrajectoryWithRew(obs=obs, acts=np.zeros(2), rews=np.zeros(2), infos=None, terminal=True)
    with pytest.raises(DtypeError):
        WRITERS[name]([one], tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_csv_is_for_few_numbers(tmp_path: Path) -> None:
    one = TrajectoryWithRew(np.zeros((3, 100, 100)), np.zeros(2), None, True, rews=np.zeros(2))
    with pytest.raises(ShapeError, match="at most 4096 numbers a step"):
        to_csv([one], tmp_path / "out")
    empty = TrajectoryWithRew(np.zeros((3, 0)), np.zeros(2), None, True, rews=np.zeros(2))
    with pytest.raises(ShapeError, match="rows with elements"):
        to_csv([empty], tmp_path / "out")
    large = TrajectoryWithRew(np.full(3, 2**63, np.uint64), np.zeros(2), None, True, rews=np.zeros(2))
    with pytest.raises(DtypeError, match="real numbers of up to 64 bits"):
        to_csv([large], tmp_path / "out")


def test_csv_is_read_by_pandas(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    episodes = endings()
    to_csv(episodes, tmp_path / "out.csv")
    table = pandas.read_csv(tmp_path / "out.csv")
    assert list(table.columns) == [
        *("episode", "step", "obs[0]", "obs[1]", "obs[2]", "obs[3]", "acts", "rews", "terminated", "truncated")
    ]
    # Its own parser may be off by a bit.
    np.testing.assert_allclose(table["obs[2]"], np.concatenate([each.obs[:, 2] for each in episodes]), rtol=1e-14)
    returns = table.groupby("episode")["rews"].sum()
    np.testing.assert_allclose(returns, [each.rews.astype(float).sum() for each in episodes])


@pytest.mark.parametrize("name", ["csv", "d3rlpy", "hf", "lerobot", "parquet"])
def test_final_has_two_choices(name: str, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match='final: expected "append" or "drop"'):
        WRITERS[name]([episode(3)], tmp_path / "out", final="keep")


def test_csv_without_last_observations(tmp_path: Path) -> None:
    episodes = [*endings(), episode(1)]
    report = to_csv(episodes, tmp_path / "out", final="drop")
    assert report.last_observations == 5
    with pytest.raises(ShapeError, match="pass drop_last=True"):
        from_csv(tmp_path / "out")
    found = from_csv(tmp_path / "out", drop_last=True)
    assert [len(each) for each in found] == [len(each) - 1 for each in episodes[:-1]]
    assert not any(each.terminal for each in found)
    np.testing.assert_array_equal(found[1].obs, episodes[1].obs[:-1])


def test_d4rl_without_next_observations(tmp_path: Path) -> None:
    import h5py

    to_d4rl(endings(), tmp_path / "out")
    with h5py.File(tmp_path / "out", "a") as file:
        del file["next_observations"]
    with pytest.raises(ShapeError, match="pass drop_last=True"):
        from_d4rl(tmp_path / "out")
    found = from_d4rl(tmp_path / "out", drop_last=True)
    assert [len(each) for each in found] == [len(each) - 1 for each in endings()]


def test_robomimic_without_next_obs(tmp_path: Path) -> None:
    import h5py

    episodes = [*endings(), episode(1)]
    to_robomimic(episodes, tmp_path / "out")
    with h5py.File(tmp_path / "out", "a") as file:
        for demo in file["data"].values():
            del demo["next_obs"]
    with pytest.raises(ShapeError, match="pass drop_last=True"):
        from_robomimic(tmp_path / "out")
    with from_robomimic(tmp_path / "out", drop_last=True) as found:
        assert [len(each) for each in found] == [len(each) - 1 for each in episodes[:-1]]


def test_robomimic_environments(tmp_path: Path) -> None:
    to_robomimic([episode(2)], tmp_path / "out", env_args={"env_name": "Lift", "type": 1, "env_kwargs": {}})
    with from_robomimic(tmp_path / "out") as found:
        assert found.metadata["env_args"]["env_name"] == "Lift"
    with pytest.raises(OptionError, match="env_args: expected what JSON can hold"):
        to_robomimic([episode(2)], tmp_path / "other", env_args={"x": object()})


@every_format
@pytest.mark.parametrize("content", [b"", b"\x89HDF\r\n\x1a\n" + bytes(500), b"episode,step\n1,2\n", b"PK\x03\x04junk"])
def test_files_that_are_none(name: str, content: bytes, tmp_path: Path) -> None:
    with pytest.raises(DamagedTraceError):
        READERS[name](tmp_path / "missing")
    (tmp_path / "data").write_bytes(content)
    with pytest.raises(DamagedTraceError):
        READERS[name](tmp_path / "data")


@pytest.mark.parametrize("name", sorted(set(WRITERS) - DIRECTORIES))
@pytest.mark.parametrize("cut", [10, 1000])
def test_cut_files(name: str, cut: int, tmp_path: Path) -> None:
    WRITERS[name]([episode(50)], tmp_path / "out")
    content = (tmp_path / "out").read_bytes()
    (tmp_path / "out").write_bytes(content[:-cut])
    try:
        found = list(READERS[name](tmp_path / "out"))
    except (DamagedTraceError, ShapeError):
        return
    assert name == "csv"  # which has rows, and no end
    assert len(found) <= 1


@pytest.mark.parametrize("name", ["d3rlpy", "hf", "lerobot", "minari", "parquet", "robomimic"])
class TestFileTrajectories:
    @pytest.fixture
    def path(self, name: str, tmp_path: Path) -> Path:
        WRITERS[name](endings(), tmp_path / "out-v0")
        return tmp_path / "out-v0"

    def test_is_a_sequence(self, name: str, path: Path) -> None:
        with READERS[name](path) as found:
            assert len(found[1:3]) == 2
            assert found[-1] == found[3]
            assert [len(batch) for batch in found.batches()] == [4]
            assert repr(found) == f"<FileTrajectories: 4 trajectories in {str(path)!r}>"
            for wrong in (4, -5):
                with pytest.raises(IndexError, match="one of 4"):
                    found[wrong]

    def test_closed(self, name: str, path: Path) -> None:
        found = READERS[name](path)
        found.close()
        found.close()
        with pytest.raises(ProtocolError, match="open file"):
            found[0]

    @pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda each: pickle.loads(pickle.dumps(each))])
    def test_copies(self, name: str, path: Path, duplicate: Any) -> None:
        with READERS[name](path) as found, duplicate(found) as other:
            assert list(other) == list(found)

    def test_converts_on(self, name: str, path: Path, tmp_path: Path) -> None:
        """From one foreign format to the next."""
        with READERS[name](path) as found:
            to_npz(found, tmp_path / "out.npz")
            assert list(from_npz(tmp_path / "out.npz")) == list(found)


TARGETS = ("d3rlpy", "datasets", "lerobot", "minari", "ray", "robomimic", "tensordict", "torch", "torchrl")


@every_format
def test_writers_need_no_target_library(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (*TARGETS, "PIL", "av", "huggingface_hub", "pandas"):
        monkeypatch.setitem(sys.modules, module, None)
    assert WRITERS[name](endings(), tmp_path / "out-v0").episodes == 4
    assert [len(each) for each in READERS[name](tmp_path / "out-v0")] == [2, 3, 4, 5]


@pytest.mark.parametrize(
    ("name", "module"),
    [
        *((name, "h5py") for name in ("d3rlpy", "d4rl", "minari", "robomimic")),
        *((name, "pyarrow") for name in ("csv", "hf", "lerobot", "parquet", "rllib")),
    ],
)
def test_missing_packages(name: str, module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    WRITERS[name](endings(), tmp_path / "out-v0")
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingDependencyError, match=rf"{module}.*vecrollout\[interop\]"):
        WRITERS[name](endings(), tmp_path / "other-v0")
    with pytest.raises(MissingDependencyError, match=rf"{module}.*vecrollout\[interop\]"):
        list(READERS[name](tmp_path / "out-v0"))
    assert [each.name for each in tmp_path.iterdir()] == ["out-v0"]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def slow_clock() -> Any:
    """As on a slow machine: ten seconds between any two looks at it."""
    return SimpleNamespace(monotonic=itertools.count(0.0, 10.0).__next__)


def of_two_dtypes() -> Any:
    """They make two batches."""
    yield episode(3)
    yield episode(4)
    yield with_rews(episode(4), np.ones(4))


@every_format
def test_long_conversions_show_a_bar(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("rich")
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setattr("vecrollout.progress.time", slow_clock())
    with contextlib.suppress(DtypeError):
        WRITERS[name](of_two_dtypes(), tmp_path / "out-v0")
    assert "steps" in sys.stderr.getvalue()  # type: ignore[attr-defined]


def test_bars_can_be_turned_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setattr("vecrollout.progress.time", slow_clock())
    with contextlib.suppress(DtypeError):
        to_npz(of_two_dtypes(), tmp_path / "out", progress=False)
    assert sys.stderr.getvalue() == ""  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["d4rl", "minari", "npz", "robomimic"])
@pytest.mark.slow
def test_memory_holds_one_batch(name: str, tmp_path: Path) -> None:
    """320 MB of trajectories that are made one by one."""

    def large() -> Any:
        for _ in range(40):
            yield TrajectoryWithRew(
                np.zeros((1001, 2000), np.float32), np.zeros(1000, int), None, True, rews=np.zeros(1000, np.float32)
            )

    tracemalloc.start()
    try:
        WRITERS[name](large(), tmp_path / "out-v0")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 200 << 20


@every_format
@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks, and sends SIGKILL")
def test_killed_at_any_moment(name: str, tmp_path: Path) -> None:
    """The result is absent or complete, and what a kill leaves stands in nobody's way."""
    episodes = [episode(100, seed) for seed in range(100)]
    begin = time.monotonic()
    WRITERS[name](episodes, tmp_path / "first-v0")
    duration = time.monotonic() - begin
    path, rng, context = tmp_path / "out-v0", np.random.default_rng(), multiprocessing.get_context("fork")
    for moment in [*rng.uniform(0, 1.2 * duration, 6), None]:
        child = context.Process(target=WRITERS[name], args=(episodes, path))
        child.start()
        if moment is None:
            child.join()
            assert child.exitcode == 0
        else:
            time.sleep(moment)
            child.kill()
            child.join()
        left = {each.name for each in tmp_path.iterdir()} - {"first-v0", "out-v0"}
        assert all(each.startswith((".out-v0.", "tmp")) for each in left), left
        assert path.exists() or moment is not None
        if path.exists():
            found = READERS[name](path)
            assert [len(each) for each in found] == [100] * 100
            np.testing.assert_array_equal(found[-1].acts, episodes[-1].acts)
            path.unlink() if path.is_file() else shutil.rmtree(path)


@every_format
def test_an_error_leaves_nothing(name: str, tmp_path: Path) -> None:
    def failing() -> Any:
        yield episode(3)
        raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        WRITERS[name](failing(), tmp_path / "out-v0")
    assert list(tmp_path.iterdir()) == []


@every_format
def test_a_place_that_cannot_be_written_to(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TraceWriteError, match="could not be written, nothing is there"):
        WRITERS[name]([episode(3)], tmp_path / "file" / "out-v0")
    with pytest.raises(OptionError, match="path: expected a local one"):
        WRITERS[name]([episode(3)], "s3://bucket/out-v0")
