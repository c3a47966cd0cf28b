"""Paths and URLs."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import numpy as np
import pytest
from traces import assert_same_trajectory, of_space, write

from vecrollout import TraceWriter, open_traces
from vecrollout.errors import ArgumentTypeError, DamagedTraceError, OptionError, TraceNotFoundError, TraceWriteError


def test_a_url_of_a_local_directory(tmp_path: Path) -> None:
    directory = tmp_path / "with space"
    write(directory.as_uri(), [of_space("box", 3)])  # type: ignore[arg-type]
    for where in (directory, str(directory), directory.as_uri()):
        assert_same_trajectory(open_traces(where)[0], of_space("box", 3))
        assert open_traces(where).path == directory


def test_a_relative_directory_is_that_of_the_time_of_opening(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for job in ("a", "b"):
        (tmp_path / job / "traces").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a")
    with TraceWriter("traces") as writer:
        monkeypatch.chdir(tmp_path / "b")
        assert writer.directory == tmp_path / "a" / "traces"
        writer.append(of_space("box", 3))
    monkeypatch.chdir(tmp_path / "a")
    traces = open_traces("traces")
    monkeypatch.chdir(tmp_path / "b")
    assert_same_trajectory(traces[0], of_space("box", 3))
    traces.refresh()
    assert len(traces) == 1
    assert list((tmp_path / "b" / "traces").iterdir()) == []


def test_a_home_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    write("~/traces", [of_space("box", 3)])  # type: ignore[arg-type]
    assert len(list((tmp_path / "traces").glob("*.arrow"))) == 1
    assert_same_trajectory(open_traces("~/traces")[0], of_space("box", 3))


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


def test_a_url_of_another_machines_file() -> None:
    """`file://traces` names a machine, not a directory."""
    for function in (TraceWriter, open_traces):
        with pytest.raises(OptionError, match="three slashes"):
            function("file://traces/some")  # type: ignore[operator]


def test_no_path_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for function in (TraceWriter, open_traces):
        for wrong in (None, 5, b"traces"):
            with pytest.raises(ArgumentTypeError, match=f"got {type(wrong).__name__}"):
                function(wrong)  # type: ignore[operator]
        with pytest.raises(OptionError, match="empty"):
            function("")  # type: ignore[operator]
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for directory in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(TraceWriteError, match=r"file.*expected a directory that can be written to"):
            TraceWriter(directory)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a file system in which nobody can write")
def test_a_directory_that_cannot_be_written_to() -> None:
    """It is said at once, not when the first episode was recorded in vain; permissions would not tell root."""
    with pytest.raises(TraceWriteError, match="/proc: expected a directory that can be written to"):
        TraceWriter("/proc")


def test_a_relative_directory_is_the_one_at_the_time_of_opening(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one", "other"):
        (tmp_path / name / "traces").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "one")
    writer = TraceWriter("traces")
    writer.append(of_space("box", 3))
    writer.flush()
    traces = open_traces("traces")
    monkeypatch.chdir(tmp_path / "other")
    writer.append(of_space("box", 3, 1))
    writer.close()
    traces.refresh()
    assert len(traces) == len(pickle.loads(pickle.dumps(traces))) == 2
    assert traces.path == tmp_path / "one" / "traces"
    assert list((tmp_path / "other" / "traces").iterdir()) == []


def test_the_home_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    write("~/traces", [of_space("box", 3)])
    assert len(open_traces("~/traces")) == 1
    assert (tmp_path / "traces").is_dir()


def test_a_missing_directory(tmp_path: Path) -> None:
    for error in (FileNotFoundError, DamagedTraceError, TraceNotFoundError):
        with pytest.raises(error, match="expected a directory of traces, got none"):
            open_traces(tmp_path / "none")


def test_several_directories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write("a", [of_space("box", 3), of_space("box", 4, 1)])
    write("b", [of_space("box", 5, 2)])
    traces = open_traces(["a", tmp_path / "b"])
    assert [len(each) for each in traces] == [len(each) for batch in traces.batches() for each in batch] == [3, 4, 5]
    assert traces.episodes() == [range(1), range(1, 2), range(2, 3)]
    assert traces.path == [tmp_path / "a", tmp_path / "b"]
    assert repr(traces) == f"<TraceDataset of 3 trajectories in '{tmp_path / 'a'}, {tmp_path / 'b'}'>"
    assert len(copy.deepcopy(traces)) == 3
    write("b", [of_space("box", 6, 3)])
    traces.refresh()
    assert [len(each) for each in traces] == [3, 4, 5, 6]
    assert traces.sample_transitions(50, np.random.default_rng(0)).obs.shape[0] == 50


def test_several_directories_that_are_none(tmp_path: Path) -> None:
    write(tmp_path, [of_space("box", 3)])
    for wrong in ([], [tmp_path, tmp_path / "." / ""]):
        with pytest.raises(OptionError, match="one or more directories, each once"):
            open_traces(wrong)
    with pytest.raises(ArgumentTypeError, match="got int"):
        open_traces([tmp_path, 3])  # type: ignore[list-item]
