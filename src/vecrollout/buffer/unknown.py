"""Answers to options that do not exist."""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Callable, Iterable, Iterator
from dataclasses import is_dataclass
from typing import Any

from vecrollout.buffer.options import RecordOptions
from vecrollout.errors import ArgumentTypeError

_RECORDERS = "recorders such as BufferingWrapper"


def check_options(given: Iterable[str], function: Callable[..., Any], *others: Callable[..., Any]) -> None:
    """Refuse options that neither a function nor the functions behind it have.

    The nearest existing option answers a misspelled one: one of this function, else one of another public function.
    """
    passed_on = {name for each in others for name in _options_of(each)}
    for name in given:
        if name in passed_on:
            continue
        known = [*passed_on, *_options_of(function)]
        owners: dict[str, list[str]] = {}
        for public, each in _public():
            for option in _options_of(each):
                owners.setdefault(option, []).append(public)
        near = [] if name in owners else difflib.get_close_matches(name, known, 1)
        elsewhere = difflib.get_close_matches(name, owners, 1)
        if near:
            cure = f"did you mean {near[0]!r}?"
        elif elsewhere:
            is_other = "it is" if elsewhere[0] == name else f"did you mean {elsewhere[0]!r},"
            cure = f"{is_other} an option of {_named(owners[elsewhere[0]])}"
        else:
            cure = f"the options are {', '.join(known)}"
        raise ArgumentTypeError(f"{function.__name__}: unexpected option {name!r}; {cure}")


def _options_of(function: Callable[..., Any]) -> list[str]:
    parameters = inspect.signature(function).parameters.values()
    return [each.name for each in parameters if each.default is not each.empty]


def _named(owners: list[str]) -> str:
    return _RECORDERS if _RECORDERS in owners else ", ".join(owners)


def _public() -> Iterator[tuple[str, Callable[..., Any]]]:
    """Public functions and classes that take options. Their import takes time, which an error can afford."""
    yield _RECORDERS, RecordOptions
    package = importlib.import_module("vecrollout")
    for name in package.__all__:
        public = getattr(package, name)
        if callable(public) and not is_dataclass(public):  # data has fields
            yield name, public
