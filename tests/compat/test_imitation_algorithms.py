"""imitation's own algorithms learn the same from our modules as from its own, bit for bit: its tutorials, in short."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).with_name("imitation_algorithms.py")

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("imitation_installed")]


def learn(script: Path, scratch: Path, *options: str) -> dict[str, Any]:
    scratch.mkdir()
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(script), str(scratch), *options],
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    # The last line: imitation prints as it goes.
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory, imitation_installed: None) -> dict[str, Any]:
    """What the algorithms learn on imitation's own modules."""
    learned = learn(SCRIPT, tmp_path_factory.mktemp("theirs") / "scratch")
    assert "compat" not in learned["types"]
    assert "imitation.data.types" in learned["originals"]
    assert {"bc", "dagger", "gail", "airl", "density", "preference_comparisons", "sqil"} <= learned["digests"].keys()
    return learned


def test_learned_parameters_are_equal_with_our_modules_in_the_place_of_imitations(
    theirs: dict[str, Any], tmp_path: Path
) -> None:
    ours = learn(SCRIPT, tmp_path / "scratch", "--swap")
    assert ours["types"].endswith(os.path.join("vecrollout", "compat", "imitation", "types.py"))
    assert ours["originals"] == []
    assert ours["digests"] == theirs["digests"]


def test_learned_parameters_are_equal_with_nothing_but_the_imports_replaced(
    theirs: dict[str, Any], tmp_path: Path
) -> None:
    for name in ("swap_imitation.py", SCRIPT.name):
        (tmp_path / name).write_text(SCRIPT.with_name(name).read_text("utf-8"), "utf-8")
    replaced = tmp_path / "replaced.py"
    replaced.write_text(SCRIPT.read_text("utf-8").replace("imitation.data", "vecrollout.compat.imitation"), "utf-8")
    ours = learn(replaced, tmp_path / "scratch")
    assert ours["types"].endswith(os.path.join("vecrollout", "compat", "imitation", "types.py"))
    assert "imitation.data.types" in ours["originals"]
    assert ours["digests"] == theirs["digests"]
