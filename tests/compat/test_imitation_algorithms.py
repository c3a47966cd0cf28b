"""imitation's own algorithms learn the same from our modules as from its own, bit for bit."""

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


def learn(scratch: Path, *options: str) -> dict[str, Any]:
    scratch.mkdir()
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(SCRIPT), str(scratch), *options],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    # The last line: imitation prints as it goes.
    return json.loads(done.stdout.splitlines()[-1])


def test_learned_parameters_are_equal(tmp_path: Path) -> None:
    theirs = learn(tmp_path / "theirs")
    ours = learn(tmp_path / "ours", "--swap")
    assert "compat" not in theirs["types"]
    assert ours["types"].endswith(os.path.join("vecrollout", "compat", "imitation", "types.py"))
    assert "imitation.data.types" in theirs["originals"]
    assert ours["originals"] == []
    assert {"bc", "dagger", "gail", "airl", "density", "preference_comparisons"} <= ours["digests"].keys()
    assert ours["digests"] == theirs["digests"]
