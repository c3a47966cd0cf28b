"""A table of spaces, and an element of each space for every number."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium import Space, spaces

NUMBERS = 256
"""Every space of the table has an element for each integer in `[0, NUMBERS)`."""

SPACES: dict[str, Space[Any]] = {
    "box": spaces.Box(-np.inf, np.inf, (3,), np.float32),
    "box_scalar": spaces.Box(-np.inf, np.inf, (), np.float32),
    "box_float64": spaces.Box(-np.inf, np.inf, (2, 2), np.float64),
    "image": spaces.Box(0, 255, (8, 7, 3), np.uint8),
    "discrete": spaces.Discrete(NUMBERS),
    "discrete_from": spaces.Discrete(NUMBERS + 5, start=-5),
    "multi_discrete": spaces.MultiDiscrete([NUMBERS, NUMBERS]),
    "multi_binary": spaces.MultiBinary(8),
    "dict": spaces.Dict(
        {
            "camera": spaces.Box(0, 255, (4, 4, 1), np.uint8),
            "level": spaces.Discrete(NUMBERS),
            "position": spaces.Box(-np.inf, np.inf, (2,), np.float64),
        }
    ),
    "tuple": spaces.Tuple((spaces.Box(-np.inf, np.inf, (2,), np.float32), spaces.Discrete(NUMBERS))),
    "nested": spaces.Dict(
        {
            "arm": spaces.Dict({"angle": spaces.Box(-np.inf, np.inf, (2,), np.float32), "grip": spaces.MultiBinary(8)}),
            "pair": spaces.Tuple((spaces.Discrete(NUMBERS), spaces.Box(0, 255, (2, 2, 1), np.uint8))),
        }
    ),
    "text": spaces.Text(min_length=1, max_length=8, charset="0123456789"),
}
"""Spaces by name."""

VEC_ENV_SPACES = tuple(name for name in SPACES if name not in ("nested", "text"))
"""Names of the spaces that a Stable-Baselines3 `VecEnv` supports as observation space."""


def space_of(space: str | Space[Any]) -> Space[Any]:
    """The space with a name in the table, or the given space."""
    return SPACES[space] if isinstance(space, str) else space


def element_of(space: Space[Any], number: int) -> Any:
    """The element of a space for a number.

    Args:
        space: A space of the table, or another space of the same kinds.
        number: In `[0, 256)`.

    Returns:
        An array filled with the number; its binary digits, lowest first, for `MultiBinary`; its decimal digits for
        `Text`; a dict or tuple of such elements for `Dict` and `Tuple`. Arrays are new at every call.

    Raises:
        ValueError: If the number is out of range, or too large for the space.
        TypeError: If the space is of another kind.
    """
    element: Any
    if not 0 <= number < NUMBERS:
        raise ValueError(f"number: expected one in [0, {NUMBERS}), got {number}")
    if isinstance(space, spaces.Dict):
        return {key: element_of(child, number) for key, child in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(element_of(child, number) for child in space.spaces)
    if isinstance(space, spaces.Text):
        element = str(number)
    elif isinstance(space, spaces.MultiBinary):
        places = np.arange(np.prod(space.shape)).reshape(space.shape)
        element = (number >> places & 1).astype(space.dtype)
    elif isinstance(space, spaces.Discrete):
        element = np.int64(number)
    elif isinstance(space, spaces.Box | spaces.MultiDiscrete):
        element = np.full(space.shape, number).astype(space.dtype)
    else:
        raise TypeError(f"space: expected one of the kinds in vecrollout.testing.SPACES, got {space}")
    if not space.contains(element):
        raise ValueError(f"number: expected one that has an element in {space}, got {number}")
    return element


def batch_of(space: Space[Any], numbers: Sequence[int]) -> Any:
    """The elements for several numbers, along the first dimension of every leaf.

    Args:
        space: A space that `element_of` accepts.
        numbers: At least one.

    Returns:
        An array of shape `(len(numbers), *space.shape)`, in the space's dtype; for `Dict` and `Tuple` a dict or tuple
        of such arrays.
    """
    if isinstance(space, spaces.Dict):
        return {key: batch_of(child, numbers) for key, child in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(batch_of(child, numbers) for child in space.spaces)
    return np.stack([np.asarray(element_of(space, number)) for number in numbers])
