"""Spaces as JSON, and back."""

from __future__ import annotations

import copy
import inspect
import json
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given

from vecrollout.errors import DamagedTraceError, ProtocolError
from vecrollout.storage.codec.spaces import space_from_json, space_to_json
from vecrollout.testing import SPACES, assert_same
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
    spaces.Dict([("b", spaces.Discrete(2)), ("a", spaces.Text(3, charset="xyz", min_length=0))]),
    spaces.Discrete(4, start=-2),
    spaces.MultiDiscrete([2, 3], np.int8, start=[-1, 5]),
    spaces.Box(-3, 3, (2,), np.float16),
    spaces.Box(0, 2**63, (), np.uint64),
    spaces.Box(0, 1, (3,), np.bool_),
    spaces.Box(np.array([-(2**63), -1]), np.array([5, 2**63 - 1]), dtype=np.int64),
    spaces.Tuple([spaces.Discrete(3, seed=4), spaces.MultiBinary(2, seed=5)], seed=[6, 7]),
]
if "dtype" in inspect.signature(spaces.Discrete).parameters:
    OTHERS += [
        spaces.Discrete(4, dtype=np.int32),
        spaces.Dict({"x": spaces.Tuple([spaces.Discrete(200, dtype=np.uint8, start=3)])}),
    ]
if hasattr(spaces, "OneOf"):
    OTHERS.append(spaces.OneOf([spaces.Discrete(3, start=1), spaces.Box(0, 1, (2,))]))


def there_and_back(space: gym.Space[Any]) -> Any:
    return space_from_json(json.loads(json.dumps(space_to_json(space), allow_nan=False)))


@pytest.mark.parametrize("space", [*SPACES.values(), *OTHERS], ids=str)
def test_comes_back(space: gym.Space[Any]) -> None:
    back = there_and_back(space)
    assert back == space
    assert back.dtype == space.dtype
    assert repr(back) == repr(space)


@given(nested_spaces())
def test_any_comes_back(space: gym.Space[Any]) -> None:
    assert there_and_back(space) == space


def can_be_sampled(space: gym.Space[Any]) -> bool:
    """Gymnasium draws no samples of boxes of 64-bit integers, as their bounds are too far apart here."""
    return not isinstance(space, spaces.Box) or space.dtype not in (np.int64, np.uint64)


def seeded(space: gym.Space[Any], seed: int) -> gym.Space[Any]:
    space = copy.deepcopy(space)
    space.seed(seed)
    space.sample()
    return space


@pytest.mark.parametrize("space", list(filter(can_be_sampled, [*SPACES.values(), *OTHERS])), ids=str)
def test_samples_go_on_as_they_would(space: gym.Space[Any]) -> None:
    original = seeded(space, 3)
    back = there_and_back(original)
    for _ in range(3):
        assert_same(back.sample(), original.sample())
    assert back == there_and_back(space) == space


def test_a_space_without_a_seed_stays_without() -> None:
    space = spaces.Discrete(3)
    assert "random" not in space_to_json(space)
    assert "random" not in space_to_json(space)  # to look does not seed it


@pytest.mark.parametrize(
    "state",
    [
        None,
        {},
        {"state": "1", "inc": "x", "has_uint32": 0, "uinteger": 0},
        {"state": "-1", "inc": "1", "has_uint32": 0, "uinteger": 0},
        {"state": str(1 << 200), "inc": "1", "has_uint32": 0, "uinteger": 0},
        {"state": "1", "inc": "1", "has_uint32": None, "uinteger": 0},
        {"state": "1", "inc": "1", "has_uint32": 0, "uinteger": 1 << 70},
        {"state": "9" * 5000, "inc": "1", "has_uint32": 0, "uinteger": 0},
    ],
    ids=repr,
)
def test_a_crafted_state_of_random_numbers(state: Any) -> None:
    with pytest.raises(DamagedTraceError):
        space_from_json({"kind": "Discrete", "n": 3, "start": 0, "random": state})


class Own(spaces.Discrete):
    pass


def test_an_unknown_one_is_described() -> None:
    with pytest.warns(UserWarning, match=r"spaces: Discrete\(3\): not one of Gymnasium's"):
        packed = space_to_json(Own(3))
    assert packed == {"kind": "unknown", "repr": "Discrete(3)"}
    assert space_from_json(packed) is None


def test_an_unknown_part_is_its_repr() -> None:
    space = spaces.Dict({"known": spaces.Discrete(2), "other": spaces.Tuple([Own(3), spaces.MultiBinary(2)])})
    with pytest.warns(UserWarning, match=r"spaces: Discrete\(3\): not"):
        back = there_and_back(space)
    assert back["known"] == spaces.Discrete(2)
    assert back["other"][1] == spaces.MultiBinary(2)
    assert repr(back) == repr(space)
    assert back != space
    assert back == copy.deepcopy(back)
    assert 1 not in back["other"][0]
    with pytest.raises(ProtocolError, match=r"got Discrete\(3\), of which only the text is known"):
        back["other"][0].sample()


@pytest.mark.parametrize(
    "packed", [None, {}, {"kind": "Own"}, {"kind": "Discrete", "n": -1, "start": 0}, {"kind": "Box"}]
)
def test_what_is_none_is_refused(packed: Any) -> None:
    with pytest.raises(DamagedTraceError):
        space_from_json(packed)
