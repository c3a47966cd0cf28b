"""Recordings of OpenAI's gym-recording, of every version, open here; damaged and hostile ones are refused."""

from __future__ import annotations

import contextlib
import io
import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from openai_recordings import Steps, Version, of_space, record, steps_of

from vecrollout import Episode
from vecrollout.errors import DamagedTraceError
from vecrollout.interop.gym_recording import GymRecordingReader, GymRecordingWriter, RecordedEpisode
from vecrollout.testing import SPACES, assert_same

VERSIONS: list[Version] = ["npy", "raw"]


def episodes(directory: Path) -> list[RecordedEpisode]:
    reader = GymRecordingReader(directory)
    return [episode for batch in reader.batches for episode in reader.episodes(batch)]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", SPACES)
def test_every_space_opens(name: str, version: Version, tmp_path: Path) -> None:
    lengths = [1, 5, 130, 2, 3]
    record(tmp_path, [steps_of(name, steps, number) for number, steps in enumerate(lengths)], version)
    found = list(GymRecordingReader(tmp_path).trajectories())
    for number, (steps, each) in enumerate(zip(lengths, found, strict=True)):
        expected = of_space(name, steps, number)
        assert_same((each.obs, each.acts, each.rews), (expected.obs, expected.acts, expected.rews))
        assert (each.terminal, each.terminated, each.truncated) == (False, False, False)
        assert each.episode == Episode(id=number)


@pytest.mark.parametrize("version", VERSIONS)
def test_recordings_without_steps(version: Version, tmp_path: Path) -> None:
    """A reset after a reset makes an episode of one observation."""
    null, one = Steps([np.zeros(3)], [], []), Steps([np.zeros(3), np.ones(3)], [2], [1.0])
    record(tmp_path, [null, one, null], version, per_batch=3)
    assert_same(episodes(tmp_path)[0]._asdict(), Steps(np.zeros((1, 3)), np.zeros(0), np.zeros(0))._asdict())  # type: ignore[arg-type]
    (trajectory,) = GymRecordingReader(tmp_path).trajectories()
    assert trajectory.episode == Episode(id=1)


@pytest.mark.parametrize("version", VERSIONS)
def test_observations_of_size_0_are_no_missing_ones(version: Version, tmp_path: Path) -> None:
    record(tmp_path, [Steps([np.zeros(0)], [], [])], version)
    assert_same(episodes(tmp_path)[0].observations, np.zeros((1, 0)))


@pytest.mark.parametrize("version", VERSIONS)
def test_actions_of_size_0_are_no_missing_ones(version: Version, tmp_path: Path) -> None:
    record(tmp_path, [Steps([np.zeros(3), np.ones(3)], [np.zeros(0)], [1.0])], version)
    (trajectory,) = GymRecordingReader(tmp_path).trajectories()
    assert_same(trajectory.acts, np.zeros((1, 0)))


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("items", "expected"),
    [
        ([3, 1], np.array([3, 1])),
        ([1.5, float("nan")], np.array([1.5, np.nan])),
        ([1, 0.5], np.array([1, 0.5])),
        ([True, False], np.array([True, False])),
        ([[1, 2], [3, 4]], np.array([[1, 2], [3, 4]])),
        ([[[0.5], [1]], [[2], [3]]], np.array([[[0.5], [1]], [[2], [3]]])),
        # Blackjack's observations.
        ([(14, 10, False), (20, 1, True)], (np.array([14, 20]), np.array([10, 1]), np.array([False, True]))),
        ([(1, np.ones(2)), (2, np.zeros(2))], (np.array([1, 2]), np.array([np.ones(2), np.zeros(2)]))),
        ([{"a": (1, "x")}, {"a": (2, "yz")}], {"a": (np.array([1, 2]), np.array(["x", "yz"]))}),
        ([np.array(1.5), np.array(2.5)], np.array([1.5, 2.5])),
        ([np.zeros((2, 2), np.uint8), np.ones((2, 2), np.uint8)], np.array([np.zeros((2, 2)), np.ones((2, 2))], "u1")),
    ],
)
def test_what_lists_become(items: list[Any], expected: Any, version: Version, tmp_path: Path) -> None:
    record(tmp_path, [Steps([np.zeros(1)] * (len(items) + 1), items, [1.0] * len(items))], version)
    assert_same(episodes(tmp_path)[0].actions, expected)


@pytest.mark.parametrize(
    "items",
    [
        # Universe's, before the first frame has come.
        [[None], [{"vision": np.ones((2, 2, 3), np.uint8), "text": []}]],
        [np.zeros((2, 2)), np.zeros((3, 2))],
        [np.zeros((2, 2), np.float32), np.zeros((2, 2))],
        [{"a": 1}, {"b": 1}],
        [{}, {}],
        [{"a": [1]}, {"a": [1, 2]}],
        [[1, 2], ["a"]],
        [True, 1],
        [[2**70], [1]],
        [[2**63], [-1]],
        [None, None],
    ],
)
def test_steps_that_are_not_alike(items: list[Any], tmp_path: Path) -> None:
    record(tmp_path, [Steps(items, items[1:], [1.0])])
    obs = episodes(tmp_path)[0].observations
    assert isinstance(obs, np.ndarray)
    assert obs.dtype == object
    assert_same(list(obs), items)
    assert len(list(GymRecordingReader(tmp_path).trajectories())) == 1


def test_rewards_of_any_number(tmp_path: Path) -> None:
    """Whole numbers were kept as such, and arrays of one as lists of arrays or in one."""
    rewards: list[Any] = [[1, 2], [1.0, 2.5], [np.array([1.0]), np.array([2.5])], [[1.0], [2.5]], [1, 2.5]]
    record(tmp_path, [Steps([np.zeros(1)] * 3, [0, 0], each) for each in rewards])
    found = [each.rews for each in GymRecordingReader(tmp_path).trajectories()]
    assert_same(found, [np.array([1.0, 2.0]), *[np.array([1.0, 2.5])] * 4])


@pytest.mark.parametrize("version", VERSIONS)
def test_a_step_that_raised(version: Version, tmp_path: Path) -> None:
    """The first version kept the action before it stepped."""
    observations = [np.full(2, t) for t in range(4)]
    failing = [Steps(observations, [0, 1, 2, 3], [1.0, 2.0, 3.0]), Steps(observations[:1], [0], [])]
    record(tmp_path, failing, version)
    (trajectory,) = GymRecordingReader(tmp_path).trajectories()
    assert_same((trajectory.obs, trajectory.acts), (np.array(observations), np.arange(3)))
    assert len(episodes(tmp_path)[1].actions) == 1


@pytest.mark.parametrize("version", VERSIONS)
def test_steps_without_a_reset(version: Version, tmp_path: Path) -> None:
    """What the first action was taken on is unknown."""
    observations = [np.full(2, t) for t in range(1, 4)]
    record(
        tmp_path,
        [Steps(observations, [0, 1, 2], [0.0, 1.0, 2.0]), Steps(observations[:1], [0], [0.0])],
        version,
    )
    (trajectory,) = GymRecordingReader(tmp_path).trajectories()
    assert_same((trajectory.obs, trajectory.acts), (np.array(observations), np.array([1, 2])))
    assert_same(trajectory.rews, np.array([1.0, 2.0]))
    assert trajectory.episode == Episode(id=0, start_step=1)


def test_order_of_recorders(tmp_path: Path) -> None:
    """By process and number, as numbers; ours come behind, by time."""
    for process, counter in [(1000, 0), (9, 10), (9, 2), (80, 1)]:
        record(tmp_path, [steps_of("discrete", 1, counter)], counter=counter, process=process)
    for number in (100, 101):
        with GymRecordingWriter(tmp_path) as writer:
            writer.append(of_space("discrete", 1, number))
    found = [int(each.obs[0]) for each in GymRecordingReader(tmp_path).trajectories()]
    assert found == [2, 10, 1, 0, 100, 101]


def test_arrays_in_fortran_order(tmp_path: Path) -> None:
    """NumPy's own files may have them."""
    obs = np.asfortranarray(np.arange(6.0).reshape(3, 2))
    buffer = io.BytesIO()
    np.save(buffer, obs)
    entry = {"__type": "ndarray", "shape": [3, 2], "dtype": "float64", "npyfile": "b.bin", "npyoff": 0}
    write_batch(tmp_path, {"observations": entry, "actions": [0, 0], "rewards": [0.0, 0.0]}, buffer.getvalue())
    assert_same(episodes(tmp_path)[0].observations, np.arange(6.0).reshape(3, 2))


@pytest.mark.parametrize("offset", [8, 3])
def test_plain_bytes_without_a_size(offset: int, tmp_path: Path) -> None:
    entry = {"__type": "ndarray", "shape": [3], "dtype": "<f8", "npyfile": "b.bin", "npyoff": offset}
    content = bytes(offset) + struct.pack("<3d", 1, 2, 3)
    write_batch(tmp_path, {"observations": entry, "actions": [0, 0], "rewards": [0.0, 0.0]}, content)
    obs = episodes(tmp_path)[0].observations
    assert_same(obs, np.array([1.0, 2.0, 3.0]))
    assert not isinstance(obs, np.ndarray) or obs.flags.aligned


def test_a_binary_file_without_bytes(tmp_path: Path) -> None:
    entry = {"__type": "ndarray", "shape": [2, 0], "dtype": "<f8", "npyfile": "b.bin", "npyoff": 0, "size": 0}
    write_batch(tmp_path, {"observations": entry, "actions": [0], "rewards": [0.0]}, b"")
    assert_same(episodes(tmp_path)[0].observations, np.zeros((2, 0)))


def test_a_dict_may_have_a_key_of_that_name(tmp_path: Path) -> None:
    obs = [{"__type": "door", "x": 1}, {"__type": "key", "x": 2}]
    record(tmp_path, [Steps(obs, [0], [1.0])])
    assert_same(episodes(tmp_path)[0].observations, {"__type": np.array(["door", "key"]), "x": np.array([1, 2])})


def test_nothing_recorded(tmp_path: Path) -> None:
    assert GymRecordingReader(tmp_path).batches == ()
    with pytest.raises(DamagedTraceError, match="expected a directory"):
        GymRecordingReader(tmp_path / "missing")
    (tmp_path / "openaigym.trace.0.1.manifest.pkl").touch()
    with pytest.raises(DamagedTraceError, match="pickled"):
        GymRecordingReader(tmp_path)


def write_batch(directory: Path, episode: Any, binary: bytes = bytes(64)) -> None:
    (directory / "b.bin").write_bytes(binary)
    (directory / "b.json").write_text(json.dumps({"episodes": [episode]}))
    manifest = {"batches": [{"first": 0, "len": 1, "fn": "b.json"}]}
    (directory / "openaigym.trace.0.1.manifest.json").write_text(json.dumps(manifest))


GOOD = {
    "__type": "ndarray",
    "shape": [2, 2],
    "order": "C",
    "dtype": "float64",
    "npyfile": "b.bin",
    "npyoff": 0,
    "size": 32,
}


@pytest.mark.parametrize(
    "wrong",
    [
        {"npyfile": "../b.bin"},
        {"npyfile": "missing.bin"},
        {"npyfile": ""},
        {"npyfile": ".."},
        {"npyfile": "sub/b.bin"},
        {"npyfile": "sub\\b.bin"},
        {"npyfile": "c:b.bin"},
        {"npyfile": "b.bin\0"},
        {"npyfile": 0},
        {"npyfile": "/etc/hostname"},
        {"npyoff": -8},
        {"npyoff": 33},
        {"npyoff": 65},
        {"npyoff": 10**30},
        {"npyoff": "0"},
        {"npyoff": True},
        {"npyoff": None},
        {"size": 31},
        {"size": "32"},
        {"shape": [2, 3]},
        {"shape": [-1, -4]},
        {"shape": [10**10, 10**10]},
        {"shape": [10**30, 0], "size": 0},
        {"shape": [1] * 100, "size": 8},
        {"shape": 4},
        {"shape": None},
        {"shape": [True, 4]},
        {"order": "F"},
        {"dtype": "object"},
        {"dtype": "O"},
        {"dtype": "|O8"},
        {"dtype": "f4,f4", "shape": [4]},
        {"dtype": "i4,O", "shape": [4]},
        {"dtype": "(2,)f4", "shape": [4]},
        {"dtype": "U0"},
        {"dtype": "nonsense"},
        {"dtype": "__import__('os')"},
        {"dtype": ["<f8"]},
        {"dtype": None},
        {"surplus": 1},
    ],
    ids=str,
)
def test_a_description_of_no_array(wrong: dict[str, Any], tmp_path: Path) -> None:
    outside = tmp_path / "b.bin"
    outside.write_bytes(bytes(64))
    inside = tmp_path / "inside"
    (inside / "sub").mkdir(parents=True)
    (inside / "sub" / "b.bin").write_bytes(bytes(64))
    good = {"observations": GOOD, "actions": [0], "rewards": [1.0]}
    write_batch(inside, good)
    assert len(episodes(inside)) == 1
    write_batch(inside, {**good, "observations": {**GOOD, **wrong}})
    with pytest.raises(DamagedTraceError, match=r"b\.json"):
        episodes(inside)


def test_pickled_objects_are_not_read(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return (tmp_path / "sprung").touch, ()

    buffer = io.BytesIO()
    np.save(buffer, np.array([Trap()], dtype=object), allow_pickle=True)
    without_size = {key: value for key, value in GOOD.items() if key not in ("order", "size")}
    for dtype in ("object", "int64", "|V8"):
        entry = {**without_size, "shape": [1], "dtype": dtype}
        write_batch(tmp_path, {"observations": entry, "actions": [0], "rewards": [1.0]}, buffer.getvalue())
        with pytest.raises(DamagedTraceError, match=r"b\.json"):
            episodes(tmp_path)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda npy: npy[:40],
        lambda npy: npy[:-1],
        lambda npy: npy.replace(b"(3,)", b"(4,)"),
        lambda npy: npy.replace(b"<f8", b"<f4"),
        lambda npy: npy.replace(b"<f8", b"|O "),
        lambda npy: npy[:6] + b"\x09" + npy[7:],
        lambda npy: npy[:8] + b"\xff\xff" + npy[10:],
        lambda npy: npy.replace(b"{", b"("),
    ],
)
def test_spoiled_files_of_numpy(spoil: Callable[[bytes], bytes], tmp_path: Path) -> None:
    buffer = io.BytesIO()
    np.save(buffer, np.arange(3.0))
    entry = {"__type": "ndarray", "shape": [3], "dtype": "float64", "npyfile": "b.bin", "npyoff": 0}
    write_batch(tmp_path, {"observations": entry, "actions": [0, 0], "rewards": [1.0, 1.0]}, spoil(buffer.getvalue()))
    with pytest.raises(DamagedTraceError, match=r"b\.json"):
        episodes(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "JSON"),
        ("{", "JSON"),
        ("[" * 200_000, "JSON"),
        ('{"a":' * 200_000, "JSON"),
        ("[]", "1 episodes"),
        ('{"episodes": 3}', "1 episodes"),
        ('{"episodes": []}', "1 episodes"),
        ('{"episodes": [{}, {}]}', "1 episodes"),
        ('{"episodes": [3]}', "episode 0: expected an episode"),
        ('{"episodes": [{}]}', "observations"),
        ('{"episodes": [{"observations": [1, 2], "actions": "01"}]}', "actions"),
        ('{"episodes": [{"observations": [1, 2], "actions": [0], "rewards": null}]}', "rewards"),
        ("\xff", "JSON"),
    ],
)
def test_spoiled_batches(text: str, message: str, tmp_path: Path) -> None:
    write_batch(tmp_path, {})
    (tmp_path / "b.json").write_text(text, encoding="latin-1")
    with pytest.raises(DamagedTraceError, match=rf"b\.json.*{message}"):
        episodes(tmp_path)


def test_a_missing_batch(tmp_path: Path) -> None:
    write_batch(tmp_path, {})
    (tmp_path / "b.json").unlink()
    with pytest.raises(DamagedTraceError, match=r"b\.json: expected a batch"):
        episodes(tmp_path)


def test_a_missing_manifest(tmp_path: Path) -> None:
    """A recording is not empty because nothing lists what is there."""
    record(tmp_path, [steps_of("box", 2)])
    (tmp_path / "openaigym.trace.0.4711.manifest.json").unlink()
    with pytest.raises(DamagedTraceError, match="expected a manifest"):
        GymRecordingReader(tmp_path)


@pytest.mark.parametrize(
    "manifest",
    [
        "",
        '{"batches": [{"first": 0, "len": 1' + "0" * 5000 + ', "fn": "b.json"}]}',
        "[]",
        "{}",
        '{"batches": {}}',
        '{"batches": [3]}',
        '{"batches": [{"first": 0, "len": 1}]}',
        '{"batches": [{"first": 0, "len": -1, "fn": "b.json"}]}',
        '{"batches": [{"first": null, "len": 1, "fn": "b.json"}]}',
        '{"batches": [{"first": 0, "len": 1.0, "fn": "b.json"}]}',
        '{"batches": [{"first": 0, "len": 1, "fn": "../b.json"}]}',
        '{"batches": [{"first": 0, "len": 1, "fn": "/b.json"}]}',
        '{"batches": [{"first": 0, "len": 1, "fn": ["b.json"]}]}',
    ],
)
def test_spoiled_manifests(manifest: str, tmp_path: Path) -> None:
    (tmp_path / "openaigym.trace.0.1.manifest.json").write_text(manifest)
    with pytest.raises(DamagedTraceError, match=r"openaigym\.trace\.0\.1\.manifest\.json"):
        GymRecordingReader(tmp_path)


@pytest.mark.parametrize(
    ("observations", "actions", "rewards"),
    [
        ([1, 2, 3], [0], [1.0]),
        ([1, 2], [0, 1, 2], [1.0]),
        ([1, 2], [], [1.0]),
        ([1, 2], [0], [1.0, 2.0, 3.0]),
        ([1, 2], [0], ["a"]),
        ([1, 2], [0], [{"agent": 1.0}]),
        ([1, 2], [0], [[]]),
    ],
)
def test_rows_that_do_not_fit_make_no_trajectory(
    observations: list[Any], actions: list[Any], rewards: list[Any], tmp_path: Path
) -> None:
    """The episode can be had as it is."""
    write_batch(tmp_path, {"observations": observations, "actions": actions, "rewards": rewards})
    assert len(episodes(tmp_path)[0].observations) == len(observations)
    with pytest.raises(DamagedTraceError, match=r"b\.json: episode 0: expected"):
        list(GymRecordingReader(tmp_path).trajectories())


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("kind", ["manifest.json", "ep000000000.json", "ep000000000.bin"])
def test_a_flipped_bit_anywhere(kind: str, version: Version, tmp_path: Path) -> None:
    """The format has no checksums, so data may be another; but nothing else than a clear error is raised."""
    record(tmp_path, [steps_of("nested", 2), steps_of("text", 1), steps_of("box", 3)], version, per_batch=3)
    (path,) = tmp_path.glob(f"*.{kind}")
    content = path.read_bytes()
    generator = np.random.default_rng(0)
    for place in generator.choice(len(content), min(400, len(content)), replace=False).tolist():
        spoiled = bytearray(content)
        spoiled[place] ^= 1 << int(generator.integers(8))
        path.write_bytes(spoiled)
        with contextlib.suppress(DamagedTraceError):
            list(GymRecordingReader(tmp_path).trajectories())


@pytest.mark.parametrize("kind", ["manifest.json", "ep000000000.json", "ep000000000.bin"])
def test_a_cut_file(kind: str, tmp_path: Path) -> None:
    record(tmp_path, [steps_of("dict", 2), steps_of("box", 3)])
    (path,) = tmp_path.glob(f"*.{kind}")
    content = path.read_bytes()
    for size in range(0, len(content), 7):
        path.write_bytes(content[:size])
        with pytest.raises(DamagedTraceError, match="openaigym"):
            list(GymRecordingReader(tmp_path).trajectories())


class TestHostileFiles:
    """What would end the interpreter, wait for ever, or fill the memory."""

    @pytest.mark.parametrize(
        "dtype", ["<M8[ns/0]", "M8[0ns]", "<m8[ns/0]", "datetime64[s//0]", "i4,i4", "(2,)f8", "{'a': 1}", "object", "O"]
    )
    def test_dtypes(self, dtype: str, tmp_path: Path) -> None:
        entry = {"__type": "ndarray", "shape": [1], "dtype": dtype, "npyfile": "b.bin", "npyoff": 0, "size": 8}
        write_batch(tmp_path, {"observations": entry, "actions": [0], "rewards": [0.0]}, bytes(64))
        with pytest.raises(DamagedTraceError, match="expected the dtype of numbers or text"):
            episodes(tmp_path)

    @pytest.mark.parametrize(
        "header",
        [
            "{'descr': '<M8[ns/0]', 'fortran_order': False, 'shape': (1,), }",
            "{'descr': '|O', 'fortran_order': False, 'shape': (1,), }",
            "{'descr': [('a', '<f8')], 'fortran_order': False, 'shape': (1,), }",
            "{'descr': '<f8', 'fortran_order': False, 'shape': (" + "1" * 60 + "!), }",
            "(" * 900,
            "-" * 900 + "1",
        ],
    )
    def test_headers_of_numpy(self, header: str, tmp_path: Path) -> None:
        entry = {"__type": "ndarray", "shape": [1], "dtype": "float64", "npyfile": "b.bin", "npyoff": 0}
        text = header.encode()
        content = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + bytes(8)
        write_batch(tmp_path, {"observations": entry, "actions": [0], "rewards": [0.0]}, content)
        with pytest.raises(DamagedTraceError, match="expected an array, got"):
            episodes(tmp_path)

    def test_the_same_bytes_again_and_again(self, tmp_path: Path) -> None:
        entry = {"__type": "ndarray", "shape": [1000], "dtype": "<f8", "npyfile": "b.bin", "npyoff": 0, "size": 8000}
        write_batch(tmp_path, {"observations": [entry] * 1000, "actions": [0], "rewards": [0.0]}, bytes(8000))
        with pytest.raises(DamagedTraceError, match="got the same 8000 bytes again and again"):
            episodes(tmp_path)

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
    @pytest.mark.parametrize("name", ["openaigym.trace.0.1.manifest.json", "b.json", "b.bin"])
    def test_a_pipe(self, name: str, tmp_path: Path) -> None:
        entry = {"__type": "ndarray", "shape": [1], "dtype": "<f8", "npyfile": "b.bin", "npyoff": 0, "size": 8}
        write_batch(tmp_path, {"observations": entry, "actions": [0], "rewards": [0.0]}, bytes(8))
        (tmp_path / name).unlink()
        os.mkfifo(tmp_path / name)
        with pytest.raises(DamagedTraceError, match="expected a regular file"):
            episodes(tmp_path)
