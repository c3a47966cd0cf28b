"""Mistakes of a user: one clear line each, the exit code, and nothing lost."""

from __future__ import annotations

import builtins
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import stable_baselines3
import xxhash

from vecrollout import TraceWriter, TrajectoryWithRew, open_traces

if TYPE_CHECKING:
    from conftest import Run

RECORD = ("record", "CartPole-v1", "--episodes", 1, "--out")


def test_an_unknown_environment_names_near_ones(run: Run, tmp_path: Path) -> None:
    ran = run("record", "cartpole-v1", "--episodes", 1, "--out", tmp_path / "out")
    assert ran.code == 2
    assert "CartPole-v1" in ran.error
    assert not (tmp_path / "out").exists()
    assert "cannot be imported" in run("record", "no_such_module:Env-v0", "--steps", 1, "--out", tmp_path).error


def test_arguments_that_the_environment_does_not_take(run: Run, tmp_path: Path) -> None:
    ran = run("record", "CartPole-v1", "--steps", 1, "--env-arg", "gravity=1", "--out", tmp_path)
    assert ran.code == 2
    assert "gravity" in ran.error


@pytest.mark.parametrize("given", [(), ("--episodes", 1, "--steps", 1)])
def test_episodes_or_steps(run: Run, tmp_path: Path, given: tuple[object, ...]) -> None:
    ran = run("record", "CartPole-v1", *given, "--out", tmp_path)
    assert ran.code == 2
    assert "--episodes or --steps" in ran.error


def test_a_model_of_another_space(run: Run, tmp_path: Path) -> None:
    stable_baselines3.A2C("MlpPolicy", "Pendulum-v1", device="cpu").save(tmp_path / "model")
    ran = run(*RECORD, tmp_path / "out", "--policy", tmp_path / "model.zip")
    assert ran.code == 2
    assert "the model was trained in another environment" in ran.error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("policy", "told"),
    [
        ("missing.zip", "no file of this name"),
        ("text.zip", "another file"),
        ("retrained", "random, a model's MODEL.zip"),
        ("no_such_module:act", "cannot be imported"),
        ("os.path:act", "has no 'act'"),
        ("missing.py:act", "no file"),
        ("os.path:sep", "Policy must be"),
    ],
)
def test_no_policy(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, policy: str, told: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.zip").write_text("text")
    ran = run(*RECORD, "out", "--policy", policy)
    assert ran.code == 2
    assert told in ran.error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("policy", ["random", "math:hypot"])
@pytest.mark.parametrize(("option", "value"), [("--algo", "PPO"), ("--normalize", "statistics.pkl")])
def test_options_of_models(run: Run, tmp_path: Path, policy: str, option: str, value: str) -> None:
    ran = run(*RECORD, tmp_path / "out", "--policy", policy, option, value)
    assert ran.code == 2
    assert f"{option[2:]}: expected with a model only, got --policy {policy}" in ran.error


READERS: dict[str, tuple[str, ...]] = {
    "info": (),
    "stats": (),
    "verify": (),
    "repair": (),
    "merge": ("--out", "out"),
    "split": ("all=1", "--out", "out"),
    "filter": ("length > 1", "--out", "out"),
    "delete": ("--where", "length > 1", "--yes"),
    "convert": ("--to", "npz", "--out", "out.npz"),
    "replay": (),
    "plot": ("--out", "out.png"),
    "video": ("--out", "out.mp4"),
    "view": ("--no-browser",),
    "report": ("--out", "out.html"),
}
"""Commands that take a trace, with further arguments."""


@pytest.mark.parametrize("command", READERS)
def test_no_trace(run: Run, cartpole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    monkeypatch.chdir(tmp_path)
    more = READERS[command]
    assert "got no such directory" in run(command, tmp_path / "missing", *more).error
    (tmp_path / "file.txt").write_text("text")
    assert "got no such directory" in run(command, tmp_path / "file.txt", *more).error
    ran = run(command, tmp_path, *more)
    assert ran.code == 2
    assert "expected a directory of traces, got one without any" in ran.error
    assert str(cartpole) in run(command, cartpole.parent, *more).error, "a trace below it is named"
    assert [each.name for each in tmp_path.iterdir()] == ["file.txt"]


def test_ls_of_no_directory(run: Run, tmp_path: Path) -> None:
    ran = run("ls", tmp_path / "missing")
    assert ran.code == 2
    assert "expected a directory of traces" in ran.error


@pytest.mark.parametrize("command", READERS)
def test_a_newer_format(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    monkeypatch.chdir(tmp_path)
    trace = tmp_path / "trace"
    with TraceWriter(trace) as writer:
        writer.append(TrajectoryWithRew(np.zeros((3, 1)), np.zeros(2), None, True, rews=np.ones(2)))
    (journal,) = trace.glob("*.journal")
    header, _, others = journal.read_bytes().partition(b"\n")
    newer = json.dumps({**json.loads(header.rpartition(b" ")[0]), "format_version": 7}).encode()
    journal.write_bytes(b"%b %b\n%b" % (newer, xxhash.xxh3_64_hexdigest(newer).encode(), others))
    before = {each: each.read_bytes() for each in trace.iterdir()}
    ran = run(command, trace, *READERS[command])
    assert ran.code == 2
    assert "newer" in ran.error
    assert {each: each.read_bytes() for each in trace.iterdir()} == before
    assert list(tmp_path.iterdir()) == [trace]


def test_an_empty_trace(run: Run, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    with TraceWriter(trace):
        pass
    for command in (["ls"], ["info"], ["verify"], ["repair"]):
        assert run(*command, trace).code == 0, command
    assert run("stats", trace).code == 1
    for command in (["replay"], ["plot", "--out", tmp_path / "x.png"], ["video", "--out", tmp_path / "x.mp4"]):
        assert run(*command, trace).code == 2, command
    assert "nothing to convert" in run("convert", trace, "--to", "npz", "--out", tmp_path / "x.npz").error
    assert [each.name for each in tmp_path.iterdir()] == ["trace"]
    assert run("report", trace, "--out", tmp_path / "report.html").code == 0
    assert run("filter", trace, "length > 1", "--out", tmp_path / "filtered").code == 0
    assert run("delete", trace, "--where", "length > 1", "--yes").code == 0
    assert len(open_traces(tmp_path / "filtered")) == len(open_traces(trace)) == 0


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="/proc is a place where nobody can write")
def test_an_unwritable_path(run: Run, cartpole: Path) -> None:
    for command in (
        RECORD[:-1],
        ("filter", cartpole, "length > 1"),
        ("convert", cartpole, "--to", "npz"),
        ("merge", cartpole),
        ("split", cartpole, "all=1"),
        ("delete", cartpole, "--where", "length > 1"),
        ("plot", cartpole),
        ("report", cartpole),
        ("video", cartpole, "--source", "render"),
    ):
        name = {"plot": "x.png", "video": "x.mp4"}.get(str(command[0]), "out")
        ran = run(*command, "--out", f"/proc/{name}")
        assert ran.code == (2 if command[0] == "report" else 1), ran
        assert "/proc" in ran.error
    assert len(open_traces(cartpole)) == 12


def test_a_port_in_use(run: Run, cartpole: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        ran = run("view", cartpole, "--no-browser", "--port", port)
    assert ran.code == 2
    assert f"got {port}, which is in use" in ran.error


def test_an_existing_result_is_not_overwritten(run: Run, cartpole: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.npz").write_text("mine")
    assert "exists" in run("convert", cartpole, "--to", "npz", "--out", tmp_path / "mine.npz").error
    assert "new or empty" in run("filter", cartpole, "length > 1", "--out", tmp_path).error
    assert (tmp_path / "mine.npz").read_text() == "mine"


def test_traces_of_another_environment_are_not_mixed(run: Run, cartpole: Path) -> None:
    assert "expected those of the traces in" in run("record", "Pendulum-v1", "--steps", 1, "--out", cartpole).error
    assert len(open_traces(cartpole)) == 12


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--to", "lerobt"], "expected one of"),
        (["--to", "lerobot"], "needs --fps"),
        (["--to", "npz", "--fps", 5], "lerobot"),
        (["--to", "robomimic", "--env-args", "{"], "expected JSON"),
    ],
)
def test_wrong_conversions(run: Run, cartpole: Path, tmp_path: Path, arguments: list[object], told: str) -> None:
    ran = run("convert", cartpole, "--out", tmp_path / "out", *arguments)
    assert ran.code == 2
    assert told in ran.error
    assert list(tmp_path.iterdir()) == []


def test_unknown_columns(run: Run, cartpole: Path) -> None:
    assert "return_" in run("ls", cartpole, "--where", "reward > 1").error
    assert "return_" in run("ls", cartpole, "--sort", "reward").error
    assert "return_" in run("stats", cartpole, "--by", "reward").error
    assert "0 to 11" in run("replay", cartpole, "--episodes", 12).error


@pytest.mark.parametrize(
    ("package", "arguments", "extra"),
    [
        ("matplotlib", ["plot", "--out", "x.png"], "vecrollout[plot]"),
        ("av", ["video", "--out", "x.mp4"], "vecrollout[video]"),
        ("h5py", ["convert", "--to", "minari", "--out", "cartpole/x-v0"], "vecrollout[interop]"),
    ],
)
def test_a_missing_extra_is_named(
    run: Run,
    cartpole: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    package: str,
    arguments: list[str],
    extra: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in [
        each for each in sys.modules if each.partition(".")[0] == package or each.endswith(("hdf5", "minari"))
    ]:
        monkeypatch.delitem(sys.modules, name)
    real: Any = builtins.__import__

    def importing(name: str, *others: Any, **named: Any) -> Any:
        if name.partition(".")[0] == package:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, *others, **named)

    monkeypatch.setattr(builtins, "__import__", importing)
    command, *options = arguments
    ran = run(command, cartpole, *options)
    assert ran.code == 2
    assert extra in ran.error


def test_workers_without_ray(tmp_path: Path) -> None:
    (tmp_path / "ray.py").write_text("raise ModuleNotFoundError(\"No module named 'ray'\")\n")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    ran = subprocess.run(
        [sys.executable, "-m", "vecrollout", *map(str, RECORD), tmp_path / "out", "--ray-workers", "2"],
        capture_output=True,
        text=True,
        env=environment,
        timeout=60,
    )
    assert ran.returncode == 2
    (line,) = ran.stderr.splitlines()
    assert "pip install 'vecrollout[ray]'" in line
    assert not (tmp_path / "out").exists()


def test_without_typer(tmp_path: Path) -> None:
    (tmp_path / "typer.py").write_text("raise ModuleNotFoundError(\"No module named 'typer'\")\n")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    ran = subprocess.run(
        [sys.executable, "-m", "vecrollout", "ls"], capture_output=True, text=True, env=environment, timeout=60
    )
    assert ran.returncode == 2
    (line,) = ran.stderr.splitlines()
    assert 'pip install "vecrollout[cli]"' in line


def test_the_viewer_without_starlette(cartpole: Path) -> None:
    code = (
        "import importlib.util as util, sys; find = util.find_spec\n"
        "util.find_spec = lambda name, *rest: None if name == 'starlette' else find(name, *rest)\n"
        f"sys.argv = ['vecrollout', 'view', {str(cartpole)!r}]\n"
        "from vecrollout.cli import main; main()"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert ran.returncode == 2
    (line,) = ran.stderr.splitlines()
    assert "pip install 'vecrollout[viewer]'" in line
