"""Traces written by each released format are read for ever."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import golden_traces
import pytest
from traces import assert_same_trajectory

from vecrollout import Trajectory, open_traces, verify_traces
from vecrollout.testing import assert_same

GOLDEN = Path(__file__).with_name("golden")
KILLED: list[Trajectory] = [golden_traces.of_space("dict", 4, number) for number in range(3)]
TRACES = {name: written for name, _, written in golden_traces.traces()} | {"killed": KILLED}


@pytest.mark.parametrize("name", TRACES)
@pytest.mark.parametrize("version", sorted(path.name for path in GOLDEN.iterdir()))
def test_it_is_read(version: str, name: str) -> None:
    traces = open_traces(GOLDEN / version / name)
    assert len(traces) == len(TRACES[name])
    for number, (actual, expected) in enumerate(zip(traces, TRACES[name], strict=True)):
        assert_same_trajectory(actual, expected)
        if name != "killed":
            assert_same(traces.metadata_of(number), {"number": expected.episode.id})
    assert verify_traces(GOLDEN / version / name).ok


def test_the_current_version_has_golden_files() -> None:
    from vecrollout.storage.codec.metadata import FORMAT_VERSION

    assert (GOLDEN / f"v{FORMAT_VERSION}").is_dir()


def test_there_is_no_other_trace() -> None:
    for version in GOLDEN.iterdir():
        assert {path.name for path in version.iterdir()} == set(TRACES)


def test_what_is_written_today_is_the_same(tmp_path: Path) -> None:
    """But for names and times: otherwise the format has changed, and needs another version."""
    from pyarrow import ipc

    golden_traces.write(tmp_path)

    def columns(directory: Path) -> list[list[Any]]:
        shards = sorted(directory.glob("*.arrow"))
        return [[(field.name, str(field.type), field.metadata) for field in schema_of(shard)] for shard in shards]

    def schema_of(shard: Path) -> Any:
        return ipc.open_stream(shard.read_bytes()[8:]).schema

    for name in TRACES:
        assert columns(tmp_path / name) == columns(GOLDEN / "v1" / name)
