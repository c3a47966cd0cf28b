"""How a Gymnasium vector environment batches the values of a space."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
        self.is_plain = _is_plain(space)
        """Whether values have arrays at all leaves already."""

    def leaves(self, batch: Any) -> Any:
        """The batch with arrays at all leaves; the same object where there are arrays already."""
        if type(batch) in (list, tuple) and isinstance(self._space, _ARRAYS):
            return as_array(batch)  # a value an environment
        return batch if self.is_plain else _converted(self._space, batch, _object_rows)

    def item(self, value: Any) -> Any:
        """One environment's value with arrays at all leaves."""
        return value if self.is_plain else _converted(self._space, value, _object_item)

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
        batch = unwrap(self.leaves(batch))
        while isinstance(batch, Mapping | tuple):
            batch = next(iter(batch.values() if isinstance(batch, Mapping) else batch))
        return len(batch)

    def rows(self, batch: Any, count: int, where: str) -> Any:
        """Values, one an environment, as a list of them or as trees of NumPy arrays with a row each."""
        is_listed = isinstance(batch, list) or (isinstance(batch, tuple) and not isinstance(self._space, spaces.Tuple))
        batch = list(batch) if is_listed else as_arrays(batch, where)
        first = batch
        while isinstance(first, Mapping | tuple) and first:
            first = next(iter(first.values() if isinstance(first, Mapping) else first))
        if len(first) < count:
            raise ShapeError(f"{where}: expected {count} rows, one an environment, got {len(first)}")
        return batch

    def merged(self, mask: npt.NDArray[np.bool_], batch: Any, other: Any) -> Any:
        """One batch's values where the mask, shape `(E,)`, is True, and the other's elsewhere."""
        return _merged(self._space, mask, batch, other)


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
    return tuple(map(_dtypes_of, both)) if options.cast == "space" else None


def _dtypes_of(space: spaces.Space[Any]) -> Any:
    """The dtypes of a space's values, in the same structure; None where values are no arrays."""
    if isinstance(space, spaces.Dict):
        return {key: _dtypes_of(each) for key, each in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(map(_dtypes_of, space.spaces))
    return space.dtype if isinstance(space, _ARRAYS) else None


def _is_plain(space: spaces.Space[Any]) -> bool:
    if isinstance(space, spaces.Dict):
        return all(map(_is_plain, space.spaces.values()))
    if isinstance(space, spaces.Tuple):
        return all(map(_is_plain, space.spaces))
    return isinstance(space, _ARRAYS)


def _converted(space: spaces.Space[Any], value: Any, to_array: Callable[[Any], Any]) -> Any:
    if isinstance(space, spaces.Dict):
        return {key: _converted(each, value[key], to_array) for key, each in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(_converted(each, part, to_array) for each, part in zip(space.spaces, value, strict=True))
    return value if isinstance(space, _ARRAYS) else to_array(value)


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


def _merged(space: spaces.Space[Any], mask: npt.NDArray[np.bool_], batch: Any, other: Any) -> Any:
    if isinstance(space, spaces.Dict):
        return {key: _merged(each, mask, batch[key], other[key]) for key, each in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        parts = zip(space.spaces, batch, other, strict=True)
        return tuple(_merged(each, mask, part, other_part) for each, part, other_part in parts)
    if isinstance(space, _ARRAYS):
        if hasattr(batch, "new_tensor"):  # torch's stay where they are
            is_first = batch.new_tensor(mask.tolist()).reshape(-1, *[1] * (batch.ndim - 1)) != 0
            return batch.where(is_first, other)
        batch, other = as_array(batch), as_array(other)
        return np.where(mask.reshape(-1, *[1] * (np.ndim(batch) - 1)), batch, other)
    return tuple(one if chosen else another for chosen, one, another in zip(mask, batch, other, strict=True))
