"""Spaces as JSON, and back."""

from __future__ import annotations

import json
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given

from vecrollout.errors import DamagedTraceError
from vecrollout.storage.codec.spaces import space_from_json, space_to_json
from vecrollout.testing import SPACES
from vecrollout.testing.strategies import nested_spaces

OTHERS: list[gym.Space[Any]] = [
    spaces.Box(np.array([-1, 0], np.float32), np.array([1, np.inf], np.float32)),
    spaces.Box(0, 1, (0, 2), np.float64),
    spaces.MultiBinary([2, 3]),
    spaces.MultiDiscrete(np.array([[2, 3], [4, 5]])),
    spaces.Sequence(spaces.Discrete(3)),
    spaces.Sequence(spaces.Box(0, 1, (2,)), stack=True),
    spaces.Graph(spaces.Box(0, 1, (2,)), spaces.Discrete(3)),
    spaces.Graph(spaces.Discrete(3), None),
    spaces.Dict({"b": spaces.Discrete(2), "a": spaces.Tuple(())}),
]


def there_and_back(space: gym.Space[Any]) -> Any:
    return space_from_json(json.loads(json.dumps(space_to_json(space), allow_nan=False)))


@pytest.mark.parametrize("space", [*SPACES.values(), *OTHERS], ids=str)
def test_comes_back(space: gym.Space[Any]) -> None:
    back = there_and_back(space)
    assert back == space
    assert back.dtype == space.dtype


@given(nested_spaces())
def test_any_comes_back(space: gym.Space[Any]) -> None:
    assert there_and_back(space) == space


def test_an_unknown_one_is_described() -> None:
    class Own(spaces.Discrete):
        pass

    packed = space_to_json(spaces.Tuple([Own(3)]))
    assert packed == {"kind": "unknown", "repr": str(spaces.Tuple([Own(3)]))}
    assert space_from_json(packed) is None


@pytest.mark.parametrize(
    "packed", [None, {}, {"kind": "Own"}, {"kind": "Discrete", "n": -1, "start": 0}, {"kind": "Box"}]
)
def test_what_is_none_is_refused(packed: Any) -> None:
    with pytest.raises(DamagedTraceError):
        space_from_json(packed)
