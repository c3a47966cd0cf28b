"""Items of trajectories by number: the common part of steps, windows and n-step transitions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, Generic, Protocol, TypeVar, overload

import numpy as np
import numpy.typing as npt

from vecrollout.data.checks import check_generator, whole_number
from vecrollout.data.choosing import chosen
from vecrollout.data.sampling.step_index import StepIndex
from vecrollout.errors import ShapeError, StateError

BatchT = TypeVar("BatchT")


class Indexed(Protocol):
    """Trajectories whose steps can be read in any order: a `TrajectoryBatch` or a `TraceDataset`."""

    @property
    def step_index(self) -> StepIndex:
        """Where each step lies."""


class Items(ABC, Generic[BatchT]):
    """Items by number, read when they are asked for.

    `items[[3, 1, 2]]` and `items[3:9]` are batches, `items[3]` is a dict of one item's arrays.
    """

    has_infos = False
    """Whether batches have infos that were read."""

    def __init__(self, trajectories: Indexed) -> None:
        self._trajectories = trajectories
        self._index = trajectories.step_index

    @abstractmethod
    def __len__(self) -> int:
        """Number of items."""

    @abstractmethod
    def batch(self, numbers: npt.NDArray[np.int64]) -> BatchT:
        """The items of these numbers, which are in range, as arrays of their own."""

    def sample(self, n: int, rng: np.random.Generator) -> BatchT:
        """Draw items, each with equal probability, with replacement.

        Args:
            n: How many.
            rng: Where randomness comes from. The same state gives the same items.

        Raises:
            ShapeError: If there is no item.
            OptionError: If `n` is negative.
            ArgumentTypeError: If `n` is no integer, or `rng` no `np.random.Generator`.
        """
        n = whole_number("n", n, 0)
        check_generator(rng)
        if not len(self):
            raise ShapeError("sample: expected at least one item to draw from, got none")
        return self.batch(rng.integers(len(self), size=n))

    @overload
    def __getitem__(self, key: int) -> dict[str, Any]: ...

    @overload
    def __getitem__(self, key: slice | Sequence[int] | npt.NDArray[Any]) -> BatchT: ...

    def __getitem__(self, key: Any) -> Any:
        """One item as a dict, or several as a batch (slice, integers, mask).

        Raises:
            IndexError: If there is no such item.
            ArgumentTypeError: If the key has another type.
        """
        numbers = chosen(key, len(self))
        if numbers.ndim:
            return self.batch(numbers)
        fields = vars(self.batch(numbers[None]))
        return {name: value if value is None else value[0] for name, value in fields.items()}

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """One dict an item."""
        return (self[i] for i in range(len(self)))

    def __getstate__(self) -> dict[str, Any]:
        """Without the index, which is made anew; its size shows whether the data is the same."""
        index = self._index
        return {**vars(self), "_index": (len(index.lengths), len(index))}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._index = index = self._trajectories.step_index
        now = len(index.lengths), len(index)
        if now != state["_index"]:
            raise StateError(
                f"expected {state['_index'][0]} trajectories with {state['_index'][1]} steps, as when it was pickled, "
                f"got {now[0]} with {now[1]}: the trace has grown since; load it after its writer was closed"
            )
