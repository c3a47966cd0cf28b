"""Arrays of other libraries, as environments return them."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3.common.vec_env import VecEnvWrapper

from vecrollout.recording.environments import VectorWrapper


class Device:
    """An array on a device: NumPy reads it through a copy only. Counts the copies.

    Args:
        array: The data.
        copies: To count in.
    """

    def __init__(self, array: np.ndarray, copies: list[str]) -> None:
        self._array = array
        self._copies = copies
        self.shape, self.dtype = array.shape, array.dtype

    def __len__(self) -> int:
        return len(self._array)

    def __getitem__(self, key: Any) -> Device:
        return Device(np.asarray(self._array[key]), self._copies)

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise TypeError("implicit conversion to a NumPy array is not allowed")

    def __bool__(self) -> bool:
        raise TypeError("a device's array has no truth value here")

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, 0

    def __dlpack__(self, *, dl_device: Any = None, copy: bool | None = None, **_: Any) -> Any:
        if dl_device != (1, 0) or not copy:
            raise BufferError("the data is on a device")
        self._copies.append("copy")
        # NumPy exports no bool in some versions.
        return self._array.copy().__dlpack__()


class Readable:
    """An array with `__array__` only."""

    def __init__(self, array: np.ndarray) -> None:
        self._array = array
        self.shape, self.dtype = array.shape, array.dtype

    def __len__(self) -> int:
        return len(self._array)

    def __getitem__(self, key: Any) -> Any:
        return Readable(np.asarray(self._array[key]))

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return self._array.astype(dtype or self._array.dtype)


def to_torch(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.array(array))


def converted(value: Any, convert: Any) -> Any:
    """The value with all arrays of numbers converted."""
    if isinstance(value, dict):
        return {key: converted(each, convert) for key, each in value.items()}
    if isinstance(value, tuple | list):
        return type(value)(converted(each, convert) for each in value)
    if isinstance(value, np.ndarray) and value.dtype == object:
        return np.fromiter((converted(each, convert) for each in value), object, len(value))
    return convert(value) if isinstance(value, np.ndarray) else value


class ForeignVectorEnv(VectorWrapper):
    """A vector environment that takes and returns other arrays."""

    def __init__(self, env: Any, convert: Any, to_numpy: Any = np.asarray) -> None:
        super().__init__(env)
        if not hasattr(gym.vector, "VectorWrapper"):  # Gymnasium 0.29 warns where it forwards attributes
            for name in (
                "num_envs",
                *(f"{kind}{name}_space" for kind in ("", "single_") for name in ("observation", "action")),
            ):
                setattr(self, name, getattr(env, name))
        self.convert, self.to_numpy = convert, to_numpy
        self.returned: Any = None

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        if options is not None:
            options = {**options, "reset_mask": np.array(self.to_numpy(options["reset_mask"]))}
        self.returned = converted(self.env.reset(seed=seed, options=options), self.convert)
        return self.returned

    def step(self, actions: Any) -> Any:
        returned = self.env.step(self.to_numpy(actions))
        self.over = returned[2] | returned[3]
        self.returned = converted(returned, self.convert)
        return self.returned


class ForeignVecEnv(VecEnvWrapper):
    """A `VecEnv` that returns other arrays."""

    def __init__(self, venv: Any, convert: Any) -> None:
        super().__init__(venv)
        self.convert = convert

    def reset(self) -> Any:
        return converted(self.venv.reset(), self.convert)

    def step_wait(self) -> Any:
        return converted(self.venv.step_wait(), self.convert)
