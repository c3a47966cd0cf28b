"""Every piece of code in the documentation runs, and the gate runs what the README tells people to run."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

import vecrollout

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").rglob("*.md"))]

# A fence may be indented: inside a list, an admonition or a tab.
FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\w*)[^\n]*\n(?P<code>.*?)^(?P=indent)```$", re.DOTALL | re.M)


class Block(NamedTuple):
    language: str
    line: int
    code: str


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    found = []
    for match in FENCE.finditer(text):
        code = re.sub(f"^{match['indent']}", "", match["code"], flags=re.MULTILINE)
        found.append(Block(match["language"], text.count("\n", 0, match.start("code")) + 1, code))
    return found


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_python_blocks_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page's blocks run in sequence in one namespace, as a reader would paste them one after the other."""
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {"__name__": "__main__"}
    for block in blocks(page):
        if block.language == "python":
            # The empty lines make a traceback name the page's own line.
            exec(compile("\n" * (block.line - 1) + block.code, page, "exec"), namespace)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_python_is_fenced_as_python(page: Path) -> None:
    """Under any other name a block would go untested."""
    assert not {"", "py", "python3", "pycon"} & {block.language for block in blocks(page)}


def test_every_public_name_is_in_the_reference() -> None:
    reference = "\n".join(page.read_text(encoding="utf-8") for page in (ROOT / "docs" / "reference").glob("*.md"))
    documented = re.findall(r"^::: vecrollout\.(\w+)$", reference, re.MULTILINE)
    assert set(vecrollout.__all__) <= set(documented)


def test_readme_commands_are_what_the_gate_runs() -> None:
    commands = [block.code for block in blocks(README) if block.language == "bash"]
    printed = [
        subprocess.run([ROOT / ".ci" / "readme_block", str(n + 1)], capture_output=True, text=True, check=True).stdout
        for n in range(len(commands))
    ]
    assert printed == commands

    first, second = commands
    assert "docs/examples/dagger.py" in first
    assert "pytest" in second
    gate = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert re.findall(r"readme_block (\d)$", gate, re.MULTILINE) == ["1", "2"]


def test_readme_commands_are_single_commands() -> None:
    """One paste, which stops at the first failure."""
    for block in blocks(README):
        if block.language == "bash":
            lines = block.code.splitlines()
            assert all(line.endswith(("&&", "\\")) for line in lines[:-1])
