"""Docstrings of public functions, classes and methods document all parameters, and all errors that the code raises."""

from __future__ import annotations

import ast
import dataclasses
import enum
import importlib
import inspect
import pkgutil
import re
import textwrap
from collections.abc import Iterator
from types import ModuleType
from typing import Any, NamedTuple

import pytest

import vecrollout
import vecrollout.compat
import vecrollout.interop
import vecrollout.testing
from vecrollout import errors

ERRORS = {name for name, each in vars(errors).items() if inspect.isclass(each)}


def modules() -> Iterator[ModuleType]:
    """The modules whose names are public."""
    yield vecrollout
    yield vecrollout.testing
    for name in ("harness", "conformance", "vector_conformance", "strategies"):
        yield importlib.import_module(f"vecrollout.testing.{name}")
    for package in (vecrollout.interop, vecrollout.compat):
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            # The modules of a package with a list of names are not public themselves.
            if not hasattr(importlib.import_module(found.name.rpartition(".")[0]), "__all__"):
                yield importlib.import_module(found.name)


def public_names(module: ModuleType) -> list[str]:
    defined = [
        name
        for name, each in vars(module).items()
        if not name.startswith("_") and getattr(each, "__module__", None) == module.__name__ and callable(each)
    ]
    return list(getattr(module, "__all__", defined))


class Documented(NamedTuple):
    """Code with a docstring."""

    name: str
    docstring: str
    parameters: list[str]
    code: list[Any]
    """Functions whose errors the docstring documents."""


def parameters_of(function: Any) -> list[str]:
    return [name for name in inspect.signature(function).parameters if name not in ("self", "cls", "args", "kwargs")]


def is_record(cls: type) -> bool:
    """Whether each field has a docstring of its own, instead of an entry in the class's."""
    return dataclasses.is_dataclass(cls) or issubclass(cls, tuple) or hasattr(cls, "__required_keys__")


def documented_class(name: str, cls: type) -> Documented:
    own = {key: each for key, each in vars(cls).items() if key in ("__init__", "__post_init__", "__new__")}
    given = [] if is_record(cls) or "__init__" not in own else parameters_of(own["__init__"])
    code = [each for key, each in own.items() if inspect.isfunction(each) and key in own and not _is_generated(each)]
    return Documented(name, inspect.getdoc(cls) or "", given, code)


def _is_generated(function: Any) -> bool:
    return function.__code__.co_filename.startswith("<")


def own_members(cls: type) -> Iterator[tuple[str, Any]]:
    """Members of a class and of its bases in this package that are not public themselves, each name once."""
    public = {id(getattr(module, name)) for module in modules() for name in public_names(module)}
    seen: set[str] = set()
    for base in cls.__mro__:
        if base is cls or (base.__module__.startswith("vecrollout") and id(base) not in public):
            yield from ((key, each) for key, each in vars(base).items() if key not in seen)
            seen |= vars(base).keys()


def methods_of(name: str, cls: type) -> Iterator[Documented]:
    for key, each in own_members(cls):
        function = each.__func__ if isinstance(each, classmethod | staticmethod) else each
        function = getattr(function, "fget", getattr(function, "func", function))
        if key.startswith(("_", "test_")) or not inspect.isfunction(function) or _is_generated(function):
            continue
        inherited = {
            parameter
            for base in cls.__mro__[1:]
            if inspect.isfunction(vars(base).get(key))
            for parameter in parameters_of(vars(base)[key])
        }
        own = [parameter for parameter in parameters_of(function) if parameter not in inherited]
        yield Documented(f"{name}.{key}", function.__doc__ or "", own, [function])


def documented() -> Iterator[Documented]:
    seen: set[int] = set()  # by identity, as some names have two homes
    for module in modules():
        for name in public_names(module):
            each = getattr(module, name)
            where = getattr(each, "__module__", None) or ""
            if not where.startswith("vecrollout") or id(each) in seen:
                continue
            seen.add(id(each))
            label = f"{where}.{name}"
            if inspect.isclass(each) and not issubclass(each, BaseException | enum.Enum):
                yield documented_class(label, each)
                yield from methods_of(label, each)
            elif inspect.isfunction(each):
                yield Documented(label, each.__doc__ or "", parameters_of(each), [each])


def section(docstring: str, title: str) -> set[str]:
    """Names that a section of a docstring has entries for."""
    match = re.search(rf"^{title}:\n((?:[ ]+.*\n|\n)*)", inspect.cleandoc(docstring) + "\n", re.MULTILINE)
    entries = re.findall(r"^ {4}(\S[^:]*?)(?: \(.*\))?:", match[1] if match else "", re.MULTILINE)
    return {name.strip("* ") for entry in entries for name in entry.split(",")}


def raised_by(function: Any) -> set[str]:
    """Our errors that a function's own code raises."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except OSError:  # Hypothesis makes functions that have no source
        return set()
    raised = (node.exc for node in ast.walk(tree) if isinstance(node, ast.Raise) and node.exc is not None)
    names = (node.func if isinstance(node, ast.Call) else node for node in raised)
    return {node.id for node in names if isinstance(node, ast.Name)} & ERRORS


ALL = list(documented())


def test_public_names_are_found() -> None:
    names = {each.name for each in ALL}
    assert {
        "vecrollout.data.trajectory.Trajectory.from_arrays",
        "vecrollout.interop.imitation.to_imitation",
        "vecrollout.interop.gym_recording.writer.GymRecordingWriter.append",
        "vecrollout.compat.imitation.types.stack_maybe_dictobs",
        "vecrollout.testing.conformance.RecorderConformance",
        "vecrollout.testing.strategies.trajectories",
    } <= names
    assert "vecrollout.interop.gym_recording.arrays.ArrayReader" not in names


@pytest.mark.parametrize("each", ALL, ids=lambda each: each.name)
def test_docstring_has_what_the_code_has(each: Documented) -> None:
    assert each.docstring
    assert set(each.parameters) - section(each.docstring, "Args") == set()
    raised = set().union(*map(raised_by, each.code))
    assert raised - section(each.docstring, "Raises") == set()


def test_fields_of_records_have_docstrings() -> None:
    for each in ALL:
        module, _, name = each.name.rpartition(".")
        cls = getattr(importlib.import_module(module), name, None) if name[0].isupper() else None
        if not inspect.isclass(cls) or not is_record(cls):
            continue
        (body,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
        assert isinstance(body, ast.ClassDef)
        for field, following in zip(body.body, [*body.body[1:], None], strict=True):
            if isinstance(field, ast.AnnAssign) and not field.target.id.startswith("_"):  # type: ignore[union-attr]
                text = following.value if isinstance(following, ast.Expr) else None
                is_listed = field.target.id in section(each.docstring, "Args")  # type: ignore[union-attr]
                assert is_listed or isinstance(text, ast.Constant), f"{each.name}.{field.target.id}"  # type: ignore[union-attr]
