"""The command in this process, and a recording to work with."""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from vecrollout import TraceDataset, open_traces
from vecrollout.cli.app import app


class Ran(NamedTuple):
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def error(self) -> str:
        """The one line that an error is."""
        (line,) = self.err.splitlines()
        assert line.startswith("vecrollout: error: ")
        assert self.out == ""
        return line


Run = Callable[..., Ran]


def run_command(*arguments: object, answer: str = "") -> Ran:
    out, err = io.StringIO(), io.StringIO()
    stdin = sys.stdin
    sys.stdin = io.StringIO(answer)
    code: Any = 0
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            app([str(each) for each in arguments], prog_name="vecrollout")
    except SystemExit as ended:
        code = ended.code
    finally:
        sys.stdin = stdin
    return Ran(0 if code is None else code, out.getvalue(), err.getvalue())


@pytest.fixture
def run() -> Run:
    return run_command


@pytest.fixture
def on_terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Runs a command whose standard error is a terminal, and returns what that shows. The command must not fail."""

    def shown_by(*arguments: object) -> str:
        master, slave = os.openpty()
        shown: list[bytes] = []
        reader = threading.Thread(target=_read_all, args=(master, shown))
        reader.start()
        monkeypatch.setenv("TERM", "xterm")
        with os.fdopen(slave, "w") as terminal, monkeypatch.context() as patched:
            patched.setattr(sys, "stderr", terminal)
            with pytest.raises(SystemExit) as ended:
                app([str(each) for each in arguments], prog_name="vecrollout")
        reader.join()
        os.close(master)
        assert not ended.value.code, b"".join(shown)
        return b"".join(shown).decode()

    return shown_by


def _read_all(master: int, shown: list[bytes]) -> None:
    with contextlib.suppress(OSError):  # of a terminal that was closed
        while block := os.read(master, 4096):
            shown.append(block)


@pytest.fixture(scope="session")
def cartpole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 random episodes in 4 environments, that no test changes."""
    directory = tmp_path_factory.mktemp("recorded") / "cartpole"
    ran = run_command(
        "record", "CartPole-v1", "--n-envs", 4, "--episodes", 12, "--seed", 3, "--out", directory, "--policy", "random"
    )
    assert ran.code == 0, ran.err
    return directory


@pytest.fixture(scope="session")
def traces(cartpole: Path) -> TraceDataset:
    return open_traces(cartpole)
