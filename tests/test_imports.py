"""Data flows one way, and so do imports: a module imports only from stages before its own."""

from __future__ import annotations

import ast
import importlib
import json
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import vecrollout

PACKAGE = Path(__file__).parents[1] / "src" / "vecrollout"

# The stages, by the first part of a module's name below the package. A new part gets its line here. The package itself
# ("") re-exports what the stages up to recording make, so only what builds on all of them may import from it.
RANKS = {
    "errors": 0,
    "_typing": 0,
    "_version": 0,
    "exits": 0,
    "data": 1,
    "progress": 1,
    "buffer": 2,
    "storage": 3,
    "recording": 4,
    "collecting": 5,
    "": 6,
    "interop": 6,
    "compat": 7,
    "report": 7,
    "distributed": 7,
    "plots": 7,
    "viewer": 8,
    "cli": 9,
    "__main__": 10,
    # Last, so nothing in the package can import it.
    "testing": 10,
}

# Who may import which heavy or optional package.
IMPORTERS = {
    "stable_baselines3": {"recording", "collecting", "compat", "distributed", "interop", "cli", "testing"},
    "pyarrow": {"interop", "storage", "cli", "data"},  # in `data` only for a condition that is its expression
    "h5py": {"interop"},
    "starlette": {"viewer"},
    "uvicorn": {"viewer"},
    "ray": {"distributed"},
    "matplotlib": {"plots"},
    "typer": {"cli"},
    "rich": {"progress", "cli"},
    "av": {"cli", "interop"},
    "datasets": {"compat"},
    # Other libraries' formats are written and read without them.
    **{name: set[str]() for name in ("d3rlpy", "lerobot", "minari", "robomimic", "tensordict", "torchrl")},
}


def module_name(source: Path) -> str:
    parts = ("vecrollout", *source.relative_to(PACKAGE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(source): source for source in sorted(PACKAGE.rglob("*.py"))}


def stage(module: str) -> str:
    return "".join(module.split(".")[1:2])


def imports(module: str, code: str, *, is_package: bool, modules: set[str]) -> Iterator[str]:
    """Names of the modules that a module's code imports, anywhere: late ones in functions and those for typing too."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = module.split(".") if is_package else module.split(".")[:-1]
            above = parts[: len(parts) - node.level + 1] if node.level else []
            origin = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                # `from package import name`: the name may be a module of its own.
                full = f"{origin}.{alias.name}"
                yield full if full in modules else origin


GRAPH = {
    module: set(
        imports(module, source.read_text("utf-8"), is_package=source.name == "__init__.py", modules=set(MODULES))
    )
    for module, source in MODULES.items()
}


def test_every_module_has_a_rank() -> None:
    assert {stage(module) for module in MODULES} <= set(RANKS)


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_to_earlier_stages(module: str) -> None:
    here = stage(module)
    ours = {target for target in GRAPH[module] if target.split(".")[0] == "vecrollout"}
    assert ours <= set(MODULES), "an import of a module that does not exist"
    wrong = {target for target in ours if stage(target) != here and RANKS[stage(target)] >= RANKS[here]}
    assert wrong == set()


def test_no_cycles() -> None:
    """Within a stage neither, where the ranks say nothing."""
    cycle: list[str] = []
    try:
        TopologicalSorter({module: GRAPH[module] & set(MODULES) for module in MODULES}).prepare()
    except CycleError as error:
        cycle = error.args[1]
    assert cycle == []


@pytest.mark.parametrize("module", MODULES)
def test_heavy_packages_have_few_importers(module: str) -> None:
    imported = {target.split(".")[0] for target in GRAPH[module]}
    assert {package for package in IMPORTERS.keys() & imported if stage(module) not in IMPORTERS[package]} == set()


def test_public_names_come_from_the_stages_before_the_package() -> None:
    """Late names too, which the source's import statements do not show."""
    for name in vecrollout.__all__:
        origin = getattr(getattr(vecrollout, name), "__module__", "vecrollout")
        assert RANKS[stage(origin)] <= RANKS[""], name


def test_importing_the_package_is_light_and_silent() -> None:
    code = "import sys, vecrollout, json; print(json.dumps(sorted(sys.modules)))"
    result = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in json.loads(result.stdout)}
    assert "vecrollout" in loaded
    assert loaded & {"torch", "stable_baselines3", "pyarrow", "pandas", "imitation", "matplotlib"} == set()
    assert result.stderr == ""


@pytest.mark.parametrize("module", MODULES)
def test_every_module_imports(module: str) -> None:
    if "distributed" in {stage(module), *map(stage, GRAPH[module])}:
        pytest.importorskip("ray")  # not in the extra `test`
    importlib.import_module(module)


@pytest.mark.parametrize(
    ("module", "code", "expected"),
    [
        ("p.a.c", "from . import b", "p.a.b"),
        ("p.a.c", "from .b import x", "p.a.b"),
        ("p.a.c", "from .. import trees", "p.trees"),
        ("p.a.c", "from ..trees import x", "p.trees"),
        ("p.a.c", "from .. import x", "p"),
        ("p.a", "from . import b", "p.a.b"),
        ("p.a", "from ..trees import x", "p.trees"),
        ("p.a", "import p.trees", "p.trees"),
        ("p.a", "def f():\n    from p.a import b", "p.a.b"),
    ],
)
def test_the_check_itself_resolves(module: str, code: str, expected: str) -> None:
    modules = {"p", "p.trees", "p.a", "p.a.b", "p.a.c"}
    assert list(imports(module, code, is_package=module == "p.a", modules=modules)) == [expected]
