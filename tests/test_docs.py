"""Every piece of code in the documentation runs, and the gate runs what the README tells people to run."""

from __future__ import annotations

import re
import shlex
import subprocess
import tempfile
import warnings
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

import pytest
from packaging.requirements import Requirement

import vecrollout
from benchmarks.charts import CHARTS, measured_on
from benchmarks.charts import draw as draw_charts
from figures.concepts import DRAWINGS
from vecrollout.cli.app import app

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").rglob("*.md"))]

# A fence may be indented: inside a list, an admonition or a tab. A comment before it, which is not rendered, names what
# its code needs beside this package, as `<!-- needs: gymnasium>=1.1 envpool -->`.
FENCE = re.compile(
    r"(?:^ *<!-- needs: (?P<needs>.*?) -->\n)?"
    r"^(?P<indent> *)```(?P<language>\w*)[^\n]*\n(?P<code>.*?)^(?P=indent)```$",
    re.DOTALL | re.MULTILINE,
)


class Block(NamedTuple):
    language: str
    line: int
    code: str
    needs: list[Requirement]
    section: str


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    found = []
    for match in FENCE.finditer(text):
        code = re.sub(f"^{match['indent']}", "", match["code"], flags=re.MULTILINE)
        line = text.count("\n", 0, match.start("code")) + 1
        needs = [Requirement(each) for each in (match["needs"] or "").split()]
        section = re.findall(r"^## .*$", text[: match.start()], re.MULTILINE)[-1:]
        found.append(Block(match["language"], line, code, needs, "".join(section)))
    return found


def is_installed(requirement: Requirement) -> bool:
    try:
        return requirement.specifier.contains(version(requirement.name), prereleases=True)
    except PackageNotFoundError:
        return False


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def run_command(words: list[str]) -> None:
    program, *arguments = words
    assert program == "vecrollout"
    with pytest.raises(SystemExit) as ended:
        app(arguments, prog_name=program)
    assert not ended.value.code, words


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_blocks_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page's blocks run in sequence in one namespace, as a reader would paste them one after the other.

    Each recipe runs by itself, in an empty directory. Blocks that need what is not installed are left out. Shell blocks
    are commands of vecrollout.
    """
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {"__name__": "__main__"}
    section = ""
    for block in blocks(page):
        if page.parent.name == "recipes" and block.section != section:
            section, namespace = block.section, {"__name__": "__main__"}
            monkeypatch.chdir(tempfile.mkdtemp(dir=tmp_path))
        if block.language == "shell" and all(map(is_installed, block.needs)):
            for line in block.code.replace("\\\n", " ").splitlines():
                run_command(shlex.split(line))
        if block.language == "python" and all(map(is_installed, block.needs)):
            with warnings.catch_warnings():
                if block.needs:
                    # Another project's warnings are its own.
                    warnings.simplefilter("ignore")
                # The empty lines make a traceback name the page's own line.
                exec(compile("\n" * (block.line - 1) + block.code, page, "exec"), namespace)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_python_is_fenced_as_python(page: Path) -> None:
    """Under any other name a block would go untested."""
    assert not {"", "py", "python3", "pycon"} & {block.language for block in blocks(page)}


def test_needs_stand_before_a_fence() -> None:
    """Elsewhere a comment would have no effect."""
    for page in PAGES:
        comments = len(re.findall(r"<!-- needs:", page.read_text(encoding="utf-8")))
        assert comments == sum(bool(block.needs) for block in blocks(page)), page


def test_every_page_is_in_the_navigation() -> None:
    listed = re.findall(r"^ +- (?:.*: )?(\S+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(listed) == sorted(page.relative_to(ROOT / "docs").as_posix() for page in PAGES[1:])


def test_pictures_exist_and_are_described() -> None:
    """The strict build does not look at them."""
    for page in PAGES:
        for text, target in re.findall(r"!\[(.*?)\]\((.*?)\)", page.read_text(encoding="utf-8")):
            assert text, target
            assert target.startswith("https://") or (page.parent / target).is_file(), (page, target)


def test_pictures_are_what_the_scripts_draw() -> None:
    images = ROOT / "docs" / "images"
    for name, draw in DRAWINGS.items():
        assert (images / f"{name}.svg").read_text(encoding="utf-8") == draw().svg(), "run `python -m figures`"
    readme = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
    charts = draw_charts(readme)
    assert charts.keys() == CHARTS.keys()
    for name, svg in charts.items():
        drawn = (images / "benchmarks" / f"{name}.svg").read_text(encoding="utf-8")
        assert drawn == svg, "run `python -m benchmarks --draw`"
    assert measured_on(readme) in (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")


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

    first, second, third = commands
    assert "vecrollout record" in first
    assert "docs/examples/dagger.py" in second
    assert "pytest" in third
    gate = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert re.findall(r"readme_block (\d)$", gate, re.MULTILINE) == ["1", "2", "3"]


def test_readme_commands_are_single_commands() -> None:
    """One paste, which stops at the first failure."""
    for block in blocks(README):
        if block.language == "bash":
            lines = block.code.splitlines()
            assert all(line.endswith(("&&", "\\")) for line in lines[:-1])
