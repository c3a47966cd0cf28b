"""Help, completion and the version."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import typer

import vecrollout
from vecrollout.cli.app import app

if TYPE_CHECKING:
    from conftest import Run

COMMANDS = [each.name or getattr(each.callback, "__name__", "") for each in app.registered_commands]


def test_all_commands_are_there() -> None:
    expected = "record ls info stats verify repair merge split filter delete convert replay plot video view report"
    assert set(COMMANDS) == set(expected.split())


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_examples(run: Run, command: str) -> None:
    ran = run(command, "--help")
    assert ran.code == 0
    assert f"$ vecrollout {command}" in ran.out


def test_the_guide_names_every_option_of_record() -> None:
    guide = (Path(__file__).parents[2] / "docs" / "guide" / "command-line.md").read_text(encoding="utf-8")
    (record,) = [each for each in typer.main.get_command(app).commands.values() if each.name == "record"]  # type: ignore[attr-defined]
    options = {name for each in record.params for name in (*each.opts, *each.secondary_opts) if name.startswith("--")}
    assert {"--n-envs", "--no-atari", "--out"} < options
    assert {name for name in options - {"--help"} if not re.search(rf"`[^`\n]*{name}\b", guide)} == set()


def test_the_help_documents_exit_codes(run: Run) -> None:
    assert "130 interrupted" in " ".join(run("--help").out.split())


def test_the_version(run: Run) -> None:
    assert run("--version").out == f"vecrollout {vecrollout.__version__}\n"


@pytest.mark.parametrize(
    ("typed", "expected"), [("conv", "convert"), ("record CartPol", "CartPole-v1"), ("convert x --to ler", "lerobot")]
)
def test_the_shell_completes(typed: str, expected: str) -> None:
    environment = {
        **os.environ,
        "_VECROLLOUT_COMPLETE": "complete_bash",
        "COMP_WORDS": f"vecrollout {typed}",
        "COMP_CWORD": str(len(typed.split())),
    }
    code = "from vecrollout.cli import main; main()"
    ran = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)
    assert expected in ran.stdout.split()
