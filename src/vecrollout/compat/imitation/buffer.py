"""`imitation.data.buffer` (imitation 1.0.1): ring buffers of arrays and of transitions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from stable_baselines3.common.vec_env import VecEnv

from vecrollout.compat.imitation._classes import Transitions
from vecrollout.compat.imitation.types import assert_not_dictobs
from vecrollout.errors import EmptyBufferError, OptionError, ShapeError, StructureError

__all__ = ["Buffer", "ReplayBuffer", "num_samples"]

_FIELDS = ("obs", "acts", "next_obs", "dones", "infos")


class BufferKeysError(StructureError, KeyError):
    """Shapes and dtypes have different keys. imitation raises KeyError."""

    __str__ = Exception.__str__  # KeyError's own would put quotes around the message


class EmptySampleError(EmptyBufferError, ValueError):
    """There is nothing to sample. imitation raises ValueError."""


def num_samples(data: Mapping[Any, npt.NDArray[Any]]) -> int:
    """Number of samples in arrays with one row a sample.

    Args:
        data: At least one array, each of shape `(N, ...)`.

    Returns:
        N.

    Raises:
        ShapeError: If there is no array, or the arrays have different numbers of rows.
    """
    lengths = {key: len(array) for key, array in data.items()}
    if len(set(lengths.values())) != 1:
        raise ShapeError(f"data: expected arrays with the same number of rows, got {lengths}")
    return next(iter(lengths.values()))


class Buffer:
    """Keeps the last `capacity` samples of each of several arrays, and draws from them at random.

    Args:
        capacity: Number of samples to keep, 1 or more.
        sample_shapes: Shape of one sample, by key.
        dtypes: Dtype of a sample, by key.

    Raises:
        BufferKeysError: If `sample_shapes` and `dtypes` have different keys.
        OptionError: If `capacity` is less than 1.
    """

    def __init__(
        self, capacity: int, sample_shapes: Mapping[str, tuple[int, ...]], dtypes: Mapping[str, npt.DTypeLike]
    ) -> None:
        if sample_shapes.keys() != dtypes.keys():
            raise BufferKeysError(
                f"sample_shape and dtypes: expected the same keys, got {list(sample_shapes)} and {list(dtypes)}"
            )
        if capacity < 1:
            raise OptionError(f"capacity: expected 1 or more, got {capacity}")
        self.capacity = capacity
        """Number of samples to keep."""
        self.sample_shapes = {key: tuple(shape) for key, shape in sample_shapes.items()}
        """Shape of one sample, by key."""
        self._arrays = {
            key: np.zeros((capacity, *shape), dtype=dtypes[key]) for key, shape in self.sample_shapes.items()
        }
        # Rows [0, _n_data) hold samples; the next sample goes to row _idx.
        self._n_data = 0
        self._idx = 0

    @classmethod
    def from_data(
        cls, data: Mapping[str, npt.NDArray[Any]], capacity: int | None = None, truncate_ok: bool = False
    ) -> Buffer:
        """A buffer that holds some arrays, with shapes and dtypes as theirs.

        Args:
            data: Arrays of shape `(N, ...)`, by key.
            capacity: Number of samples to keep; None: N.
            truncate_ok: Whether to keep only the last samples if there are more than `capacity`.

        Raises:
            ShapeError: If there is no array, the arrays have different numbers of rows, or they have more rows than
                `capacity` and not `truncate_ok`.
        """
        rows = num_samples(data)
        shapes = {key: array.shape[1:] for key, array in data.items()}
        buffer = cls(rows if capacity is None else capacity, shapes, {key: array.dtype for key, array in data.items()})
        buffer.store(data, truncate_ok=truncate_ok)
        return buffer

    def store(self, data: Mapping[str, npt.NDArray[Any]], truncate_ok: bool = False) -> None:
        """Copy samples into the buffer, in the place of the oldest ones if it is full.

        Args:
            data: Arrays of shape `(n, *sample_shape)`, by key.
            truncate_ok: Whether to keep only the last `capacity` samples if there are more.

        Raises:
            StructureError: If the keys are not those of the buffer.
            ShapeError: If there is no sample, a sample has another shape, the arrays have different numbers of rows,
                or there are more samples than `capacity` and not `truncate_ok`.
        """
        if data.keys() != self._arrays.keys():
            raise StructureError(f"data: expected the keys {list(self._arrays)}, got {list(data)}")
        rows = num_samples(data)
        if rows == 0:
            raise ShapeError("data: expected at least one sample, got none")
        if rows > self.capacity and not truncate_ok:
            raise ShapeError(
                f"data: expected at most {self.capacity} samples (capacity), got {rows}; pass truncate_ok=True to keep "
                f"the last ones"
            )
        for key, array in data.items():
            if array.shape[1:] != self.sample_shapes[key]:
                raise ShapeError(
                    f"data[{key!r}]: expected samples of shape {self.sample_shapes[key]}, got {array.shape[1:]}"
                )
        rows = min(rows, self.capacity)
        places = np.arange(self._idx, self._idx + rows) % self.capacity
        for key, array in data.items():
            self._arrays[key][places] = array[-rows:]
        self._idx = (self._idx + rows) % self.capacity
        self._n_data = min(self._n_data + rows, self.capacity)

    def sample(self, n_samples: int) -> dict[str, npt.NDArray[Any]]:
        """Draw samples at random, with replacement. The draw comes from NumPy's global state, as in imitation.

        Args:
            n_samples: Number of samples.

        Returns:
            Copies of the samples, shape `(n_samples, *sample_shape)`, by key.

        Raises:
            EmptySampleError: If the buffer is empty.
        """
        if not self._n_data:
            raise EmptySampleError("expected samples to draw from, got an empty buffer; call store() first")
        drawn = np.random.randint(self._n_data, size=n_samples)  # noqa: NPY002  # the draws of imitation
        return {key: array[drawn] for key, array in self._arrays.items()}

    def size(self) -> int:
        """Number of samples in the buffer."""
        return self._n_data


class ReplayBuffer:
    """Keeps the last `capacity` transitions, and draws from them at random.

    Args:
        capacity: Number of transitions to keep, 1 or more.
        venv: Environments, from whose spaces shapes and dtypes are taken. Without it, pass all four below.
        obs_shape: Shape of one observation.
        act_shape: Shape of one action.
        obs_dtype: Dtype of observations.
        act_dtype: Dtype of actions.

    Raises:
        OptionError: If a shape or dtype is given although the environments' space has it, or is not given although
            nothing else has it.
    """

    def __init__(
        self,
        capacity: int,
        venv: VecEnv | None = None,
        *,
        obs_shape: tuple[int, ...] | None = None,
        act_shape: tuple[int, ...] | None = None,
        obs_dtype: npt.DTypeLike | None = None,
        act_dtype: npt.DTypeLike | None = None,
    ) -> None:
        obs_space, act_space = (None, None) if venv is None else (venv.observation_space, venv.action_space)
        obs = _known("observation", obs_space, obs_shape, obs_dtype)
        acts = _known("action", act_space, act_shape, act_dtype)
        flags, objects = ((), np.dtype(bool)), ((), np.dtype(object))
        described = dict(zip(_FIELDS, (obs, acts, obs, flags, objects), strict=True))
        self._buffer = Buffer(
            capacity,
            {name: shape for name, (shape, _) in described.items()},
            {name: dtype for name, (_, dtype) in described.items()},
        )
        self.capacity = capacity
        """Number of transitions to keep."""

    @classmethod
    def from_data(
        cls, transitions: Transitions, capacity: int | None = None, truncate_ok: bool = False
    ) -> ReplayBuffer:
        """A buffer that holds some transitions, with shapes and dtypes as theirs.

        Args:
            transitions: At least one transition.
            capacity: Number of transitions to keep; None: as many as there are.
            truncate_ok: Whether to keep only the last transitions if there are more than `capacity`.

        Raises:
            DictObsError: If observations are a dict or tuple of arrays.
            ShapeError: If there is no transition, or there are more than `capacity` and not `truncate_ok`.
        """
        obs = assert_not_dictobs(transitions.obs)
        buffer = cls(
            len(obs) if capacity is None else capacity,
            obs_shape=obs.shape[1:],
            act_shape=transitions.acts.shape[1:],
            obs_dtype=obs.dtype,
            act_dtype=transitions.acts.dtype,
        )
        buffer.store(transitions, truncate_ok=truncate_ok)
        return buffer

    def sample(self, n_samples: int) -> Transitions:
        """Draw transitions at random, with replacement, from NumPy's global state.

        Args:
            n_samples: Number of transitions.

        Returns:
            Copies of the transitions, without rewards. Their `terminated` and `truncated` are derived from `dones`.

        Raises:
            EmptySampleError: If the buffer is empty.
        """
        return Transitions(**self._buffer.sample(n_samples))

    def store(self, transitions: Transitions, truncate_ok: bool = True) -> None:
        """Copy transitions into the buffer, in the place of the oldest ones if it is full.

        Args:
            transitions: At least one transition, with observations and actions of the buffer's shapes.
            truncate_ok: Whether to keep only the last `capacity` transitions if there are more.

        Raises:
            DictObsError: If observations are a dict or tuple of arrays.
            ShapeError: If there is no transition, one has another shape, or there are more than `capacity` and not
                `truncate_ok`.
        """
        assert_not_dictobs(transitions.obs)
        self._buffer.store({name: getattr(transitions, name) for name in _FIELDS}, truncate_ok=truncate_ok)

    def size(self) -> int:
        """Number of transitions in the buffer."""
        return self._buffer.size()


def _known(name: str, space: Any, shape: Any, dtype: Any) -> tuple[tuple[int, ...], Any]:
    """Shape and dtype of observations or actions, as given or as their space has them."""
    found: list[Any] = []
    for what, given in (("shape", shape), ("dtype", dtype)):
        own = getattr(space, what, None)
        if given is not None and own is not None:
            raise OptionError(f"Cannot specify both {name} {what} and also environment with a space that has one")
        if given is None and own is None:
            raise OptionError(f"Shape or dtype missing: expected {name} {what}, or environments whose space has one")
        found.append(own if given is None else given)
    return tuple(found[0]), found[1]
