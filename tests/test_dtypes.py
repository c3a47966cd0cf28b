"""NumPy's dtypes as JSON, and back: whatever the text, no crash and no more memory than the text takes."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from vecrollout.data.dtypes import dtype_from_json, dtype_to_json

DTYPES: list[Any] = [
    *("?", "i1", ">u8", "f2", "<f4", ">f8", "c8", "c16", "S0", "U7", ">U7", "V3", "O"),
    *("M8", "M8[ns]", "m8[25s]", ">M8[D]", np.longdouble, np.clongdouble),
    [("a", "<f4", (2, 3)), ("b", [("c", "i4"), ("d", "S3")])],
    np.dtype({"names": ["a", "b"], "formats": ["u1", "f8"], "offsets": [0, 8], "itemsize": 24}),
]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_comes_back(dtype: Any) -> None:
    packed = json.loads(json.dumps(dtype_to_json(np.dtype(dtype))))
    assert dtype_from_json(packed) == np.dtype(dtype)


@pytest.mark.parametrize(
    "packed",
    [
        *("<M8[ns/0]", "<M8[0ns]", "<M8[ns]//3", "<M8[xx]", "<m8[-1s]", "f4,f4", "(2,)f4", "f3", "i99", "", "float64"),
        *("<U500000000", "|V999999999999", "a" * 100_000),
        *(None, 3, True, {}, {"a": "<f4"}, ["a"], [["a"]], [["a", "<f4", [-1]]], [["a", "<f4", [2**40, 2**40]]]),
        [["a", "<f4", [1 << 15, 1 << 15]]],
    ],
    ids=lambda packed: str(packed)[:30],
)
def test_anything_else_is_refused(packed: Any) -> None:
    with pytest.raises(ValueError, match=r"expected a (dtype|shape)"):
        dtype_from_json(packed)


def test_fields_in_fields_in_fields() -> None:
    packed: Any = "<f4"
    for _ in range(5000):
        packed = [["a", packed]]
    with pytest.raises(ValueError, match=r"expected a (dtype|shape)"):
        dtype_from_json(packed)
