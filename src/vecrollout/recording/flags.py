"""Flags, rewards and masks of vector environments as NumPy arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from vecrollout.data.foreign import as_array
from vecrollout.errors import ShapeError

_BOOL = np.dtype(bool)


def as_flags(flags: Any, count: int, name: str) -> npt.NDArray[np.bool_]:
    """Flags, one an environment, as an array of shape `(count,)`."""
    if type(flags) is np.ndarray and flags.dtype is _BOOL and flags.shape == (count,):
        return flags
    array = as_array(flags, name)
    if array.shape == (count, 1):
        array = array[:, 0]
    if array.shape != (count,):
        raise ShapeError(f"{name}: expected shape ({count},), one an environment, got {array.shape}")
    return array.astype(bool)


def as_reward_rows(rews: Any) -> Any:
    """Rewards as an array; a column of them, as `AsyncVectorEnv` makes of arrays of shape (1,), in one dimension."""
    array = as_array(rews, "rews")
    return array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array


def reset_mask_of(options: dict[str, Any] | None, num_envs: int) -> npt.NDArray[np.bool_] | None:
    """Which environments a reset is for, as a mask of its own; None: for all.

    Source:
        `SyncVectorEnv.reset` (Gymnasium 1.1): `"reset_mask"`. ManiSkill 3, `BaseEnv.reset`: `"env_idx"`.
    """
    if options is None:
        return None
    if options.get("reset_mask") is not None:
        return np.array(as_array(options["reset_mask"], 'options["reset_mask"]'), dtype=bool)
    if options.get("env_idx") is not None:
        mask = np.zeros(num_envs, dtype=bool)
        mask[as_array(options["env_idx"], 'options["env_idx"]')] = True
        return mask
    return None
