"""`vecrollout merge`, `split`, `filter` and `delete`."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from vecrollout import TraceDataset, TraceWriter, TrajectoryWithRew, open_traces

if TYPE_CHECKING:
    from conftest import Run


@pytest.fixture
def copied(cartpole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(cartpole, tmp_path / "copied"))


def test_merge(run: Run, cartpole: Path, tmp_path: Path) -> None:
    assert run("record", "CartPole-v1", "--episodes", 2, "--out", tmp_path / "more").code == 0
    ran = run("merge", cartpole, tmp_path / "more", "--out", tmp_path / "both")
    assert ran.code == 0
    assert "14 trajectories" in ran.out
    assert len(open_traces(tmp_path / "both")) == 14


def test_split(run: Run, cartpole: Path, traces: TraceDataset, tmp_path: Path) -> None:
    ran = run("split", cartpole, "train=0.75", "val=0.25", "--out", tmp_path, "--seed", 1)
    assert ran.code == 0, ran.err
    parts = [open_traces(tmp_path / name) for name in ("train", "val")]
    assert list(map(len, parts)) == [9, 3]
    assert {each.episode.id for part in parts for each in part} == {each.episode.id for each in traces}


def test_filter_by_a_condition(run: Run, cartpole: Path, traces: TraceDataset, tmp_path: Path) -> None:
    limit = int(sorted(traces.lengths)[5])
    assert run("filter", cartpole, f"return_ > {limit} and length < 500", "--out", tmp_path / "long").code == 0
    expected = [each for each in traces if len(each) > limit]
    assert list(open_traces(tmp_path / "long")) == expected


def test_filter_by_numbers(run: Run, cartpole: Path, traces: TraceDataset, tmp_path: Path) -> None:
    assert run("filter", cartpole, "--episodes", "1,5,9-11", "--out", tmp_path / "chosen").code == 0
    assert list(open_traces(tmp_path / "chosen")) == [traces[number] for number in (1, 5, 9, 10, 11)]


def test_delete_in_place(run: Run, copied: Path, traces: TraceDataset) -> None:
    ran = run("delete", copied, "--episodes", "0,2", answer="y\n")
    assert ran.code == 0, ran.err
    assert "2 trajectories deleted, 10 left" in ran.out
    assert list(open_traces(copied)) == [each for number, each in enumerate(traces) if number not in (0, 2)]
    assert [each.name for each in copied.parent.iterdir()] == ["copied"]


def test_delete_asks(run: Run, copied: Path) -> None:
    assert run("delete", copied, "--where", "length > 0", answer="n\n").code == 1
    assert len(open_traces(copied)) == 12


def test_delete_into_another_place(run: Run, cartpole: Path, tmp_path: Path) -> None:
    assert run("delete", cartpole, "--where", "env == 0", "--out", tmp_path / "rest").code == 0
    assert {each.episode.env_index for each in open_traces(tmp_path / "rest")} == {1, 2, 3}
    assert len(open_traces(cartpole)) == 12


def test_delete_spares_other_files(run: Run, copied: Path) -> None:
    (copied / "notes.txt").write_text("mine")
    assert "notes.txt" in run("delete", copied, "--episodes", "0", "--yes").error
    assert len(open_traces(copied)) == 12


def test_delete_spares_a_trace_that_is_being_written(run: Run, copied: Path) -> None:
    with TraceWriter(copied, mix_spaces=True) as writer:
        writer.append(TrajectoryWithRew(np.zeros((3, 1)), np.zeros(2), None, True, rews=np.ones(2)))
        writer.flush()
        ran = run("delete", copied, "--episodes", "0", "--yes")
    assert ran.code == 1
    assert "writer at work" in ran.error
    assert len(open_traces(copied)) == 13
