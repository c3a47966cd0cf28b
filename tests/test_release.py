"""What a release says about itself is true, in every file that says it."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import yaml

import vecrollout

ROOT = Path(__file__).parents[1]
OWN_FILE = re.compile(r"https://github\.com/vecrollout/vecrollout/(?:blob|tree|raw)/main/([^)\s\"'#>]+)")
PAGES = [*ROOT.glob("*.md"), ROOT / "pyproject.toml", *(ROOT / ".github").rglob("*.*")]


def test_the_version_is_the_same_everywhere() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert citation["version"] == vecrollout.__version__
    assert re.findall(r"^## \[(.*?)\]", changelog, re.MULTILINE)[0] in {"Unreleased", vecrollout.__version__}


@pytest.mark.parametrize("path", [*sorted((ROOT / ".github").rglob("*.yml")), ROOT / ".readthedocs.yaml"], ids=str)
def test_forms_and_workflows_are_yaml(path: Path) -> None:
    assert isinstance(yaml.safe_load(path.read_text(encoding="utf-8")), dict)


def test_workflows_run_the_gate() -> None:
    for name in ("ci", "release"):
        workflow = yaml.safe_load((ROOT / ".github" / "workflows" / f"{name}.yml").read_text(encoding="utf-8"))
        steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
        assert any(step.get("run") == "bash .ci/run" for step in steps)


def test_links_to_own_files_lead_somewhere() -> None:
    linked = [target for page in PAGES for target in OWN_FILE.findall(page.read_text(encoding="utf-8"))]
    assert linked
    assert [target for target in linked if not (ROOT / target).exists()] == []


def test_readme_links_are_absolute() -> None:
    """PyPI shows the README outside the repository."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    targets = re.findall(r"\]\(([^)]+)\)|src=\"([^\"]+)\"", readme)
    assert [each for pair in targets for each in pair if each and not each.startswith(("https://", "#"))] == []


def test_every_extra_exists_that_the_documentation_names() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    named = {
        extra.strip()
        for page in pages
        for extras in re.findall(r"(?:vecrollout|\.)\[([a-z, ]+)\]", page.read_text(encoding="utf-8"))
        for extra in extras.split(",")
    }
    assert named <= set(project["optional-dependencies"])


def test_the_readme_lists_every_extra_for_users() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for_users = {name for name in project["optional-dependencies"] if not re.match("test|docs|dev", name)}
    table = (ROOT / "README.md").read_text(encoding="utf-8").partition("| extra |")[2].partition("\n\n")[0]
    names = re.findall(r"^\|([^|]+)\|", table, re.MULTILINE)
    assert {each for cell in names for each in re.findall(r"`(\w+)`", cell)} == for_users
