"""Plain dicts and tuples of arrays, handled without the code under test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


def fill(target: Any, source: Any) -> None:
    """Write the values of a tree into the arrays of another one."""
    if isinstance(target, Mapping):
        for key, array in target.items():
            fill(array, source[key])
    elif isinstance(target, tuple):
        for array, values in zip(target, source, strict=True):
            fill(array, values)
    else:
        target[...] = source


def rows_of(tree: Any, rows: slice) -> Any:
    """Some rows of every leaf."""
    if isinstance(tree, dict):
        return {key: rows_of(child, rows) for key, child in tree.items()}
    return tuple(rows_of(child, rows) for child in tree) if isinstance(tree, tuple) else tree[rows]


def joined(trees: Sequence[Any]) -> Any:
    """Trees joined along the first dimension of every leaf."""
    first = trees[0]
    if isinstance(first, dict):
        return {key: joined([tree[key] for tree in trees]) for key in first}
    if isinstance(first, tuple):
        return tuple(joined([tree[i] for tree in trees]) for i in range(len(first)))
    return np.concatenate(trees)
