"""Arrays, or dicts and tuples of arrays, as one thing.

Observations of Dict and Tuple spaces are *trees*: dicts and tuples, nested at will, with arrays at the leaves whose
first dimension is shared (steps, or environments). `DictObs` and `TupleObs` give such a tree the interface of an array.
"""

from __future__ import annotations

import numbers
from abc import ABC, abstractmethod
from collections.abc import Callable, ItemsView, Iterable, Iterator, KeysView, Mapping, Sequence, ValuesView
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar, Union

import numpy as np
import numpy.typing as npt

from vecrollout.errors import StructureError

Array: TypeAlias = npt.NDArray[Any]
Observation: TypeAlias = Union[Array, "DictObs", "TupleObs"]
"""What a trajectory holds as `obs`: an array, or a tree of arrays with one common first dimension."""

Tree: TypeAlias = Any
"""An `Observation`, or the plain dicts and tuples of arrays that environments return."""

Structure: TypeAlias = Union[None, tuple[str, tuple[tuple[Any, "Structure"], ...]]]
"""Shape of a tree without its arrays: None for a leaf, else `("dict" | "tuple", ((key, structure), ...))`."""

TreeObsT = TypeVar("TreeObsT", bound="_TreeObs")


class _TreeObs(ABC):
    """What `DictObs` and `TupleObs` share: array-like access to the first dimension of all leaves at once."""

    @abstractmethod
    def _children(self) -> dict[Any, Any]: ...

    @classmethod
    @abstractmethod
    def _from_children(cls: type[TreeObsT], children: dict[Any, Any]) -> TreeObsT: ...

    def __len__(self) -> int:
        """Length of the first dimension, which all leaves must share.

        Raises:
            RuntimeError: If there is no leaf, or the leaves disagree.
        """
        lengths = {key: len(child) for key, child in self._children().items()}
        distinct = set(lengths.values())
        if len(distinct) == 1:
            return distinct.pop()
        if not distinct:
            raise RuntimeError(f"{type(self).__name__} without entries has no length")
        raise RuntimeError(f"{type(self).__name__} has no length: its entries have different first dimensions {lengths}")

    def __getitem__(self: TreeObsT, key: Any) -> TreeObsT:
        """Index or slice the first dimension(s) of every leaf; leaves stay arrays, also when indexed to a scalar."""
        return self._from_children(
            {
                name: child[key] if isinstance(child, _TreeObs) else np.asarray(child[key])
                for name, child in self._children().items()
            }
        )

    def __iter__(self: TreeObsT) -> Iterator[TreeObsT]:
        """Iterate over the first dimension."""
        return (self[i] for i in range(len(self)))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, type(self)):
            return False
        mine, theirs = self._children(), other._children()
        return mine.keys() == theirs.keys() and all(equal(child, theirs[key]) for key, child in mine.items())

    __hash__ = None  # type: ignore[assignment]  # holds arrays, which are not hashable

    def map_arrays(self: TreeObsT, fn: Callable[[Array], Array]) -> TreeObsT:
        """The same tree with `fn` applied to every leaf."""
        return self._from_children(
            {
                key: child.map_arrays(fn) if isinstance(child, _TreeObs) else fn(child)
                for key, child in self._children().items()
            }
        )

    @classmethod
    def _combine(
        cls: type[TreeObsT], trees: Iterable[TreeObsT], combine: Callable[[Sequence[Array]], Array]
    ) -> TreeObsT:
        listed = list(trees)
        if not listed:
            raise StructureError(f"expected at least one {cls.__name__}, got an empty list")
        children = [tree._children() for tree in listed]
        for i, child in enumerate(children):
            if child.keys() != children[0].keys():
                raise StructureError(
                    f"item {i}: expected the entries of item 0, {sorted(map(str, children[0]))}, "
                    f"got {sorted(map(str, child))}"
                )
        return cls._from_children(
            {
                key: type(first)._combine([child[key] for child in children], combine)
                if isinstance(first, _TreeObs)
                else combine([child[key] for child in children])
                for key, first in children[0].items()
            }
        )

    @classmethod
    def stack(cls: type[TreeObsT], trees: Iterable[TreeObsT], axis: int = 0) -> TreeObsT:
        """One tree whose leaves are the given trees' leaves, stacked along a new axis.

        Raises:
            StructureError: If there is nothing to stack, or the trees have different entries.
        """
        return cls._combine(trees, lambda leaves: np.stack(leaves, axis=axis))

    @classmethod
    def concatenate(cls: type[TreeObsT], trees: Iterable[TreeObsT], axis: int = 0) -> TreeObsT:
        """One tree whose leaves are the given trees' leaves, joined along an existing axis.

        Raises:
            StructureError: If there is nothing to join, or the trees have different entries.
        """
        return cls._combine(trees, lambda leaves: np.concatenate(leaves, axis=axis))


def _as_child(key: object, value: Any) -> Any:
    """A value of a tree in its wrapped form; anything but arrays, numbers and trees is refused."""
    if isinstance(value, np.ndarray | numbers.Number | np.generic | _TreeObs):
        return value
    if isinstance(value, Mapping | tuple):
        return wrap(value)
    # A TypeError, and not one of our own tree's ValueErrors, is what imitation's users catch here.
    raise TypeError(f"entry {key!r}: expected a NumPy array, or a dict or tuple of arrays, got {type(value).__name__}")


@dataclass(frozen=True, eq=False)
class DictObs(_TreeObs):
    """Observations of a Dict space: arrays by key, indexed, sliced and iterated as if they were one array.

    The first dimension of every leaf counts steps (or environments). `obs[3]` and `obs[2:5]` index that dimension of
    all leaves; `obs.get("key")` gives one entry.

    >>> obs = DictObs({"position": np.zeros((5, 2)), "time": np.arange(5)})
    >>> len(obs), obs[1:3].shape
    (5, {'position': (2, 2), 'time': (2,)})

    Source:
        Interface of `imitation.data.types.DictObs` (imitation 1.0.1). Ours nests.
    """

    _d: dict[str, Any]

    def __post_init__(self) -> None:
        """Wrap nested dicts and tuples, and refuse what is not an array.

        Raises:
            TypeError: If a value is neither an array, a number, nor a dict or tuple of arrays.
        """
        object.__setattr__(self, "_d", {key: _as_child(key, value) for key, value in self._d.items()})

    __hash__ = None  # type: ignore[assignment]

    def _children(self) -> dict[Any, Any]:
        return self._d

    @classmethod
    def _from_children(cls, children: dict[Any, Any]) -> DictObs:
        return cls(children)

    @classmethod
    def from_obs_list(cls, obs_list: Iterable[Mapping[str, Any]]) -> DictObs:
        """Stack plain dict observations, one a step, into one `DictObs`."""
        return cls.stack(cls(dict(obs)) for obs in obs_list)

    @property
    def dict_len(self) -> int:
        """Number of entries (`len` counts steps)."""
        return len(self._d)

    @property
    def shape(self) -> dict[str, Any]:
        """Shape of each entry."""
        return {key: _shape(value) for key, value in self._d.items()}

    @property
    def dtype(self) -> dict[str, Any]:
        """Dtype of each entry."""
        return {key: _dtype(value) for key, value in self._d.items()}

    def keys(self) -> KeysView[str]:
        """The keys."""
        return self._d.keys()

    def values(self) -> ValuesView[Any]:
        """The entries."""
        return self._d.values()

    def items(self) -> ItemsView[str, Any]:
        """Pairs of key and entry."""
        return self._d.items()

    def __contains__(self, key: object) -> bool:
        return key in self._d

    def get(self, key: str) -> Any:
        """The entry of that key.

        Raises:
            KeyError: If there is none.
        """
        return self._d[key]

    def unwrap(self) -> dict[str, Any]:
        """A plain dict (nested: plain dicts and tuples) of the same arrays; no array is copied."""
        return {key: unwrap(value) for key, value in self._d.items()}


@dataclass(frozen=True, eq=False)
class TupleObs(_TreeObs):
    """Observations of a Tuple space: `DictObs` with positions in the place of keys.

    >>> obs = TupleObs((np.zeros((5, 2)), np.arange(5)))
    >>> len(obs), obs[0].shape, obs.get(1).tolist()
    (5, ((2,), ()), [0, 1, 2, 3, 4])
    """

    _t: tuple[Any, ...]

    def __post_init__(self) -> None:
        """Wrap nested dicts and tuples, and refuse what is not an array.

        Raises:
            TypeError: If a value is neither an array, a number, nor a dict or tuple of arrays.
        """
        object.__setattr__(self, "_t", tuple(_as_child(i, value) for i, value in enumerate(self._t)))

    __hash__ = None  # type: ignore[assignment]

    def _children(self) -> dict[Any, Any]:
        return dict(enumerate(self._t))

    @classmethod
    def _from_children(cls, children: dict[Any, Any]) -> TupleObs:
        return cls(tuple(children.values()))

    @classmethod
    def from_obs_list(cls, obs_list: Iterable[tuple[Any, ...]]) -> TupleObs:
        """Stack plain tuple observations, one a step, into one `TupleObs`."""
        return cls.stack(cls(tuple(obs)) for obs in obs_list)

    @property
    def tuple_len(self) -> int:
        """Number of entries (`len` counts steps)."""
        return len(self._t)

    @property
    def shape(self) -> tuple[Any, ...]:
        """Shape of each entry."""
        return tuple(_shape(value) for value in self._t)

    @property
    def dtype(self) -> tuple[Any, ...]:
        """Dtype of each entry."""
        return tuple(_dtype(value) for value in self._t)

    def keys(self) -> range:
        """The positions."""
        return range(len(self._t))

    def values(self) -> tuple[Any, ...]:
        """The entries."""
        return self._t

    def items(self) -> tuple[tuple[int, Any], ...]:
        """Pairs of position and entry."""
        return tuple(enumerate(self._t))

    def __contains__(self, key: object) -> bool:
        return key in self.keys()

    def get(self, key: int) -> Any:
        """The entry at that position.

        Raises:
            IndexError: If there is none.
        """
        return self._t[key]

    def unwrap(self) -> tuple[Any, ...]:
        """A plain tuple (nested: plain dicts and tuples) of the same arrays; no array is copied."""
        return tuple(unwrap(value) for value in self._t)


def _shape(value: Any) -> Any:
    return value.shape if isinstance(value, _TreeObs) else np.shape(value)


def _dtype(value: Any) -> Any:
    return value.dtype if isinstance(value, _TreeObs) else np.asarray(value).dtype


def wrap(tree: Tree) -> Any:
    """Dicts as `DictObs` and tuples as `TupleObs`; anything else as it is."""
    if isinstance(tree, Mapping):
        return DictObs(dict(tree))
    if isinstance(tree, tuple):
        return TupleObs(tree)
    return tree


def unwrap(tree: Tree) -> Any:
    """`DictObs` as dict and `TupleObs` as tuple, nested ones too; anything else as it is."""
    return tree.unwrap() if isinstance(tree, DictObs | TupleObs) else tree


def equal(a: Tree, b: Tree) -> bool:
    """Whether two observations have the same structure and equal arrays (NaN differs from NaN, dtypes may differ)."""
    if isinstance(a, _TreeObs) or isinstance(b, _TreeObs):
        return bool(a == b)
    return bool(np.array_equal(a, b))


def stack(observations: Sequence[Tree]) -> Any:
    """Stack single observations (arrays, scalars, dicts or tuples) along a new first dimension."""
    wrapped = [wrap(obs) for obs in observations]
    first = wrapped[0]
    return type(first).stack(wrapped) if isinstance(first, _TreeObs) else np.stack(wrapped)


def concatenate(observations: Sequence[Observation]) -> Any:
    """Join observations along their first dimension."""
    first = observations[0]
    if isinstance(first, _TreeObs):
        return type(first).concatenate(observations)  # type: ignore[arg-type]  # StructureError where they are not alike
    return np.concatenate(observations)  # type: ignore[arg-type]


def structure_of(tree: Tree) -> Structure:
    """The tree's keys, in its own order, without its arrays."""
    if isinstance(tree, _TreeObs):
        kind, children = ("dict" if isinstance(tree, DictObs) else "tuple"), tree._children()
    elif isinstance(tree, Mapping):
        kind, children = "dict", dict(tree)
    elif isinstance(tree, tuple):
        kind, children = "tuple", dict(enumerate(tree))
    else:
        return None
    return kind, tuple((key, structure_of(child)) for key, child in children.items())


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
    if structure is None:
        if isinstance(tree, Mapping | tuple | _TreeObs):
            raise StructureError(f"{where}: expected an array, got a {type(tree).__name__}")
        return [tree]
    kind, entries = structure
    if isinstance(tree, _TreeObs):
        tree = tree.unwrap() if isinstance(tree, DictObs | TupleObs) else tree
    expected = Mapping if kind == "dict" else tuple
    if not isinstance(tree, expected) or len(tree) != len(entries) or (
        kind == "dict" and any(key not in tree for key, _ in entries)
    ):
        got = sorted(map(str, tree)) if isinstance(tree, Mapping) else type(tree).__name__
        got = f"{len(tree)} entries" if isinstance(tree, tuple) else got
        raise StructureError(f"{where}: expected a {kind} with {[key for key, _ in entries]}, got {got}")
    leaves: list[Any] = []
    for key, child in entries:
        if child is None and not isinstance(tree[key], Mapping | tuple):
            leaves.append(tree[key])
        else:
            leaves.extend(flatten(tree[key], child, f"{where}[{key!r}]"))
    return leaves


def leaf_names(structure: Structure, where: str = "obs") -> list[str]:
    """A name for each leaf, such as `obs['camera'][0]`, in the order of `flatten`."""
    if structure is None:
        return [where]
    return [name for key, child in structure[1] for name in leaf_names(child, f"{where}[{key!r}]")]


def unflatten(structure: Structure, leaves: Iterable[Any]) -> Any:
    """The `Observation` (`DictObs`, `TupleObs` or array) whose leaves these are: the inverse of `flatten`."""
    return _unflatten(structure, iter(leaves))


def _unflatten(structure: Structure, leaves: Iterator[Any]) -> Any:
    if structure is None:
        return next(leaves)
    kind, entries = structure
    children = {key: _unflatten(child, leaves) for key, child in entries}
    return DictObs(children) if kind == "dict" else TupleObs(tuple(children.values()))
