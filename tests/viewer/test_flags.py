"""Flags of episodes: they outlive the viewer, stay with their trace, and never change it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient
from traces_to_view import episode, write

from vecrollout import open_traces
from vecrollout.errors import OptionError
from vecrollout.viewer.application import application


def client_of(*directories: Path) -> TestClient:
    return TestClient(application(open_traces(directories), "token"), base_url="http://127.0.0.1/token/")


def flag(client: TestClient, number: int, wanted: bool = True) -> Any:
    return client.post(f"api/episodes/{number}/flag", content="true" if wanted else "false").json()


def flagged(client: TestClient) -> list[int]:
    assert client.get("api/status").json()["flagged"] == client.get("api/episodes").json()["flagged"]
    return [row["number"] for row in client.get("api/episodes?flagged=1").json()["rows"]]


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state" / "vecrollout" / "flags"


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    return write(tmp_path / "trace", [episode(number, 3) for number in range(6)])


def test_the_next_viewer_has_them(trace: Path, state: Path) -> None:
    files = {each: each.read_bytes() for each in trace.iterdir()}
    with client_of(trace) as client:
        assert flagged(client) == []
        assert not state.exists(), "nothing is flagged"
        flag(client, 4)
        assert flag(client, 1) == {"number": 1, "flagged": True, "count": 2}
    with client_of(trace) as client:
        assert flagged(client) == [1, 4]
        assert client.get("api/episodes/4").json()["flagged"]
        flag(client, 4, False)
    with client_of(trace) as client:
        assert flagged(client) == [1]
        flag(client, 1, False)
    assert list(state.iterdir()) == []
    assert {each: each.read_bytes() for each in trace.iterdir()} == files


def test_they_stay_with_a_trace_that_moves_and_with_no_other(trace: Path, tmp_path: Path) -> None:
    with client_of(trace) as client:
        flag(client, 2)
    moved = trace.rename(tmp_path / "moved")
    write(trace, [episode(number, 3) for number in range(6)])
    with client_of(trace) as client:
        assert flagged(client) == [], "a new trace in the place of the old one"
    with client_of(trace, moved) as client:
        assert len(flagged(client)) == 1
    shutil.copytree(moved, tmp_path / "copy")
    with client_of(tmp_path / "copy") as client:
        assert flagged(client) == [2]


def test_two_viewers_lose_nothing_to_one_another(trace: Path) -> None:
    with client_of(trace) as one, client_of(trace) as other:
        flag(one, 0)
        flag(other, 5)
        flag(one, 3)
    with client_of(trace) as client:
        assert flagged(client) == [0, 3, 5]


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="/proc is a place where nobody can write")
def test_where_nothing_can_be_kept_they_last_as_long_as_the_viewer(
    trace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/proc")
    with client_of(trace) as client:
        with pytest.warns(UserWarning, match="flags last only as long as this viewer"):
            flag(client, 2)
        flag(client, 3)
        assert flagged(client) == [2, 3]


@pytest.mark.parametrize("content", [b"{", b"7", b"[1]", b"\xff"])
def test_a_file_with_something_else_is_named_and_kept(trace: Path, state: Path, content: bytes) -> None:
    with client_of(trace) as client:
        flag(client, 2)
    (file,) = state.iterdir()
    file.write_bytes(content)
    with pytest.raises(OptionError, match=f"{file}: expected the flags of episodes"):
        client_of(trace)
    assert file.read_bytes() == content
    os.unlink(file)
    with client_of(trace) as client:
        assert flagged(client) == []
