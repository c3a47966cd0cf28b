"""How a Gymnasium vector environment batches the values of a space."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from gymnasium.vector.utils import concatenate, create_empty_array

from vecrollout.buffer import deep_copied
from vecrollout.buffer.options import RecordOptions
from vecrollout.data.foreign import as_array, as_arrays
from vecrollout.data.trees import stack, unwrap
from vecrollout.errors import ShapeError

_ARRAYS = (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)


class Batching:
    """Brings values of a space into the form that a buffer takes: trees with arrays of E rows at their leaves.

    Values of numeric spaces are batched as arrays already. Those of other spaces (Text, Graph, Sequence, OneOf) come as
    a tuple with one value an environment, which would look like a Tuple space of E entries; they become arrays of
    objects.

    Args:
        space: The space of a single environment.

    Source:
        `gymnasium.vector.utils.batch_space` and `concatenate`.
    """

    def __init__(self, space: spaces.Space[Any]) -> None:
        self._space = space
        self.is_plain = all(isinstance(leaf, _ARRAYS) for leaf in leaf_spaces(space))
        """Whether values have arrays at all leaves already."""

    def leaves(self, batch: Any) -> Any:
        """The batch with arrays at all leaves; the same object where there are arrays already."""
        if type(batch) in (list, tuple) and isinstance(self._space, _ARRAYS):
            return as_array(batch)  # a value an environment
        return batch if self.is_plain else _with_objects(self._space, batch, _object_rows)

    def item(self, value: Any) -> Any:
        """One environment's value with arrays at all leaves."""
        return value if self.is_plain else _with_objects(self._space, value, _object_item)

    def of_one(self, value: Any) -> Any:
        """One environment's value as a batch of one."""
        if self.is_plain:
            # Most steps.
            if type(value) is np.ndarray:
                return value[np.newaxis]
            if type(value) in (int, np.int64):
                return np.array(value, ndmin=1)  # a list would take twice as long
        return _row_of_one(self._space, self.item(value))

    def only(self, batch: Any) -> Any:
        """The value in a batch of one."""
        return row_of(self.leaves(batch), 0)

    def of(self, values: Sequence[Any]) -> Any:
        """Values of the space, one an environment, as a batch such as vector environments take."""
        if self.is_plain:
            return unwrap(stack(as_arrays(value, "value") for value in values))
        # Gymnasium's own annotations leave out None, which it makes for spaces without arrays.
        empty: Any = create_empty_array(self._space, len(values), fn=np.empty)
        return concatenate(self._space, values, empty)

    def size(self, batch: Any) -> int:
        """Number of environments whose values a batch holds."""
        return len(_first_leaf(unwrap(self.leaves(batch))))

    def rows(self, batch: Any, count: int, where: str) -> Any:
        """Values, one an environment, as a list of them or as trees of NumPy arrays with a row each."""
        is_listed = isinstance(batch, list) or (isinstance(batch, tuple) and not isinstance(self._space, spaces.Tuple))
        batch = list(batch) if is_listed else as_arrays(batch, where)
        got = len(_first_leaf(batch))
        if got < count:
            raise ShapeError(f"{where}: expected {count} rows, one an environment, got {got}")
        return batch

    def merged(self, mask: npt.NDArray[np.bool_], batch: Any, other: Any) -> Any:
        """One batch's values where the mask, shape `(E,)`, is True, and the other's elsewhere."""
        return map_space(partial(_merged, mask), self._space, batch, other)


def map_space(function: Callable[..., Any], space: spaces.Space[Any], *values: Any) -> Any:
    """A function of each space that has no parts, and of the values there, as dicts and tuples like the space's."""
    if isinstance(space, spaces.Dict):
        return {key: map_space(function, part, *(each[key] for each in values)) for key, part in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(map_space(function, *parts) for parts in zip(space.spaces, *values, strict=True))
    return function(space, *values)


def leaf_spaces(space: spaces.Space[Any]) -> list[spaces.Space[Any]]:
    """The spaces without parts in a space."""
    leaves: list[spaces.Space[Any]] = []
    map_space(leaves.append, space)
    return leaves


def map_plain(function: Callable[[Any], Any], tree: Any) -> Any:
    """The tree as plain dicts and tuples, with a function applied to each leaf."""
    tree = unwrap(tree)
    if isinstance(tree, Mapping):
        return {key: map_plain(function, each) for key, each in tree.items()}
    return tuple(map_plain(function, each) for each in tree) if isinstance(tree, tuple) else function(tree)


def row_of(batch: Any, env: int) -> Any:
    """One environment's row of a batch."""
    return batch[env] if isinstance(batch, np.ndarray) else map_plain(lambda leaf: leaf[env], batch)


def dtypes_to_cast(options: RecordOptions, both: tuple[spaces.Space[Any], spaces.Space[Any]]) -> Any:
    """The dtypes of observations and actions, if the options say to cast to those of the spaces."""
    return tuple(map_space(_dtype_of, space) for space in both) if options.cast == "space" else None


def _dtype_of(space: spaces.Space[Any]) -> Any:
    """The dtype of a space's values; None where they are no arrays."""
    return space.dtype if isinstance(space, _ARRAYS) else None


def _first_leaf(tree: Any) -> Any:
    while isinstance(tree, Mapping | tuple) and tree:
        tree = next(iter(tree.values() if isinstance(tree, Mapping) else tree))
    return tree


def _with_objects(space: spaces.Space[Any], value: Any, to_objects: Callable[[Any], Any]) -> Any:
    """The value with arrays of objects where it has none."""
    return map_space(lambda leaf, each: each if isinstance(leaf, _ARRAYS) else to_objects(each), space, value)


def _object_rows(batch: Sequence[Any]) -> Any:
    array = np.empty(len(batch), dtype=object)
    array[:] = [deep_copied(value) for value in batch]
    return array


def _object_item(value: Any) -> Any:
    array = np.empty((), dtype=object)
    array[()] = deep_copied(value)
    return array


def _row_of_one(space: spaces.Space[Any] | None, value: Any) -> Any:
    """One environment's value with a further dimension; a tuple is an array unless its space is a Tuple space."""
    value = unwrap(value)
    if isinstance(value, Mapping):
        children = space.spaces if isinstance(space, spaces.Dict) else {}
        return {key: _row_of_one(children.get(key), each) for key, each in value.items()}
    if isinstance(value, tuple) and not isinstance(space, _ARRAYS):
        parts = (
            space.spaces if isinstance(space, spaces.Tuple) and len(space.spaces) == len(value) else [None] * len(value)
        )
        return tuple(_row_of_one(each, part) for each, part in zip(parts, value, strict=True))
    return as_array(value)[np.newaxis]


def _merged(mask: npt.NDArray[np.bool_], space: spaces.Space[Any], batch: Any, other: Any) -> Any:
    if not isinstance(space, _ARRAYS):
        return tuple(one if chosen else another for chosen, one, another in zip(mask, batch, other, strict=True))
    if hasattr(batch, "new_tensor"):  # torch's stay where they are
        is_first = batch.new_tensor(mask.tolist()).reshape(-1, *[1] * (batch.ndim - 1)) != 0
        return batch.where(is_first, other)
    batch, other = as_array(batch), as_array(other)
    return np.where(mask.reshape(-1, *[1] * (np.ndim(batch) - 1)), batch, other)
