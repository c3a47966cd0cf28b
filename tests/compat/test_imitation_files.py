"""Files of imitation: saving, loading, and that nothing in a file runs code."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import pickle
import sys
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vecrollout import DictObs, Trajectory, TrajectoryWithRew
from vecrollout.compat.imitation import huggingface_utils, serialize
from vecrollout.errors import (
    ArgumentTypeError,
    DamagedTraceError,
    DtypeError,
    MissingDependencyError,
    OptionError,
    ShapeError,
    StructureError,
)

FILES = Path(__file__).with_name("imitation_files")
STEPS = 3


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning, message="keys will default to True")
        yield


def obs_of(kind: str, rows: int = STEPS + 1) -> Any:
    if kind == "dict":
        return {"camera": np.zeros((rows, 2, 2, 3), np.uint8), "arm": {"angle": np.arange(rows, dtype=np.float32)}}
    dtype, shape = {
        "float32": (np.float32, (2,)),
        "image": (np.uint8, (4, 4, 1)),
        "integer": (np.int64, ()),
        "bool": (bool, (3,)),
        "float16": (np.float16, (2,)),
        "empty": (np.float32, (0,)),
    }[kind]
    return np.ones((rows, *shape), dtype)


INFO = {
    "plain": [None, True, 2, 0.5, "text", (1, (2,)), {3}, b"bytes", 1 + 2j],
    "array": np.arange(2, dtype=np.float32),
    "same dtype": np.ones((2, 2), np.float32, order="F"),
    "objects": np.array([{"q": 1}, None], dtype=object),
    "time": np.array(["2026-01-01"], "M8[D]"),
    "text": np.array(["ab", "c"]),
    "scalars": [np.float32(1.5), np.bool_(True), np.int8(-1)],
    "nested": {"py/id": 1, 3: "integer", (1, 2): "tuple"},
}


def trajectory(kind: str = "float32", *, steps: int = STEPS, infos: bool = True, rews: bool = True) -> Trajectory:
    told = [{**INFO, "t": t, "TimeLimit.truncated": t == steps - 1} for t in range(steps)]
    fields: dict[str, Any] = {
        "obs": obs_of(kind, steps + 1),
        "acts": np.arange(steps, dtype=np.int32),
        "infos": told if infos else None,
        "terminal": True,
        "truncated": infos,
    }
    return TrajectoryWithRew(**fields, rews=np.ones(steps, np.float32)) if rews else Trajectory(**fields)


class TestDataSets:
    @pytest.mark.parametrize("kind", ["float32", "image", "integer", "bool", "float16", "empty", "dict"])
    @pytest.mark.parametrize("rews", [True, False])
    def test_what_is_saved_comes_back(self, kind: str, rews: bool, tmp_path: Path) -> None:
        saved = [trajectory(kind, rews=rews), trajectory(kind, steps=1, rews=rews)]
        serialize.save(tmp_path / "saved", saved)
        loaded = serialize.load(tmp_path / "saved")
        assert list(loaded) == saved
        for mine, other in zip(loaded, saved, strict=True):
            assert isinstance(mine, TrajectoryWithRew) is rews
            assert isinstance(mine.obs, DictObs) is isinstance(other.obs, DictObs)
            assert mine.obs.dtype == other.obs.dtype
            assert mine.acts.dtype == other.acts.dtype
            assert mine.infos is not None
            np.testing.assert_equal(mine.infos[0], {**INFO, "t": 0, "TimeLimit.truncated": len(mine) == 1})

    @pytest.mark.parametrize("to_path", [str, lambda path: str(path).encode(), Path])
    def test_every_kind_of_path(self, to_path: Any, tmp_path: Path) -> None:
        serialize.save(to_path(tmp_path / "saved"), [trajectory()])
        assert len(serialize.load(to_path(tmp_path / "saved"))) == 1

    def test_a_sequence(self, tmp_path: Path) -> None:
        saved = [trajectory(steps=n) for n in (1, 2, 3)]
        sequence = huggingface_utils.TrajectoryDatasetSequence(huggingface_utils.trajectories_to_dataset(saved))
        assert sequence[-1] == saved[2]
        assert sequence[1:] == saved[1:]
        assert list(sequence) == saved
        for index in (3, -4):
            with pytest.raises(IndexError, match="one of 3 trajectories"):
                sequence[index]
        serialize.save(tmp_path / "again", sequence)
        assert list(serialize.load(tmp_path / "again")) == saved

    def test_without_infos_there_are_empty_ones(self, tmp_path: Path) -> None:
        saved = trajectory(infos=False)
        serialize.save(tmp_path / "saved", [saved])
        (loaded,) = serialize.load(tmp_path / "saved")
        assert loaded == saved
        assert loaded.infos is not None
        assert loaded.infos.tolist() == [{}] * STEPS

    def test_a_truncation_without_infos_is_not_kept(self, tmp_path: Path) -> None:
        serialize.save(tmp_path / "saved", [dataclasses.replace(trajectory(), infos=None)])
        (loaded,) = serialize.load(tmp_path / "saved")
        assert (loaded.terminal, loaded.truncated) == (True, False)

    def test_columns(self) -> None:
        columns = huggingface_utils.trajectories_to_dict([trajectory("dict", infos=False)])
        assert list(columns) == ["obs", "acts", "infos", "terminal", "rews"]
        assert columns["obs"][0]["arm"]["angle"].tolist() == [0, 1, 2, 3]
        assert columns["infos"] == [["{}"] * STEPS]
        assert columns["terminal"] == [True]

    def test_rewards_are_demanded(self, tmp_path: Path) -> None:
        for rews in (True, False):
            serialize.save(tmp_path / f"{rews}", [trajectory(rews=rews)])
        assert len(serialize.load_with_rewards(tmp_path / "True")) == 1
        with pytest.raises(OptionError, match="trajectory 0: expected a TrajectoryWithRew, got a Trajectory"):
            serialize.load_with_rewards(tmp_path / "False")

    def test_refused_trajectories(self, tmp_path: Path) -> None:
        def save(*trajectories: Trajectory) -> None:
            serialize.save(tmp_path / "saved", trajectories)

        with pytest.raises(OptionError, match="got 1 of 2 with"):
            save(trajectory(), trajectory(rews=False))
        steps = np.zeros(STEPS)
        with pytest.raises(StructureError, match="obs: expected arrays"):
            save(Trajectory(obs=(obs_of("bool"),), acts=steps, infos=None, terminal=True))
        with pytest.raises(StructureError, match="acts: expected arrays"):
            save(Trajectory(obs=obs_of("bool"), acts={"a": steps}, infos=None, terminal=True))
        for value in (object(), Path("a"), [np]):
            with pytest.raises(ArgumentTypeError, match=r"infos=None"):
                save(Trajectory(obs=obs_of("bool"), acts=steps, infos=[{"a": value}] * STEPS, terminal=True))
        itself: dict[str, Any] = {}
        itself["a"] = itself
        with pytest.raises(ArgumentTypeError, match="contains itself"):
            save(Trajectory(obs=obs_of("bool"), acts=steps, infos=[itself] * STEPS, terminal=True))

    def test_refused_data_sets(self, tmp_path: Path) -> None:
        import datasets

        columns = huggingface_utils.trajectories_to_dict([trajectory(infos=False)])

        def sequence(**changed: Any) -> Any:
            return huggingface_utils.TrajectoryDatasetSequence(datasets.Dataset.from_dict({**columns, **changed}))

        with pytest.raises(StructureError, match="expected the columns"):
            sequence(other=[1])
        with pytest.raises(ShapeError, match="obs: expected rows of one shape"):
            sequence(obs=[[[1.0], [1.0, 2.0], [1.0], [1.0]]])[0]
        with pytest.raises(DtypeError, match="acts: expected an array, got one with missing values"):
            sequence(acts=[[1, None, 2]])[0]
        for text in ("{", '{"py/id": 7}', '{"a": {"py/b64": "!"}}', "[" * 100_000):
            with pytest.raises(DamagedTraceError, match="infos: expected JSON"):
                sequence(infos=[[text] * STEPS])[0]
        datasets.DatasetDict({"train": datasets.Dataset.from_dict(columns)}).save_to_disk(tmp_path / "several")
        with pytest.raises(OptionError, match="train"):
            serialize.load(tmp_path / "several")

    def test_without_the_package_the_error_says_what_to_install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "datasets", None)
        with pytest.raises(MissingDependencyError, match="pip install datasets"):
            huggingface_utils.trajectories_to_dataset([trajectory()])


def decoded(info: Any) -> Any:
    import datasets

    columns = huggingface_utils.trajectories_to_dict([trajectory(infos=False)])
    columns["infos"] = [[json.dumps(info)] * STEPS]
    (loaded,) = huggingface_utils.TrajectoryDatasetSequence(datasets.Dataset.from_dict(columns))
    assert loaded.infos is not None
    return loaded.infos[0]


class TestInfos:
    @pytest.mark.parametrize(
        "code",
        [
            {"py/reduce": [{"py/function": "os.mkdir"}, {"py/tuple": ["ran"]}]},
            {"py/reduce": [{"py/type": "pathlib.Path"}, {"py/tuple": ["ran"]}]},
            {"py/object": "os.mkdir", "py/newargs": {"py/tuple": ["ran"]}},
            {"py/repr": "os/os.mkdir('ran')"},
            {"py/function": "os.mkdir"},
            {"py/type": "os.mkdir"},
        ],
    )
    def test_nothing_runs(self, code: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        info = decoded({"a": code})
        assert isinstance(info["a"], dict)
        assert not Path("ran").exists()

    @pytest.mark.parametrize("name", ["f", "f4, f4", "O", "V9999999999", "M8[0D]", "<f4", "", 4, None])
    def test_crafted_dtypes(self, name: Any) -> None:
        dtype = {"py/reduce": [{"py/type": "numpy.dtype"}, {"py/tuple": [name, False, True]}]}
        array = {"py/tuple": [1, {"py/tuple": [1 << 40]}, dtype, False, {"py/b64": ""}]}
        function = {"py/function": "numpy.core.multiarray._reconstruct"}
        with pytest.raises(DamagedTraceError, match="infos: expected JSON"):
            decoded({"a": {"py/reduce": [function, {"py/tuple": []}, array]}})

    @pytest.mark.usefixtures("imitation_installed")
    def test_jsonpickle_reads_what_we_write_and_we_read_what_it_writes(self) -> None:
        import jsonpickle
        from imitation.data import types

        columns = huggingface_utils.trajectories_to_dict([trajectory()])
        np.testing.assert_equal(
            jsonpickle.decode(columns["infos"][0][0]), {**INFO, "t": 0, "TimeLimit.truncated": False}
        )
        shared = np.arange(3, dtype=np.float32)
        listed = [shared, [1]]
        info = {"a": shared, "b": listed, "c": {"d": listed, "e": (shared, np.float32(2))}, "f": shared}
        np.testing.assert_equal(decoded(json.loads(jsonpickle.encode(info))), info)
        info = {"obs": types.DictObs({"a": shared, "b": shared}), "rews": shared}
        restored = decoded(json.loads(jsonpickle.encode(info)))
        assert isinstance(restored["obs"], DictObs)
        np.testing.assert_equal(restored["obs"].unwrap(), info["obs"].unwrap())
        np.testing.assert_equal(restored["rews"], shared)


@pytest.mark.usefixtures("imitation_installed")
@pytest.mark.parametrize("kind", ["float32", "image", "integer", "bool"])
def test_imitation_and_we_read_each_others_files(kind: str, tmp_path: Path) -> None:
    from imitation.data import serialize as theirs

    from vecrollout.compat.imitation import types

    saved = [types.TrajectoryWithRew(**types.dataclass_quick_asdict(trajectory(kind, infos=False)))]
    serialize.save(tmp_path / "ours", saved)
    theirs.save(tmp_path / "theirs", saved)
    for name in ("ours", "theirs"):
        assert list(serialize.load(tmp_path / name)) == saved
        assert list(theirs.load(tmp_path / name)) == saved


def old_trajectories() -> list[Trajectory]:
    """The content of the golden files."""
    return [
        TrajectoryWithRew(
            obs=np.arange((steps + 1) * 2, dtype=np.float32).reshape(-1, 2) + shift,
            acts=np.arange(steps),
            infos=[
                {
                    "t": t,
                    "a": np.arange(2, dtype=np.float32),
                    "TimeLimit.truncated": t == steps - 1,
                    "s": np.float32(t),
                }
                for t in range(steps)
            ],
            terminal=shift < 20,
            truncated=shift < 20,
            rews=np.arange(steps) / 2,
        )
        for steps, shift in ((3, 0), (2, 10), (1, 20))
    ]


class Call:
    """Pickled as the call of a function."""

    def __init__(self, function: Any, *args: Any) -> None:
        self.reduced = function, args

    def __reduce__(self) -> Any:
        return self.reduced


class TestOldFiles:
    @pytest.mark.parametrize("name", ["old.npz", "protocol0.pkl", "protocol2.pkl", "protocol5.pkl"])
    def test_golden_files(self, name: str) -> None:
        with pytest.warns(DeprecationWarning, match="old version of imitation"):
            loaded = serialize.load(FILES / name)
        expected = old_trajectories()
        assert loaded == expected
        for mine, other in zip(loaded, expected, strict=True):
            assert (mine.terminated, mine.truncated) == (other.terminated, other.truncated)
            assert mine.obs.dtype == np.float32
            assert mine.infos is not None
            assert type(mine.infos[0]["s"]) is np.float32

    def test_dict_observations(self) -> None:
        with pytest.warns(DeprecationWarning, match="old version of imitation"):
            (loaded,) = serialize.load(FILES / "dict.pkl")
        obs = {"a": np.arange(4.0), "b": np.arange(4)}
        assert loaded == Trajectory(obs=obs, acts=np.arange(3), infos=None, terminal=False)

    @pytest.mark.usefixtures("imitation_installed")
    @pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
    def test_what_imitation_pickles(self, protocol: int, tmp_path: Path) -> None:
        from vecrollout.interop.imitation import to_imitation

        saved = old_trajectories()
        (tmp_path / "old.pkl").write_bytes(pickle.dumps(to_imitation(saved), protocol))
        with pytest.warns(DeprecationWarning, match="old version of imitation"):
            assert serialize.load(tmp_path / "old.pkl") == saved

    @pytest.mark.parametrize("kind", ["float32", "dict"])
    def test_our_own_classes_pickled(self, kind: str, tmp_path: Path) -> None:
        saved = [trajectory(kind, infos=False), dataclasses.replace(trajectory(kind), infos=None)]
        (tmp_path / "old.pkl").write_bytes(pickle.dumps(saved))
        with pytest.warns(DeprecationWarning, match="old version of imitation"):
            assert serialize.load(tmp_path / "old.pkl") == saved

    @pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
    def test_nothing_runs(self, protocol: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        import os

        monkeypatch.chdir(tmp_path)
        Path("bad.pkl").write_bytes(pickle.dumps([Call(os.mkdir, "ran")], protocol))
        with pytest.raises(DamagedTraceError, match=r"refers to (posix|nt)\.mkdir, which is not loaded"):
            serialize.load("bad.pkl")
        np.savez("bad.npz", infos=np.array([Call(os.mkdir, "ran")], dtype=object))
        with pytest.raises(DamagedTraceError, match=r"refers to (posix|nt)\.mkdir, which is not loaded"):
            serialize.load("bad.npz")
        assert not Path("ran").exists()

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"nothing of the kind",
            b"PK nothing of the kind",
            pickle.dumps({"a": 1}),
            pickle.dumps([1]),
            b"]r\xff\xff\xff\x7f0.",  # the memo of an ordinary unpickler would make room for two billion objects
            b"cos\nmkdir\n.",
            b"(cos\nmkdir\nS'ran'\no.",
            pickle.dumps([np.zeros(1), Path]),
            pickle.dumps(Call(np.dtype, "f4, f4")),
            pickle.dumps(Call(set, 1)),
        ],
    )
    def test_other_files(self, content: bytes, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(content)
        with pytest.raises(DamagedTraceError, match="expected trajectories as imitation saves them"):
            serialize.load(tmp_path / "file")

    def test_altered_golden_files(self, tmp_path: Path) -> None:
        rng = np.random.default_rng(0)
        for name in ("old.npz", "protocol2.pkl", "protocol5.pkl"):
            content = bytearray((FILES / name).read_bytes())
            for _ in range(200):
                altered = content.copy()
                altered[rng.integers(len(content))] = rng.integers(256)
                (tmp_path / "file").write_bytes(altered)
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    with contextlib.suppress(DamagedTraceError):
                        serialize.load(tmp_path / "file")

    def test_an_archive_of_other_arrays(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "other.npz", a=np.zeros(3))
        with pytest.raises(DamagedTraceError, match="indices"):
            serialize.load(tmp_path / "other.npz")
        with zipfile.ZipFile(tmp_path / "odd.npz", "w") as archive:
            archive.writestr("obs.npy", b"\x93NUMPY\x01\x00\xff\xff{")
        with pytest.raises(DamagedTraceError, match="short header"):
            serialize.load(tmp_path / "odd.npz")

    def test_no_file(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError):
            serialize.load(tmp_path / "none")
