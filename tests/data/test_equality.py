"""`==` answers with a plain bool, whatever is compared."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
import torch

from vecrollout.data.equality import same, same_arrays


class Raises:
    """Its `==` fails."""

    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        raise ZeroDivisionError("no comparing")


class AnswersNonsense:
    """Its `==` gives something that is no truth value."""

    __hash__ = object.__hash__

    def __eq__(self, other: object) -> Any:
        return np.array([True, False])


def itself() -> dict[str, Any]:
    """A dict that contains itself."""
    info: dict[str, Any] = {}
    info["info"] = info
    return info


NAN = float("nan")

EQUAL = [
    (1, 1.0),
    ("a", "a"),
    (None, None),
    (NAN, NAN),
    ({}, {}),
    ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
    ({"a": {"b": [1, (2, 3)]}}, {"a": {"b": [1, (2, 3)]}}),
    ({"a": np.arange(3)}, {"a": np.arange(3)}),
    ([np.zeros((2, 0))], [np.zeros((2, 0))]),
    ({"a": 1}, MappingProxyType({"a": 1})),
    (np.arange(3), np.arange(3.0)),
    (np.float32(0.5), 0.5),
    (np.array(["a", None], dtype=object), np.array(["a", None], dtype=object)),
    (np.array([{"a": np.ones(2)}], dtype=object), np.array([{"a": np.ones(2)}], dtype=object)),
    (torch.arange(3), torch.arange(3)),
    ({"a": torch.arange(3)}, {"a": np.arange(3)}),
]

DIFFERENT = [
    (1, 2),
    (1, "1"),
    ({"a": 1}, {"a": 1, "b": 2}),
    ({"a": 1}, {"b": 1}),
    ({"a": None}, {"b": None}),
    ([1, 2], (1, 2)),
    ([1, 2], [1, 2, 3]),
    ({"a": np.arange(3)}, {"a": np.arange(4)}),
    ({"a": np.zeros(3)}, {"a": np.zeros((3, 1))}),
    ({"a": np.arange(3)}, {"a": "text"}),
    ({"a": np.arange(3)}, {"a": None}),
    (np.array([NAN]), np.array([NAN])),
    (np.array(["a", "b"]), np.array([1, 2])),
    (np.array([{"a": np.ones(2)}], dtype=object), np.array([{"a": np.zeros(2)}], dtype=object)),
    (torch.arange(3), torch.zeros(3)),
    (Raises(), Raises()),
    ({"a": Raises()}, {"a": Raises()}),
    (np.array([Raises()]), np.array([Raises()])),
    (AnswersNonsense(), AnswersNonsense()),
    (itself(), itself()),
]


@pytest.mark.parametrize(("a", "b"), EQUAL)
def test_equal(a: Any, b: Any) -> None:
    assert same(a, b) is True
    assert same(b, a) is True


@pytest.mark.parametrize(("a", "b"), DIFFERENT)
def test_different(a: Any, b: Any) -> None:
    assert same(a, b) is False
    assert same(b, a) is False


@pytest.mark.parametrize("thing", [Raises(), AnswersNonsense(), itself(), NAN, {"a": NAN}, [Raises()]])
def test_a_thing_is_the_same_as_itself(thing: Any) -> None:
    assert same(thing, thing) is True


def test_arrays_have_no_shortcut_for_themselves() -> None:
    array = np.array([1.0, NAN])
    assert same_arrays(array, array) is False
    assert same_arrays(array[:1], array[:1]) is True


def test_what_makes_no_array_differs() -> None:
    assert same_arrays([[1, 2], [3]], [[1, 2], [3]]) is False
