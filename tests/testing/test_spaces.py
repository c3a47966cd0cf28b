from __future__ import annotations

import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3.common.vec_env import DummyVecEnv

from vecrollout.testing import SPACES, VEC_ENV_SPACES, CountingEnv, assert_same, batch_of, element_of, leaves_of


@pytest.mark.parametrize("name", SPACES)
def test_every_number_has_an_element_of_its_own(name):
    space = SPACES[name]
    elements = [element_of(space, number) for number in range(256)]
    assert all(space.contains(element) for element in elements)
    assert len({tuple(np.asarray(leaf).tobytes() for leaf in leaves_of(each)) for each in elements}) == 256


def test_elements_are_the_number_at_every_leaf():
    nested = element_of(SPACES["nested"], 200)
    assert_same(nested["arm"]["angle"], np.array([200, 200], np.float32))
    assert_same(nested["arm"]["grip"], np.array([0, 0, 0, 1, 0, 0, 1, 1], np.int8))
    assert_same(nested["pair"], (np.int64(200), np.full((2, 2, 1), 200, np.uint8)))
    assert element_of(SPACES["text"], 200) == "200"


@pytest.mark.parametrize("number", [-1, 256])
def test_numbers_out_of_range(number):
    with pytest.raises(ValueError, match=r"number: expected one in \[0, 256\)"):
        element_of(SPACES["box"], number)


def test_spaces_too_small_for_a_number():
    with pytest.raises(ValueError, match="number: expected one that has an element in Discrete"):
        element_of(spaces.Discrete(5), 5)


def test_spaces_of_another_kind():
    with pytest.raises(TypeError, match="Graph"):
        element_of(spaces.Graph(spaces.Discrete(3), None), 1)


def test_batches_have_a_row_a_number():
    assert_same(batch_of(SPACES["box_scalar"], [1, 2]), np.array([1, 2], np.float32))
    batch = batch_of(SPACES["dict"], [7, 8, 9])
    assert {key: (value.shape, value.dtype.name) for key, value in batch.items()} == {
        "camera": ((3, 4, 4, 1), "uint8"),
        "level": ((3,), "int64"),
        "position": ((3, 2), "float64"),
    }


@pytest.mark.parametrize("name", VEC_ENV_SPACES)
def test_spaces_that_a_vec_env_takes(name):
    assert_same(DummyVecEnv([lambda: CountingEnv(name, first=3)]).reset(), batch_of(SPACES[name], [3]))
