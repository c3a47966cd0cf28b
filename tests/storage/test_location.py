"""Paths and URLs."""

from __future__ import annotations

from pathlib import Path

import pytest
from traces import assert_same_trajectory, of_space, write

from vecrollout import TraceWriter, open_traces
from vecrollout.errors import OptionError


def test_a_url_of_a_local_directory(tmp_path: Path) -> None:
    directory = tmp_path / "with space"
    write(directory.as_uri(), [of_space("box", 3)])  # type: ignore[arg-type]
    for where in (directory, str(directory), directory.as_uri()):
        assert_same_trajectory(open_traces(where)[0], of_space("box", 3))
        assert open_traces(where).path == directory


def test_a_url_that_path_took_a_slash_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for where in (Path("s3://bucket/prefix"), "s3:/bucket/prefix"):
        for function in (TraceWriter, open_traces):
            with pytest.raises(OptionError, match="two slashes"):
                function(where)  # type: ignore[operator]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "url", ["nothing://bucket/prefix", "s3://bucket/prefix?no_such_option=1", "s3://", "memory://"]
)
def test_urls_that_cannot_be_used(url: str) -> None:
    for function in (TraceWriter, open_traces):
        with pytest.raises(OptionError, match="expected a URL"):
            function(url)  # type: ignore[operator]
