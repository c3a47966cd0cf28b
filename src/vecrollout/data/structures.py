"""The structure of a tree apart from its arrays, compiled once so that a step takes the leaves out quickly."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Any, TypeAlias

import numpy as np

from vecrollout.data.equality import same_arrays
from vecrollout.data.fields import trusted
from vecrollout.data.trees import DictObs, Tree, TupleObs
from vecrollout.errors import StructureError

Spec: TypeAlias = "tuple[str, tuple[tuple[Any, Spec], ...]] | None"
"""A tree without its arrays: None for a leaf, else `("dict" | "tuple", ((key, spec), ...))`."""

_LEAVES = {np.ndarray}


class Structure:
    """The entries of a tree and their order, and a getter of its leaves made from them.

    Args:
        spec: What the tree looks like. The order of a dict's keys is the order of the leaves.

    Examples:
        >>> structure = Structure.of({"camera": np.zeros((5, 2, 2)), "arm": (np.zeros(5), np.zeros(5))})
        >>> structure.spec
        ('dict', (('camera', None), ('arm', ('tuple', ((0, None), (1, None))))))
        >>> structure.names("obs")
        ["obs['camera']", "obs['arm'][0]", "obs['arm'][1]"]
    """

    __slots__ = ("_leaves", "spec")

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        """What the tree looks like; None for a single array."""
        self._leaves = _getter(spec)

    @classmethod
    def of(cls, tree: Tree) -> Structure:
        """The structure of a tree, with keys in the tree's own order."""
        return cls(_spec_of(tree))

    @property
    def is_leaf(self) -> bool:
        """Whether the tree is a single array."""
        return self.spec is None

    def flatten(self, tree: Tree, where: str = "obs") -> Sequence[Any]:
        """The leaves of a tree, unchanged, in the order of the structure.

        Args:
            tree: Plain or wrapped dicts and tuples, or a leaf. The order of a dict's keys is free.
            where: Name of the tree in an error.

        Raises:
            StructureError: If the tree has other entries.
        """
        leaves = self._leaves(tree)
        if leaves is not None and _LEAVES.issuperset(map(type, leaves)):
            return leaves
        # Wrapped trees, leaves that are no arrays, and other entries.
        found: list[Any] = []
        if not _collect(found, tree, self.spec):
            raise StructureError(_mismatch(tree, self.spec, where))
        return found

    def unflatten(self, leaves: Iterable[Any]) -> Any:
        """The array, `DictObs` or `TupleObs` with these leaves: the inverse of `flatten`."""
        return _unflatten(self.spec, iter(leaves))

    def names(self, where: str = "obs") -> list[str]:
        """A name for each leaf, such as `obs['camera'][0]`."""
        return _names(self.spec, where)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Structure) and self.spec == other.spec

    def __hash__(self) -> int:
        return hash(self.spec)

    def __repr__(self) -> str:
        return f"Structure({self.spec!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return Structure, (self.spec,)


def same_bits(a: Tree, b: Tree) -> bool:
    """Whether two trees have the same structure, and leaves of the same dtypes, shapes and bits.

    Unlike with `==`, a NaN is the same as itself, and 0.0 is not -0.0. Objects have no bits; for them `==` decides.
    """
    structure = Structure.of(a)
    try:
        theirs = structure.flatten(b)
    except StructureError:
        return False
    return all(
        x.dtype == y.dtype
        and x.shape == y.shape
        and (same_arrays(x, y) if x.dtype.hasobject else x.tobytes() == y.tobytes())
        for x, y in zip(map(np.asarray, structure.flatten(a)), map(np.asarray, theirs), strict=True)
    )


def _getter(spec: Spec) -> Callable[[Any], Sequence[Any] | None]:
    """A function from a plain tree to its leaves; it answers None where the tree is not plain or has other entries."""
    if spec is None:
        return lambda tree: (tree,)
    kind, entries = spec
    plain = dict if kind == "dict" else tuple
    keys = [key for key, _ in entries]
    count = len(keys)
    nested = [(i, _getter(child)) for i, (_, child) in enumerate(entries) if child is not None]
    if count > 1:
        pick: Callable[[Any], Sequence[Any]] = itemgetter(*keys)
    else:
        pick = lambda tree: [tree[key] for key in keys]  # noqa: E731  # itemgetter of one key answers no tuple

    def leaves(tree: Any) -> Sequence[Any] | None:
        if type(tree) is not plain or len(tree) != count:
            return None
        try:
            values = pick(tree)
        except LookupError:
            return None
        if not nested:
            return values
        found: list[Any] = []
        begin = 0
        for i, inner in nested:
            below = inner(values[i])
            if below is None:
                return None
            found += values[begin:i]
            found += below
            begin = i + 1
        found += values[begin:]
        return found

    return leaves


def _opened(tree: Tree) -> tuple[str | None, Mapping[Any, Any]]:
    """Kind and entries of a tree; None and nothing for a leaf."""
    if isinstance(tree, DictObs | Mapping):
        return "dict", dict(tree.items())
    if isinstance(tree, TupleObs):
        return "tuple", dict(tree.items())
    if isinstance(tree, tuple):
        return "tuple", dict(enumerate(tree))
    return None, {}


def _spec_of(tree: Tree) -> Spec:
    kind, entries = _opened(tree)
    return None if kind is None else (kind, tuple((key, _spec_of(child)) for key, child in entries.items()))


def _collect(leaves: list[Any], tree: Tree, spec: Spec) -> bool:
    """Append the leaves; False, after some of them, where the tree has other entries."""
    kind, entries = _opened(tree)
    if spec is None:
        leaves.append(tree)
        return kind is None
    if kind != spec[0] or len(entries) != len(spec[1]):
        return False
    return all(key in entries and _collect(leaves, entries[key], child) for key, child in spec[1])


def _mismatch(tree: Tree, spec: Spec, where: str) -> str:
    """Description of the first difference; empty where there is none."""
    kind, entries = _opened(tree)
    got = f"a {kind} with {list(entries)}" if kind else f"an array ({type(tree).__name__})"
    if spec is None:
        return f"{where}: expected an array, got {got}" if kind else ""
    keys = [key for key, _ in spec[1]]
    if kind != spec[0] or entries.keys() != set(keys):
        return f"{where}: expected a {spec[0]} with {keys}, got {got}"
    differences = (_mismatch(entries[key], child, f"{where}[{key!r}]") for key, child in spec[1])
    return next(filter(None, differences), "")


def _names(spec: Spec, where: str) -> list[str]:
    if spec is None:
        return [where]
    return [name for key, child in spec[1] for name in _names(child, f"{where}[{key!r}]")]


def _unflatten(spec: Spec, leaves: Iterator[Any]) -> Any:
    if spec is None:
        return next(leaves)
    kind, entries = spec
    children = {key: _unflatten(child, leaves) for key, child in entries}
    if kind == "dict":
        return trusted(DictObs, {"_d": children})
    return trusted(TupleObs, {"_t": tuple(children.values())})
