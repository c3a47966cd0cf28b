"""What the library's source does not contain."""

from __future__ import annotations

import ast
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "vecrollout"
SOURCES = sorted(PACKAGE.rglob("*.py"))

# Reading with any of these can run code that the data brings along.
CODE_EXECUTING_MODULES = {"cloudpickle", "dill", "jsonpickle", "marshal", "pickle", "shelve"}
CODE_EXECUTING_CALLS = {"eval", "exec", "compile"}
OPEN_WORK = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")


def name(source: Path) -> str:
    return str(source.relative_to(PACKAGE))


def code_execution(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        modules: list[str] = []
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            modules = [node.module]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in CODE_EXECUTING_CALLS:
            yield f"line {node.lineno}: {node.func.id}()"
        elif isinstance(node, ast.keyword) and node.arg == "allow_pickle" and ast.unparse(node.value) != "False":
            yield f"line {node.value.lineno}: allow_pickle"
        for module in modules:
            if module.partition(".")[0] in CODE_EXECUTING_MODULES:
                yield f"line {node.lineno}: import {module}"


@pytest.mark.parametrize("source", SOURCES, ids=name)
def test_nothing_that_runs_code_from_data(source: Path) -> None:
    assert list(code_execution(ast.parse(source.read_bytes()))) == []


@pytest.mark.parametrize("source", [s for s in SOURCES if s.relative_to(PACKAGE).parts[0] != "testing"], ids=name)
def test_no_assert(source: Path) -> None:
    """`python -O` removes asserts, and an AssertionError tells a user nothing. Conformance suites assert by trade."""
    asserts = [node.lineno for node in ast.walk(ast.parse(source.read_bytes())) if isinstance(node, ast.Assert)]
    assert asserts == []


@pytest.mark.parametrize("source", SOURCES, ids=name)
def test_no_open_work(source: Path) -> None:
    """Open work lives in the issues, where it is seen."""
    with source.open("rb") as file:
        tokens = [t for t in tokenize.tokenize(file.readline) if t.type in (tokenize.COMMENT, tokenize.STRING)]
    assert [f"line {t.start[0]}: {t.string}" for t in tokens if OPEN_WORK.search(t.string)] == []


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from jsonpickle import decode",
        "eval('1')",
        "def f():\n    import dill.source",
        "np.load(p, allow_pickle=True)",
    ],
)
def test_the_check_itself_finds(code: str) -> None:
    assert len(list(code_execution(ast.parse(code)))) == 1


@pytest.mark.parametrize("code", ["re.compile('x')", "np.load(p, allow_pickle=False)", "import picklefield"])
def test_the_check_itself_passes(code: str) -> None:
    assert list(code_execution(ast.parse(code))) == []


@pytest.mark.parametrize("source", SOURCES, ids=name)
def test_doctests_are_in_a_section(source: Path) -> None:
    """Anywhere else the reference would show them as running text, not as code."""
    for node in ast.walk(ast.parse(source.read_bytes())):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
            docstring = ast.get_docstring(node) or ""
            assert re.findall(r"^>>>|^Example:$", docstring, re.MULTILINE) == []
