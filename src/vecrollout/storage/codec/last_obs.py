"""Last infos that repeat the trajectory's last observation: only the key is kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from vecrollout._typing import Array
from vecrollout.data.structures import same_bits
from vecrollout.data.trees import map_leaves

FINAL_OBS_KEYS = ("terminal_observation", "final_observation", "final_obs")
"""Under these, the last step's info repeats the trajectory's last observation."""


def repeating_keys(dicts: Sequence[dict[Any, Any]], obs: Any, rows: Array) -> dict[int, tuple[str, ...]]:
    """The keys under which infos repeat their rows of the observations, by number of the info."""
    repeating: dict[int, tuple[str, ...]] = {}
    for key in FINAL_OBS_KEYS:
        having = [i for i, info in enumerate(dicts) if key in info]
        values = [dicts[i][key] for i in having]
        if values and not _all_repeat(values, obs, rows[having]):
            pairs = zip(having, values, strict=True)
            having = [i for i, value in pairs if value is not None and _repeats(value, obs, int(rows[i]))]
        for i in having:
            repeating[i] = (*repeating[i], key) if i in repeating else (key,)
    return repeating


def _all_repeat(values: list[Any], obs: Any, rows: Array) -> bool:
    """Whether plain arrays are the observations of some rows; False also where that is not told at once."""
    if type(obs) is not np.ndarray or obs.dtype.hasobject or set(map(type, values)) != {np.ndarray}:
        return False
    dtype, shape = obs.dtype, obs.shape[1:]
    # A set of dtypes takes several times as long.
    if [value for value in values if value.dtype is not dtype or value.shape != shape]:
        return False
    return b"".join([value.tobytes() for value in values]) == obs[rows].tobytes()


def _repeats(value: Any, obs: Any, row: int) -> bool:
    """Whether a value is an observation of some to the bit, made of arrays as that one comes back."""
    if type(value) is np.ndarray and type(obs) is np.ndarray:
        last = obs[row, ...]
        plain = value.dtype == last.dtype and not value.dtype.hasobject
        return bool(value.shape == last.shape and plain and value.tobytes() == last.tobytes())
    if type(value) not in (dict, tuple):
        return False
    return _all_arrays(value) and same_bits(value, map_leaves(lambda leaf: np.asarray(leaf)[row, ...], obs))


def _all_arrays(value: Any) -> bool:
    if type(value) is dict:
        return all(map(_all_arrays, value.values()))
    return all(map(_all_arrays, value)) if type(value) is tuple else type(value) is np.ndarray
