"""Observations: arrays, or dicts and tuples of arrays with the interface of one array.

Observations of Dict and Tuple spaces are *trees*: dicts and tuples, nested at will, with arrays at the leaves whose
first dimension is shared (steps, or environments). `DictObs` and `TupleObs` give such a tree the interface of an array;
the functions accept trees and plain arrays.
"""

from __future__ import annotations

from collections.abc import Callable, ItemsView, Iterable, KeysView, Mapping, Sequence, ValuesView
from dataclasses import dataclass
from typing import Any, TypeAlias, Union

import numpy as np

from vecrollout._typing import Array
from vecrollout.data.array_tree import ArrayTree, as_leaf, combine
from vecrollout.data.array_tree import equal as equal
from vecrollout.errors import ArgumentTypeError

Observation: TypeAlias = Union[Array, "DictObs", "TupleObs"]
"""An array, or a tree of arrays with one common first dimension."""

Tree: TypeAlias = Any
"""An `Observation`, or the plain dicts and tuples of arrays that environments return."""


@dataclass(frozen=True, eq=False, repr=False)
class DictObs(ArrayTree):
    """Observations of a Dict space: arrays by key. Index, slice and iterate over them like over one array.

    The first dimension of every leaf counts steps (or environments). `obs[3]` and `obs[2:5]` index that dimension of
    all leaves; `obs["key"]` and `obs.get("key")` return one entry. Entries may be dicts and tuples of arrays too.
    Arrays are neither copied nor altered.

    Examples:
        >>> obs = DictObs({"position": np.zeros((5, 2)), "time": np.arange(5)})
        >>> len(obs), obs[1:3].shape
        (5, {'position': (2, 2), 'time': (2,)})

    Raises:
        ArgumentTypeError: If an entry is neither an array, a number, nor a dict or tuple of these.

    Source:
        Interface of `imitation.data.types.DictObs` (imitation 1.0.1). Ours nests.
    """

    _field = "_d"

    _d: dict[str, Any]

    def __post_init__(self) -> None:
        """Wrap nested dicts and tuples; refuse what is no array."""
        if not isinstance(self._d, Mapping):
            raise ArgumentTypeError(f"expected a dict of arrays, got {type(self._d).__name__}")
        object.__setattr__(self, "_d", {key: _as_child(key, value) for key, value in self._d.items()})

    @property
    def dict_len(self) -> int:
        """Number of entries (`len` counts steps)."""
        return len(self._d)

    def keys(self) -> KeysView[str]:
        """The keys."""
        return self._d.keys()

    def values(self) -> ValuesView[Any]:
        """The entries."""
        return self._d.values()

    def items(self) -> ItemsView[str, Any]:
        """Pairs of key and entry."""
        return self._d.items()

    def get(self, key: str) -> Any:
        """The entry of a key.

        Args:
            key: The key.

        Raises:
            KeyError: If there is no such key.
        """
        return self._d[key]

    def _plain(self, fn: Callable[[Any, Any], Any]) -> dict[str, Any]:
        return {key: fn(key, entry) for key, entry in self._d.items()}


@dataclass(frozen=True, eq=False, repr=False)
class TupleObs(ArrayTree):
    """Observations of a Tuple space: `DictObs` with positions instead of keys.

    Examples:
        >>> obs = TupleObs((np.zeros((5, 2)), np.arange(5)))
        >>> len(obs), obs[0].shape, obs.get(1).tolist()
        (5, ((2,), ()), [0, 1, 2, 3, 4])

    Raises:
        ArgumentTypeError: If an entry is neither an array, a number, nor a dict or tuple of these.
    """

    _field = "_t"

    _t: tuple[Any, ...]

    def __post_init__(self) -> None:
        """Wrap nested dicts and tuples; refuse what is no array."""
        if not isinstance(self._t, tuple):
            raise ArgumentTypeError(f"expected a tuple of arrays, got {type(self._t).__name__}")
        object.__setattr__(self, "_t", tuple(_as_child(i, value) for i, value in enumerate(self._t)))

    @property
    def tuple_len(self) -> int:
        """Number of entries (`len` counts steps)."""
        return len(self._t)

    def keys(self) -> range:
        """The positions."""
        return range(len(self._t))

    def values(self) -> tuple[Any, ...]:
        """The entries."""
        return self._t

    def items(self) -> tuple[tuple[int, Any], ...]:
        """Pairs of position and entry."""
        return tuple(enumerate(self._t))

    def get(self, key: int) -> Any:
        """The entry at a position.

        Args:
            key: The position.

        Raises:
            IndexError: If there is no such position.
        """
        return self._t[key]

    def _plain(self, fn: Callable[[Any, Any], Any]) -> tuple[Any, ...]:
        return tuple(fn(i, entry) for i, entry in enumerate(self._t))


def wrap(tree: Tree) -> Any:
    """Dicts as `DictObs` and tuples as `TupleObs`; anything else unchanged."""
    if isinstance(tree, (np.ndarray, ArrayTree)):
        return tree
    if isinstance(tree, Mapping):
        return DictObs(dict(tree))
    return TupleObs(tree) if isinstance(tree, tuple) else tree


def unwrap(tree: Tree) -> Any:
    """`DictObs` as dict and `TupleObs` as tuple, nested ones too; anything else unchanged."""
    return tree.unwrap() if isinstance(tree, ArrayTree) else tree


def map_leaves(fn: Callable[[Any], Any], tree: Observation) -> Any:
    """Apply `fn` to every leaf of a tree, or to an array."""
    return tree.map_arrays(fn) if isinstance(tree, ArrayTree) else fn(tree)


def stack(observations: Iterable[Tree], where: str = "obs") -> Any:
    """Stack single observations (arrays, scalars, dicts or tuples) along a new first dimension, as copies."""
    return combine([wrap(obs) for obs in observations], np.stack, where)


def concatenate(observations: Iterable[Observation], where: str = "obs") -> Any:
    """Join observations along their first dimension, as copies."""
    return combine(list(observations), _concatenated, where)


def _concatenated(arrays: Sequence[Any]) -> Any:
    dtypes = {getattr(array, "dtype", None) for array in arrays}
    # NumPy would make the other byte order its own.
    return np.concatenate(arrays, dtype=dtypes.pop() if len(dtypes) == 1 else None)


def _as_child(key: object, value: Any) -> Any:
    """An entry of a tree in its wrapped form."""
    if isinstance(value, (np.ndarray, ArrayTree)):
        return value
    return wrap(value) if isinstance(value, Mapping | tuple) else as_leaf(key, value)
