"""How a Gymnasium vector environment batches the values of a space."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces

from vecrollout.structures import flatten, structure_of, unflatten
from vecrollout.trees import unwrap

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
        value = self.item(value)
        structure = structure_of(value)
        return unwrap(unflatten(structure, [np.asarray(leaf)[None] for leaf in flatten(value, structure)]))


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
    array[:] = list(batch)
    return array


def _item_with_arrays(space: spaces.Space[Any], value: Any) -> Any:
    if isinstance(space, spaces.Dict):
        return {key: _item_with_arrays(each, value[key]) for key, each in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(_item_with_arrays(each, part) for each, part in zip(space.spaces, value, strict=True))
    if isinstance(space, _ARRAYS):
        return value
    array = np.empty((), dtype=object)
    array[()] = value
    return array
