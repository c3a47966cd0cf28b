"""The structure of a tree apart from its arrays: flatten to leaves, and back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeAlias

import numpy as np

from vecrollout.data.equality import same_arrays
from vecrollout.data.fields import trusted
from vecrollout.data.trees import DictObs, Tree, TupleObs
from vecrollout.errors import StructureError

Structure: TypeAlias = tuple[str, tuple[tuple[Any, "Structure"], ...]] | None
"""A tree without its arrays: None for a leaf, else `("dict" | "tuple", ((key, structure), ...))`."""


def structure_of(tree: Tree) -> Structure:
    """The tree's structure, keys in the tree's own order.

    Examples:
        >>> structure_of({"camera": np.zeros((5, 2, 2)), "arm": (np.zeros(5), np.zeros(5))})
        ('dict', (('camera', None), ('arm', ('tuple', ((0, None), (1, None))))))
    """
    kind, entries = _opened(tree)
    if kind is None:
        return None
    return kind, tuple((key, structure_of(child)) for key, child in entries.items())


def flatten(tree: Tree, structure: Structure, where: str = "obs") -> list[Any]:
    """The leaves of a tree, in the order of `structure`.

    Args:
        tree: Plain or wrapped dicts and tuples, or a leaf.
        structure: What the tree has to look like; the order of a dict's keys does not matter.
        where: Name of the tree in an error.

    Returns:
        The leaves, as they are.

    Raises:
        StructureError: If the tree has other entries than `structure`.
    """
    leaves: list[Any] = []
    if not _collect(leaves, tree, structure):
        raise StructureError(_mismatch(tree, structure, where))
    return leaves


def leaf_names(structure: Structure, where: str = "obs") -> list[str]:
    """A name for each leaf, such as `obs['camera'][0]`, in the order of `flatten`."""
    if structure is None:
        return [where]
    return [name for key, child in structure[1] for name in leaf_names(child, f"{where}[{key!r}]")]


def unflatten(structure: Structure, leaves: Iterable[Any]) -> Any:
    """The `Observation` (`DictObs`, `TupleObs` or array) whose leaves these are: the inverse of `flatten`.

    Args:
        structure: What the tree has to look like.
        leaves: Arrays, as many as `structure` has leaves, in its order; not checked.

    Returns:
        A tree of the very same arrays.
    """
    return _unflatten(structure, iter(leaves))


def same_bits(a: Tree, b: Tree) -> bool:
    """Whether two trees have the same structure, and leaves of the same dtypes, shapes and bits.

    Other than for `==`, a NaN is the same as itself, and 0.0 is not -0.0. Objects have no bits; for them `==` decides.
    """
    structure = structure_of(a)
    try:
        theirs = flatten(b, structure)
    except StructureError:
        return False
    return all(
        x.dtype == y.dtype
        and x.shape == y.shape
        and (same_arrays(x, y) if x.dtype.hasobject else x.tobytes() == y.tobytes())
        for x, y in zip(map(np.asarray, flatten(a, structure)), map(np.asarray, theirs), strict=True)
    )


def _opened(tree: Tree) -> tuple[str | None, Any]:
    """Kind and entries of a tree; None and nothing for a leaf."""
    # The plain ones first: they are what a recorder sees at every step.
    if type(tree) is dict:
        return "dict", tree
    if type(tree) is tuple:
        return "tuple", dict(enumerate(tree))
    if isinstance(tree, DictObs | Mapping):
        return "dict", dict(tree.items())
    if isinstance(tree, TupleObs):
        return "tuple", dict(tree.items())
    if isinstance(tree, tuple):
        return "tuple", dict(enumerate(tree))
    return None, {}


def _collect(leaves: list[Any], tree: Tree, structure: Structure) -> bool:
    """Append the leaves; False, after some of them, where the tree has other entries than the structure."""
    kind, entries = _opened(tree)
    if structure is None:
        leaves.append(tree)
        return kind is None
    if kind != structure[0] or len(entries) != len(structure[1]):
        return False
    for key, child in structure[1]:
        if key not in entries:
            return False
        entry = entries[key]
        if child is None and type(entry) is np.ndarray:
            leaves.append(entry)
        elif not _collect(leaves, entry, child):
            return False
    return True


def _mismatch(tree: Tree, structure: Structure, where: str) -> str:
    """What the first difference is; empty where there is none."""
    kind, entries = _opened(tree)
    got = f"a {kind} with {list(entries)}" if kind else f"an array ({type(tree).__name__})"
    if structure is None:
        return f"{where}: expected an array, got {got}" if kind else ""
    keys = [key for key, _ in structure[1]]
    if kind != structure[0] or entries.keys() != set(keys):
        return f"{where}: expected a {structure[0]} with {keys}, got {got}"
    differences = (_mismatch(entries[key], child, f"{where}[{key!r}]") for key, child in structure[1])
    return next(filter(None, differences), "")


def _unflatten(structure: Structure, leaves: Iterator[Any]) -> Any:
    if structure is None:
        return next(leaves)
    kind, entries = structure
    children = {key: _unflatten(child, leaves) for key, child in entries}
    if kind == "dict":
        return trusted(DictObs, {"_d": children})
    return trusted(TupleObs, {"_t": tuple(children.values())})
