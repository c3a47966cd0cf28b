"""The common part of `DictObs` and `TupleObs`: the interface of one array for all leaves at once."""

from __future__ import annotations

import numbers
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, ClassVar, TypeVar

import numpy as np

from vecrollout._typing import Array
from vecrollout.data.equality import same_arrays
from vecrollout.errors import ArgumentTypeError, LengthError, ShapeError, StructureError

ArrayTreeT = TypeVar("ArrayTreeT", bound="ArrayTree")


# Not an abstract base class: its isinstance check, made for every batch and step, would be several times slower.
class ArrayTree:
    """A tree of arrays, with array-like access to the first dimension of all leaves at once.

    An entry is a leaf (an array, or a number in an observation of a single step) or another tree.
    """

    # Without it `array == obs` would compare element by element.
    __array_ufunc__ = None

    _field: ClassVar[str]
    """Name of the field with the entries."""

    def keys(self) -> Any:
        """The keys or positions of the entries."""
        raise NotImplementedError

    def items(self) -> Iterable[tuple[Any, Any]]:
        """Pairs of key (or position) and entry."""
        raise NotImplementedError

    def get(self, key: Any) -> Any:
        """The entry of a key or at a position."""
        raise NotImplementedError

    def _plain(self, fn: Callable[[Any, Any], Any]) -> Any:
        """A plain dict or tuple of what a function makes of each key (or position) and entry."""
        raise NotImplementedError

    def map_entries(self: ArrayTreeT, fn: Callable[[Any, Any], Any]) -> ArrayTreeT:
        """A tree of the same kind with other entries.

        Args:
            fn: Called with each key (or position) and entry. It returns an array, a number, or a `DictObs` or
                `TupleObs`, which is not checked.

        Returns:
            The tree of the returned entries.
        """
        tree = object.__new__(type(self))
        vars(tree)[self._field] = self._plain(fn)
        return tree

    @property
    def shape(self) -> Any:
        """Shape of each entry, in a plain dict by key or a plain tuple by position."""
        return self._plain(lambda _, entry: entry.shape if isinstance(entry, ArrayTree) else np.shape(entry))

    @property
    def dtype(self) -> Any:
        """Dtype of each entry, in a plain dict by key or a plain tuple by position."""
        return self._plain(lambda _, entry: entry.dtype if isinstance(entry, ArrayTree) else np.asarray(entry).dtype)

    def unwrap(self) -> Any:
        """A plain dict or tuple (with plain ones in it) of the same arrays, which are not copied."""
        return self._plain(lambda _, entry: entry.unwrap() if isinstance(entry, ArrayTree) else entry)

    def __contains__(self, key: object) -> bool:
        """Whether there is an entry of that key or at that position."""
        return key in self.keys()

    @classmethod
    def from_obs_list(cls: type[ArrayTreeT], obs_list: Iterable[Any]) -> ArrayTreeT:
        """Stack plain observations, one a step, into one tree.

        Args:
            obs_list: At least one dict or tuple of arrays, all with the same entries.

        Returns:
            A tree whose first dimension counts the steps.

        Raises:
            StructureError: If there is no observation, or their entries differ.
            ShapeError: If the shapes of an entry differ.
        """
        return cls.stack(map(cls, obs_list))

    def __len__(self) -> int:
        """Length of the leaves' common first dimension.

        Raises:
            LengthError: If there is no leaf, the leaves disagree, or one has no dimension.
        """
        lengths = {
            key: len(entry) if isinstance(entry, ArrayTree) or np.ndim(entry) else "none" for key, entry in self.items()
        }
        distinct = set(lengths.values())
        length = distinct.pop() if len(distinct) == 1 else "none"
        if isinstance(length, int):
            return length
        if not lengths:
            raise LengthError(f"{type(self).__name__} without entries has no length")
        raise LengthError(
            f"{type(self).__name__} has no length: expected one first dimension in all entries, got {lengths}"
        )

    def __getitem__(self, key: Any) -> Any:
        """Index or slice the first dimensions of every leaf. Leaves stay arrays, even those indexed to a scalar.

        A string is the key of an entry, as for `get`.

        Raises:
            IndexError: If a leaf cannot be indexed like this.
            KeyError: If there is no entry of that name.
        """
        if isinstance(key, str):
            if key not in self.keys():
                raise KeyError(f"expected one of {[*self.keys()]}, or an index of steps, got {key!r}")
            return self.get(key)
        # With an ellipsis NumPy returns an array, of the same dtype, also for a single element.
        keys = key if isinstance(key, tuple) else (key,)
        full = keys if any(each is Ellipsis for each in keys) else (*keys, Ellipsis)
        return self.map_entries(
            lambda _, entry: entry[key] if isinstance(entry, ArrayTree) else np.asarray(entry)[full]
        )

    def __iter__(self: ArrayTreeT) -> Iterator[ArrayTreeT]:
        """Iterate over the first dimension."""
        return (self[i] for i in range(len(self)))

    def __eq__(self, other: object) -> bool:
        """Whether the other tree has the same class and keys, in any order, and equal arrays."""
        if not isinstance(other, type(self)):
            return False
        return self.keys() == other.keys() and all(equal(entry, other.get(key)) for key, entry in self.items())

    __hash__ = None  # type: ignore[assignment]  # holds arrays, which are not hashable

    def __repr__(self) -> str:
        """One line: the dtype and shape of each entry."""
        return f"<{type(self).__name__} {described(self)}>"

    def map_arrays(self: ArrayTreeT, fn: Callable[[Any], Any]) -> ArrayTreeT:
        """The same tree with `fn` applied to every leaf.

        Args:
            fn: Called with each array or number. It returns one.

        Returns:
            The tree of the returned leaves.

        Raises:
            ArgumentTypeError: If `fn` returns anything but an array or a number.
        """
        return self.map_entries(
            lambda key, entry: entry.map_arrays(fn) if isinstance(entry, ArrayTree) else as_leaf(key, fn(entry))
        )

    @classmethod
    def stack(cls: type[ArrayTreeT], trees: Iterable[ArrayTreeT], axis: int = 0) -> ArrayTreeT:
        """Stack trees leaf by leaf along a new axis.

        Args:
            trees: At least one, with the same entries in the same shapes.
            axis: The new axis.

        Raises:
            StructureError: If there is no tree, or their entries differ.
            ShapeError: If the shapes of a leaf differ.
        """
        return _combine_of(cls, trees, partial(np.stack, axis=axis))

    @classmethod
    def concatenate(cls: type[ArrayTreeT], trees: Iterable[ArrayTreeT], axis: int = 0) -> ArrayTreeT:
        """Join trees leaf by leaf along an existing axis.

        Args:
            trees: At least one, with the same entries. The shapes may differ in the joined axis.
            axis: The axis to join along.

        Raises:
            StructureError: If there is no tree, or their entries differ.
            ShapeError: If the shapes of a leaf differ in another axis.
        """
        return _combine_of(cls, trees, partial(np.concatenate, axis=axis))


def equal(a: Any, b: Any) -> bool:
    """Whether two observations have the same structure and equal arrays (NaN differs from NaN, dtypes may differ)."""
    if isinstance(a, ArrayTree):
        return bool(a == b)
    return not isinstance(b, ArrayTree) and same_arrays(a, b)


def combine(trees: Sequence[Any], combine_arrays: Callable[[Sequence[Any]], Array], where: str) -> Any:
    """Combine trees (or arrays) leaf by leaf."""
    if not trees:
        raise StructureError(f"{where}: expected at least one, got none")
    first = trees[0]
    if not isinstance(first, ArrayTree):
        for i, tree in enumerate(trees):
            if isinstance(tree, ArrayTree):
                raise StructureError(f"{where}: expected an array in item {i}, as in item 0, got {type(tree).__name__}")
        try:
            return combine_arrays(trees)
        except ValueError as error:
            shapes = list(dict.fromkeys(map(np.shape, trees)))
            if len(shapes) == 1:
                raise
            raise ShapeError(f"{where}: expected one shape in all {len(trees)} items, got {shapes[:4]}") from error
    for i, tree in enumerate(trees):
        # Either may be of a subclass.
        if not (isinstance(tree, type(first)) or isinstance(first, type(tree))):
            raise StructureError(
                f"{where}: expected a {type(first).__name__} in item {i} as in item 0, got a {type(tree).__name__}"
            )
        if set(tree.keys()) != set(first.keys()):
            raise StructureError(
                f"{where}: expected the entries {list(first.keys())} in item {i} as in item 0, got {list(tree.keys())}"
            )
    return first.map_entries(
        lambda key, _: combine([tree.get(key) for tree in trees], combine_arrays, f"{where}[{key!r}]")
    )


def _combine_of(
    cls: type[ArrayTreeT], trees: Iterable[ArrayTreeT], combine_arrays: Callable[[Sequence[Any]], Array]
) -> ArrayTreeT:
    listed = list(trees)
    if listed and not isinstance(listed[0], cls):
        raise StructureError(f"item 0: expected a {cls.__name__}, got a {type(listed[0]).__name__}")
    combined: ArrayTreeT = combine(listed, combine_arrays, cls.__name__)
    return combined


def described(batch: Any) -> str:
    """Dtypes and shapes in one line, such as `{camera: uint8[5, 84, 84], arm: (float32[5, 2], int64[5])}`."""
    if not isinstance(batch, ArrayTree):
        array = np.asarray(batch)
        return f"{array.dtype}{list(array.shape)}"
    entries = [(key, described(entry)) for key, entry in batch.items()]
    if isinstance(batch.shape, dict):
        return "{" + ", ".join(f"{key}: {entry}" for key, entry in entries) + "}"
    return "(" + ", ".join(entry for _, entry in entries) + ")"


def as_leaf(key: object, value: Any) -> Any:
    """A value that can be a leaf: an array, or a number."""
    if isinstance(value, (np.ndarray, np.generic, numbers.Number)):
        return value
    # A TypeError is what imitation's users catch here.
    raise ArgumentTypeError(
        f"entry {key!r}: expected a NumPy array, or a dict or tuple of arrays, got {type(value).__name__}"
    )
