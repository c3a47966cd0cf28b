"""The examples run as they stand, and what they show is what they promise."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "docs" / "examples"
MEAN_RETURN = re.compile(r"^│ (?P<row>\w+) .* (?P<mean>-?\d+) ± \d+ +│$", re.MULTILINE)


def run(name: str, folder: Path, *, has_bar: bool = False) -> str:
    """What the example prints, run from another folder; a warning is an error, as everywhere in the tests."""
    environment = {**os.environ, "COLUMNS": "100", "PYTHONIOENCODING": "utf-8"}
    command = [sys.executable, "-W", "error", str(EXAMPLES / name)]
    ran = subprocess.run(command, cwd=folder, env=environment, capture_output=True, encoding="utf-8")
    assert ran.returncode == 0, ran.stderr
    assert has_bar or not ran.stderr
    return ran.stdout


def number(pattern: str, printed: str) -> float:
    """The number that the pattern's group matches."""
    (found,) = re.findall(pattern, printed)
    return float(found)


def mean_returns(printed: str) -> tuple[int, list[int], int]:
    """Mean return of random actions, of the learner after each round, and of the expert."""
    rows = {match["row"]: int(match["mean"]) for match in MEAN_RETURN.finditer(printed)}
    random, *rounds, expert = rows.values()
    assert list(rows) == ["random", *(str(n + 1) for n in range(len(rounds))), "expert"]
    return random, rounds, expert


@pytest.mark.slow
def test_dagger_learns_from_random_to_expert(tmp_path: Path) -> None:
    random, rounds, expert = mean_returns(run("dagger.py", tmp_path))
    assert expert == 500
    assert random < 50
    assert rounds[0] < 150
    assert min(rounds[-3:]) > 400


def test_own_env_learns_what_its_expert_can(tmp_path: Path) -> None:
    random, rounds, expert = mean_returns(run("own_env.py", tmp_path))
    assert expert > 60
    assert random < 0
    assert rounds[-1] > 60


@pytest.mark.slow
def test_own_env_prints_the_same_every_time(tmp_path: Path) -> None:
    # Only the time in the progress bar may differ.
    first, second = (run("own_env.py", tmp_path).split("DAgger")[0] for _ in range(2))
    assert first == second


def test_the_swap_is_as_short_as_the_documentation_says() -> None:
    _, swap = (EXAMPLES / "own_env.py").read_text(encoding="utf-8").split("# The swap:")
    assert len([line for line in swap.splitlines()[1:] if line]) <= 10


def test_curate_learns_from_the_better_episodes(tmp_path: Path) -> None:
    printed = run("curate.py", tmp_path)
    assert re.search(r"^episodes +\d+$", printed, re.MULTILINE)
    kept, of = map(int, re.search(r"kept (\d+) of (\d+) episodes", printed).groups())  # type: ignore[union-attr]
    assert 0.7 * of < kept < of
    assert float(printed.rsplit(" ", 1)[1]) > 150


def test_behavior_cloning_learns_from_a_trace(tmp_path: Path) -> None:
    printed = run("behavior_cloning.py", tmp_path)
    assert number(r"(\d+) at random", printed) < 50
    assert number(r"(\d+) after learning", printed) > 200


@pytest.mark.slow
def test_sac_becomes_better_than_its_demonstrations(tmp_path: Path) -> None:
    printed = run("sac_from_demonstrations.py", tmp_path)
    shown, before = number(r"(-\d+) of the demonstrations", printed), number(r"(-\d+) before", printed)
    assert before < shown < number(r"(-\d+) after it", printed)


@pytest.mark.slow
def test_decision_transformer_plays_as_it_is_asked_to(tmp_path: Path) -> None:
    printed = run("decision_transformer.py", tmp_path)
    low, high = (number(rf"asked for {asked}, mean return (\d+)", printed) for asked in (20, 500))
    assert high > 2 * low


@pytest.mark.slow
def test_gail_learns_from_a_trace_and_its_training_is_recorded(tmp_path: Path) -> None:
    pytest.importorskip("imitation", reason="imitation is not installed")
    # imitation shows a bar of its own.
    printed = run("gail.py", tmp_path, has_bar=True)
    assert number(r"(\d+) at first", printed) < 50
    assert number(r"(\d+) at last", printed) > 150
