"""How a Gymnasium vector environment batches the values of a space."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from gymnasium.vector.utils import concatenate, create_empty_array

from vecrollout.buffer import deep_copied
from vecrollout.data.structures import flatten, structure_of, unflatten
from vecrollout.data.trees import stack, unwrap

_ARRAYS = (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)


class Batching:
    """Brings batched values of a space into a form that a recorder takes: a tree with arrays of E rows at its leaves.

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
        self._is_plain = _is_plain(space)

    def leaves(self, batch: Any) -> Any:
        """The batch with arrays at all leaves; the same object where there are arrays already."""
        return batch if self._is_plain else _with_arrays(self._space, batch)

    def item(self, value: Any) -> Any:
        """One environment's value with arrays at all leaves."""
        return value if self._is_plain else _item_with_arrays(self._space, value)

    def of_one(self, value: Any) -> Any:
        """One environment's value as a batch of one."""
        if self._is_plain:
            # Most come this way.
            if type(value) is np.ndarray:
                return value[np.newaxis]
            if type(value) in (int, np.int64):
                return np.array(value, ndmin=1)  # a list would take twice as long
        value = self.item(value)
        structure = structure_of(value)
        return unwrap(unflatten(structure, [np.asarray(leaf)[None] for leaf in flatten(value, structure)]))

    def only(self, batch: Any) -> Any:
        """The value in a batch of one."""
        batch = self.leaves(batch)
        structure = structure_of(batch)
        return unwrap(unflatten(structure, [leaf[0] for leaf in flatten(batch, structure)]))

    def of(self, values: Sequence[Any]) -> Any:
        """Values of the space, one an environment, as a batch such as vector environments take."""
        if self._is_plain:
            return unwrap(stack(values))
        # Gymnasium's own annotations leave out None, which it makes for spaces without arrays.
        empty: Any = create_empty_array(self._space, len(values), fn=np.empty)
        return concatenate(self._space, values, empty)

    def size(self, batch: Any) -> int:
        """How many environments' values a batch holds."""
        batch = self.leaves(batch)
        return len(flatten(batch, structure_of(batch))[0])

    def merged(self, mask: npt.NDArray[np.bool_], batch: Any, other: Any) -> Any:
        """One batch's values where the mask, shape `(E,)`, is True, and the other's elsewhere."""
        return _merged(self._space, mask, batch, other)


def _is_plain(space: spaces.Space[Any]) -> bool:
    if isinstance(space, spaces.Dict):
        return all(map(_is_plain, space.spaces.values()))
    if isinstance(space, spaces.Tuple):
        return all(map(_is_plain, space.spaces))
    return isinstance(space, _ARRAYS)


def _with_arrays(space: spaces.Space[Any], batch: Any) -> Any:
    if isinstance(space, spaces.Dict):
        return {key: _with_arrays(each, batch[key]) for key, each in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(_with_arrays(each, part) for each, part in zip(space.spaces, batch, strict=True))
    if isinstance(space, _ARRAYS):
        return batch
    array = np.empty(len(batch), dtype=object)
    array[:] = [deep_copied(value) for value in batch]
    return array


def _item_with_arrays(space: spaces.Space[Any], value: Any) -> Any:
    if isinstance(space, spaces.Dict):
        return {key: _item_with_arrays(each, value[key]) for key, each in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(_item_with_arrays(each, part) for each, part in zip(space.spaces, value, strict=True))
    if isinstance(space, _ARRAYS):
        return value
    array = np.empty((), dtype=object)
    array[()] = deep_copied(value)
    return array


def _merged(space: spaces.Space[Any], mask: npt.NDArray[np.bool_], batch: Any, other: Any) -> Any:
    if isinstance(space, spaces.Dict):
        return {key: _merged(each, mask, batch[key], other[key]) for key, each in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        parts = zip(space.spaces, batch, other, strict=True)
        return tuple(_merged(each, mask, part, other_part) for each, part, other_part in parts)
    if isinstance(space, _ARRAYS):
        return np.where(mask.reshape(-1, *[1] * (np.ndim(batch) - 1)), batch, other)
    return tuple(one if chosen else another for chosen, one, another in zip(mask, batch, other, strict=True))
