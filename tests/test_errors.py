"""The error tree, as it is and as it is drawn."""

from __future__ import annotations

import builtins
import inspect
import pickle
import re

import pytest

from vecrollout import errors

CLASSES = [value for value in vars(errors).values() if inspect.isclass(value)]
BRANCHES = [cls for cls in CLASSES if cls is not errors.VecrolloutError]

# A line of the drawing: a name, and the builtin that the class also is.
DRAWN = re.compile(r"^ +[├└]── (?P<name>\w+) +\((?P<builtin>\w+)\)  +\S", re.MULTILINE)


def test_the_drawing_shows_every_class_and_its_builtin() -> None:
    drawn = {match["name"]: match["builtin"] for match in DRAWN.finditer(errors.__doc__ or "")}
    actual = {cls.__name__: cls.__bases__[1].__name__ for cls in BRANCHES}
    assert drawn == actual


def test_the_drawing_begins_with_the_root() -> None:
    assert re.search(r"^ +VecrolloutError$", errors.__doc__ or "", re.MULTILINE)


@pytest.mark.parametrize("cls", BRANCHES)
def test_each_is_also_a_builtin(cls: type[Exception]) -> None:
    root, builtin = cls.__bases__
    assert issubclass(root, errors.VecrolloutError)
    assert vars(builtins)[builtin.__name__] is builtin
    assert builtin is not Exception


@pytest.mark.parametrize("cls", CLASSES)
def test_each_says_when_it_is_raised(cls: type[Exception]) -> None:
    assert inspect.getdoc(cls)


@pytest.mark.parametrize("cls", CLASSES)
def test_each_keeps_its_message_when_it_comes_from_another_process(cls: type[Exception]) -> None:
    error = pickle.loads(pickle.dumps(cls("obs: expected 6 rows, got 5")))
    assert type(error) is cls
    assert str(error) == "obs: expected 6 rows, got 5"
