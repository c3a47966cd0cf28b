"""Starting and ending the viewer, and what it refuses."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import xxhash
from served import served
from traces_to_view import episode, write

from vecrollout.errors import ArgumentTypeError, OptionError, TraceNotFoundError, TraceVersionError
from vecrollout.viewer import serve


def test_it_answers_until_it_is_interrupted(tmp_path: Path) -> None:
    write(tmp_path, [episode(0, 3)])
    with served(tmp_path) as url:
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/[\w-]{20,}/", url)
        with urllib.request.urlopen(f"{url}api/status") as answer:
            assert b'"trajectories":1' in answer.read()
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(url.rpartition("/")[0].rpartition("/")[0])
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(url)


def test_the_token_differs_each_time(tmp_path: Path) -> None:
    seen = []

    def stop(url: str) -> None:
        seen.append(url.split("/")[3])
        raise KeyError

    for _ in range(3):
        with pytest.raises(KeyError):
            serve(tmp_path, open_browser=False, announce=stop)
    assert len(set(seen)) == 3


def test_a_port_in_use(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(OptionError, match=rf"port: expected a free port .* got {port}, which is in use"):
            serve(tmp_path, port=port, open_browser=False, announce=pytest.fail)


@pytest.mark.parametrize("port", [-1, 70_000])
def test_a_port_out_of_range(tmp_path: Path, port: int) -> None:
    with pytest.raises(OptionError, match="port"):
        serve(tmp_path, port=port, open_browser=False, announce=pytest.fail)


def test_a_port_of_another_kind(tmp_path: Path) -> None:
    with pytest.raises(ArgumentTypeError, match="port"):
        serve(tmp_path, port="80", open_browser=False, announce=pytest.fail)  # type: ignore[arg-type]


def test_no_trace(tmp_path: Path) -> None:
    with pytest.raises(TraceNotFoundError):
        serve(tmp_path / "nothing", open_browser=False, announce=pytest.fail)


def test_a_newer_format(tmp_path: Path) -> None:
    write(tmp_path, [episode(0, 3)])
    (journal,) = tmp_path.glob("*.journal")
    first, *others = journal.read_bytes().splitlines(keepends=True)
    text = json.dumps({**json.loads(first.rpartition(b" ")[0]), "format_version": 7}).encode()
    journal.write_bytes(b"%b %b\n" % (text, xxhash.xxh3_64_hexdigest(text).encode()) + b"".join(others))
    with pytest.raises(TraceVersionError, match="got 7"):
        serve(tmp_path, open_browser=False, announce=pytest.fail)


@pytest.mark.parametrize("package", ["starlette", "uvicorn", "plotly"])
def test_a_missing_extra(package: str) -> None:
    code = (
        "import importlib.util as util; find = util.find_spec\n"
        f"util.find_spec = lambda name, *rest: None if name == {package!r} else find(name, *rest)\n"
        "import vecrollout.viewer"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    line = result.stderr.splitlines()[-1]
    assert "MissingDependencyError" in line
    assert f"the viewer needs {package}; install it with: pip install 'vecrollout[viewer]'" in line
