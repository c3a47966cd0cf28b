"""Comparison of recorded data to the last bit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np


def assert_same(actual: Any, expected: Any, where: str = "value") -> None:
    """Assert that two values have the same type, structure, dtypes, shapes and bits.

    Args:
        actual: An array, a number, or nested dicts, lists and tuples of these. `DictObs` and `TupleObs` count as the
            dicts and tuples that they wrap.
        expected: The expected value. NaN is the same as NaN, and 0.0 is not the same as -0.0.
        where: Name of the value in the error message.

    Raises:
        AssertionError: If they differ. The message names the place.
    """
    actual, expected = _plain(actual), _plain(expected)
    if isinstance(expected, Mapping):
        assert isinstance(actual, Mapping), f"{where}: expected a dict, got {type(actual).__name__}"
        assert set(actual) == set(expected), f"{where}: expected the keys {set(expected)}, got {set(actual)}"
        for key, value in expected.items():
            assert_same(actual[key], value, f"{where}[{key!r}]")
    elif isinstance(expected, list | tuple):
        assert isinstance(actual, list | tuple), f"{where}: expected a sequence, got {type(actual).__name__}"
        assert len(actual) == len(expected), f"{where}: expected {len(expected)} entries, got {len(actual)}"
        for i, (left, right) in enumerate(zip(actual, expected, strict=True)):
            assert_same(left, right, f"{where}[{i}]")
    elif isinstance(expected, np.ndarray | np.generic):
        _assert_same_array(actual, expected, where)
    else:
        assert type(actual) is type(expected), f"{where}: expected {expected!r}, got {actual!r}"
        both_nan = expected != expected and actual != actual
        assert actual == expected or both_nan, f"{where}: expected {expected!r}, got {actual!r}"


def _assert_same_array(actual: Any, expected: Any, where: str) -> None:
    assert isinstance(actual, np.ndarray | np.generic), f"{where}: expected an array, got {type(actual).__name__}"
    assert actual.dtype == expected.dtype, f"{where}: expected dtype {expected.dtype}, got {actual.dtype}"
    assert actual.shape == expected.shape, f"{where}: expected shape {expected.shape}, got {actual.shape}"
    if expected.dtype == object:
        assert_same(actual.tolist(), expected.tolist(), where)
    else:
        assert actual.tobytes() == expected.tobytes(), f"{where}: expected\n{expected}\ngot\n{actual}"


def leaves_of(tree: Any) -> list[Any]:
    """The leaves of a tree.

    Args:
        tree: Nested dicts and tuples, plain or as `DictObs` and `TupleObs`; or a single leaf.

    Returns:
        The leaves, a dict's by sorted keys.
    """
    tree = _plain(tree)
    if isinstance(tree, Mapping):
        return [leaf for key in sorted(tree) for leaf in leaves_of(tree[key])]
    return [leaf for child in tree for leaf in leaves_of(child)] if isinstance(tree, tuple) else [tree]


def _plain(value: Any) -> Any:
    return value.unwrap() if hasattr(value, "unwrap") else value
