"""`vecrollout ls`, `info` and `stats`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from vecrollout import TraceDataset, TraceWriter, TrajectoryWithRew

if TYPE_CHECKING:
    from conftest import Run


def test_ls_lists_episodes(run: Run, cartpole: Path, traces: TraceDataset) -> None:
    ran = run("ls", cartpole, "--limit", 5)
    assert ran.code == 0
    assert "5 of 12 trajectories" in ran.out
    listed = run("ls", cartpole, "--json").json
    assert [each["number"] for each in listed] == list(range(12))
    assert [each["length"] for each in listed] == traces.lengths.tolist()


def test_ls_selects_and_sorts(run: Run, cartpole: Path, traces: TraceDataset) -> None:
    listed = run("ls", cartpole, "--where", "env in [1, 2] and length > 5", "--sort", "length", "--json").json
    assert {each["env"] for each in listed} == {1, 2}
    assert [each["length"] for each in listed] == sorted((each["length"] for each in listed), reverse=True)
    for each in listed:
        assert traces.lengths[each["number"]] == each["length"], "numbers are those of the trace"


def test_ls_lists_the_traces_below(run: Run, cartpole: Path) -> None:
    (listed,) = run("ls", cartpole.parent, "--json").json
    assert listed["trace"] == str(cartpole)
    assert (listed["trajectories"], listed["environment"], listed["policy"]) == (12, "CartPole-v1", "random")
    assert "CartPole-v1" in run("ls", cartpole.parent).out


def test_ls_of_nothing_says_how_to_begin(run: Run, tmp_path: Path) -> None:
    ran = run("ls", tmp_path)
    assert ran.code == 0
    assert "vecrollout record" in ran.out


def test_info(run: Run, cartpole: Path, traces: TraceDataset) -> None:
    ran = run("info", cartpole)
    lines = dict(line.split("  ", 1) for line in ran.out.splitlines())
    assert {name: lines[name].strip() for name in ("environment", "actions", "steps")} == {
        "environment": "CartPole-v1",
        "actions": "Discrete(2)",
        "steps": str(traces.total_steps),
    }
    assert "policy: random, recorded_with: (env_id: CartPole-v1, " in lines["metadata"]
    found = run("info", cartpole, "--json").json
    assert (found["trajectories"], found["steps"]) == (12, traces.total_steps)
    assert found["writers"][0]["metadata"]["policy"] == "random"


def test_info_of_metadata_of_any_kind(run: Run, tmp_path: Path) -> None:
    metadata = {"weights": np.arange(3), "nested": {"list": [1, 2], "none": None}, "empty": {}}
    with TraceWriter(tmp_path, metadata=metadata) as writer:
        writer.append(TrajectoryWithRew(np.zeros((3, 1)), np.zeros(2), None, True, rews=np.ones(2)))
    assert "metadata      weights: [0 1 2], nested: (list: [1, 2])\n" in run("info", tmp_path).out


def test_stats(run: Run, cartpole: Path, traces: TraceDataset) -> None:
    found = run("stats", cartpole, "--json").json
    expected = traces.stats
    assert {name: found[name] for name in expected} == expected
    assert found["ended_by"] == {"terminated": 12}
    assert f"{expected['return_mean']:.6g}" in run("stats", cartpole).out


def test_stats_by_a_column(run: Run, cartpole: Path, traces: TraceDataset) -> None:
    found = run("stats", cartpole, "--by", "env", "--json").json
    assert set(found) == {"0", "1", "2", "3"}
    of_first = [len(each) for each in traces if each.episode.env_index == 0]
    assert found["0"]["len_mean"] == pytest.approx(np.mean(of_first))


def test_text_of_a_trace_does_not_control_the_terminal(run: Run, tmp_path: Path) -> None:
    with TraceWriter(tmp_path / "trace", metadata={"note\x1b[31m": "\x1b]0;owned\x07[bold]x[/bold]\nnext"}) as writer:
        writer.append(TrajectoryWithRew(np.zeros((3, 1)), np.zeros(2), None, True, rews=np.ones(2)))
    for command in ("ls", "info"):
        ran = run(command, tmp_path / "trace")
        assert ran.code == 0
        assert not {"\x1b", "\x07"} & set(ran.out)
        assert r"\x1b]0;owned\x07[bold]x[/bold]\nnext" in ran.out


def test_numbers_that_json_lacks_are_null(run: Run, tmp_path: Path) -> None:
    with TraceWriter(tmp_path / "trace") as writer:
        writer.append(TrajectoryWithRew(np.zeros((3, 1)), np.zeros(2), None, True, rews=np.array([np.nan, 1.0])))
    assert json.loads(run("stats", tmp_path / "trace", "--json").out)["return_mean"] is None
