"""The example learns as much with four workers as with one."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "distributed_dagger.py"


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 4])
def test_dagger_learns_from_the_same_number_of_steps(tmp_path: Path, workers: int) -> None:
    environment = {**os.environ, "COLUMNS": "100", "PYTHONIOENCODING": "utf-8"}
    command = [sys.executable, str(EXAMPLE), str(workers)]
    ran = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, encoding="utf-8", timeout=500)
    assert ran.returncode == 0, ran.stderr
    rows = re.findall(r"│ (\d+) +│ (\d+) +│ (\d+) +│ [\d.]+ │ (\d+) +│", ran.stdout)
    assert [int(labels) for _, _, labels, _ in rows] == [512 * (n + 1) for n in range(12)]
    assert {int(count) for _, count, _, _ in rows} == {workers}
    assert min(int(mean) for *_, mean in rows[-3:]) > 400
