"""`vecrollout verify` and `repair`."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from vecrollout import open_traces

if TYPE_CHECKING:
    from conftest import Run


@pytest.fixture
def damaged(cartpole: Path, tmp_path: Path) -> Path:
    directory = Path(shutil.copytree(cartpole, tmp_path / "damaged"))
    (shard,) = directory.glob("*.arrow")
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 0xFF
    shard.write_bytes(content)
    return directory


def test_a_sound_trace(run: Run, cartpole: Path) -> None:
    ran = run("verify", cartpole)
    assert (ran.code, ran.out) == (0, "12 sound trajectories, no damage\n")
    assert run("verify", cartpole, "--json").json == {"trajectories": 12, "problems": [], "leftovers": []}


def test_damage_is_found_and_repaired(run: Run, damaged: Path) -> None:
    ran = run("verify", damaged)
    assert ran.code == 1
    assert "vecrollout repair" in ran.out
    problems = run("verify", damaged, "--json").json["problems"]
    assert problems
    assert all(each["file"].endswith(".arrow") for each in problems)

    assert run("repair", damaged).code == 0
    assert run("verify", damaged).code == 0
    again = run("repair", damaged, "--json").json
    assert again["changes"] == []
    assert again["trajectories"] == len(open_traces(damaged))
