"""Choosing trajectories, parts of them, and rewards: the verbs that a batch and a data set have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, Self, TypeAlias, overload

import numpy as np
import numpy.typing as npt

from vecrollout.data.checks import check_function, whole_number
from vecrollout.data.choosing import Numbers, chosen, divided, matching, ordered, ranges
from vecrollout.data.conditions import check_condition, matching_rows
from vecrollout.data.fields import checked_rewards, trusted
from vecrollout.data.trajectory import Trajectory, TrajectoryWithRew
from vecrollout.errors import ArgumentTypeError

Rewards: TypeAlias = Callable[[Trajectory], Any]
"""Rewards of a trajectory, shape `(T,)`."""


class CuratedTrajectories(Sequence[Trajectory], ABC):
    """A sequence of trajectories that gives views of itself.

    A subclass says where the trajectories are.
    """

    @property
    @abstractmethod
    def lengths(self) -> npt.NDArray[np.int64]:
        """Steps of each trajectory, shape `(N,)`."""

    @abstractmethod
    def _at(self, number: int) -> Trajectory:
        """The trajectory of a number, which is in range."""

    @abstractmethod
    def _selected(self, numbers: Numbers) -> Self:
        """The trajectories of these numbers, which are in range."""

    @abstractmethod
    def _parts(self, numbers: Numbers, begins: Numbers, ends: Numbers) -> Self:
        """The steps `[begin, end)` of these trajectories, at least one of each."""

    @abstractmethod
    def _followed_by(self, others: Sequence[Self]) -> Self:
        """These trajectories, and then those of others."""

    @abstractmethod
    def _relabeled(self, rewards: Rewards) -> Self:
        """The trajectories with the rewards that a function gives them."""

    @abstractmethod
    def _values(self, column: str) -> Sequence[Any]:
        """A property of each trajectory."""

    @abstractmethod
    def _episode_table(self) -> Any:
        """The properties as a `pyarrow.Table`, a row a trajectory."""

    @abstractmethod
    def _episode_keys(self) -> Sequence[Hashable]:
        """One value a trajectory, which the fragments of an episode have in common."""

    def _numbers(self, key: Any, name: str) -> Numbers:
        """Numbers of the trajectories that a key chooses, shape `()` for a single integer."""
        return chosen(key, len(self), of="trajectories", name=name)

    def __len__(self) -> int:
        """Number of trajectories, N."""
        return len(self.lengths)

    @property
    def total_steps(self) -> int:
        """Steps of all trajectories together."""
        return int(self.lengths.sum())

    @overload
    def __getitem__(self, key: int) -> Trajectory: ...

    @overload
    def __getitem__(self, key: slice | Sequence[int] | npt.NDArray[Any]) -> Self: ...

    def __getitem__(self, key: Any) -> Any:
        """One trajectory, or a view of several (slice, integers, mask).

        Raises:
            IndexError: If there is no such trajectory.
            ArgumentTypeError: If the key has another type.
            DamagedTraceError: If the trace cannot be read, or is not what was written.
        """
        if type(key) is int and 0 <= key < len(self):
            return self._at(key)
        numbers = self._numbers(key, "key")
        return self._selected(numbers) if numbers.ndim else self._at(int(numbers))

    def select(self, numbers: Any) -> Self:
        """Some of the trajectories, in the order of the numbers; the same as `self[numbers]`.

        Args:
            numbers: Integers in one dimension, negative ones from the end, or a mask of all trajectories, or a slice.

        Raises:
            IndexError: If there is no such trajectory.
            ArgumentTypeError: If it is something else.
        """
        return self._selected(np.atleast_1d(self._numbers(numbers, "numbers")))

    def filter(self, condition: Any) -> Self:
        """The trajectories that fulfill a condition.

        Examples:
            >>> import pyarrow.compute as pc
            >>> from vecrollout import TrajectoryBatch
            >>> batch = TrajectoryBatch.from_arrays(np.arange(7.0), np.zeros(5), np.ones(5), lengths=[2, 3])
            >>> len(batch.filter(pc.field("return_") > 2)), len(batch.filter(lambda each: len(each) == 2))
            (1, 1)

        Args:
            condition: A `pyarrow.compute` expression, which reads no observations. Its columns are those of
                `TraceDataset.to_arrow()`; a `TrajectoryBatch` has neither `writer` nor metadata. Or a function of a
                trajectory, for which all trajectories are read.

        Raises:
            OptionError: If the expression names an unknown column, or is no condition.
            ArgumentTypeError: If it is neither an expression nor a function.
            DamagedTraceError: If the trace cannot be read, or is not what was written.
        """
        check_condition(condition)
        if callable(condition):
            return self._selected(matching(self, condition))
        return self._selected(matching_rows(self._episode_table(), condition))

    def concat(self, *others: Self) -> Self:
        """These trajectories, and then those of others.

        Args:
            others: `TraceDataset` objects, of other directories or views of the same one; or `TrajectoryBatch` objects,
                alike in structure and shapes, if this is one.

        Raises:
            ArgumentTypeError: If one is of another class; or if some batches have rewards and others not.
            ShapeError: If observations or actions of batches have different shapes.
            StructureError: If observations or actions of batches have different structures.
        """
        for each in others:
            if not isinstance(each, type(self)):
                raise ArgumentTypeError(
                    f"others: expected {type(self).__name__} objects, as this is one, got {type(each).__name__}; "
                    "TrajectoryBatch.from_trajectories joins trajectories, and a TraceWriter writes them as a trace"
                )
        return self._followed_by(others)

    def trim(self, start: int = 0, stop: int | None = None) -> Self:
        """Some steps of each trajectory, as in the slice `[start:stop]`. Trajectories without such steps are left out.

        Examples:
            >>> from vecrollout import TrajectoryBatch
            >>> batch = TrajectoryBatch.from_arrays(obs=np.arange(7.0), acts=np.zeros(5), lengths=[2, 3])
            >>> [each.obs.tolist() for each in batch.trim(start=1)]
            [[1.0, 2.0], [4.0, 5.0, 6.0]]

        Args:
            start: First step, counted from each trajectory's own first; negative ones count from its end.
            stop: End of the steps; None: each trajectory's end.

        Returns:
            A view. A part that does not reach the end of its trajectory is neither `terminated` nor `truncated`. Its
            `episode` says where it starts.

        Raises:
            ArgumentTypeError: If a number is no integer.
        """
        start, stop = whole_number("start", start), None if stop is None else whole_number("stop", stop)
        begins, ends = ranges(self.lengths, start, stop)
        (numbers,) = (begins < ends).nonzero()
        return self._parts(numbers, begins[numbers], ends[numbers])

    def relabel(self, *, rews: Callable[[Trajectory], Any]) -> Self:
        """The trajectories with other rewards.

        A `TraceDataset` computes them each time that a trajectory is read. A `TrajectoryBatch` computes them now.

        Examples:
            >>> from vecrollout import TrajectoryBatch
            >>> batch = TrajectoryBatch.from_arrays(obs=np.arange(7.0), acts=np.zeros(5), lengths=[2, 3])
            >>> batch.relabel(rews=lambda each: each.obs[1:]).rews
            array([1., 2., 4., 5., 6.])

        Args:
            rews: Gets a `Trajectory` and returns its rewards, shape `(T,)`, float. It gives the same for the same
                trajectory.

        Raises:
            ArgumentTypeError: If `rews` is no function.
            ShapeError: If `rews` returns another shape; from a `TraceDataset` when the trajectory is read.
            DtypeError: If `rews` returns no floats; likewise.
        """
        check_function("rews", rews, "a trajectory")
        return self._relabeled(rews)

    def sort_by(self, column: str, *, descending: bool = False) -> Self:
        """The trajectories in the order of a property.

        Args:
            column: `"return_"` (sum of rewards), `"length"`, `"terminated"`, `"truncated"`, `"env"`, or a field of
                `Episode`. Of a `TraceDataset`, a column of `to_arrow()`.
            descending: Whether the largest value comes first. Trajectories without a value come last in either case,
                and those with equal values stay in their order.

        Raises:
            OptionError: If there is no such property, or its values cannot be compared.
            DamagedTraceError: If the trace cannot be read, or is not what was written.
        """
        return self._selected(ordered(self._values(column), descending=descending))

    def split(self, fractions: Mapping[str, float], rng: np.random.Generator) -> dict[str, Self]:
        """Parts of whole episodes, drawn at random. Fragments of one episode are in the same part.

        Args:
            fractions: Fraction of the episodes by name of the part, such as `{"train": 0.9, "val": 0.1}`; they add up
                to 1.
            rng: Where randomness comes from. The same state gives the same parts.

        Returns:
            A view for each name. Trajectories keep their order.

        Raises:
            OptionError: If the fractions do not add up to 1.
            ArgumentTypeError: If `fractions` is no dict of numbers, or `rng` no `np.random.Generator`.
            DamagedTraceError: If the trace cannot be read, or is not what was written.
        """
        parts = divided(self._episode_keys(), fractions, rng)
        return {name: self._selected(numbers) for name, numbers in parts.items()}


def relabeled(trajectory: Trajectory, rewards: Rewards) -> TrajectoryWithRew:
    """A trajectory with the rewards that a function gives it, as a copy."""
    rews = np.array(checked_rewards(rewards(trajectory), len(trajectory)))
    rews.flags.writeable = False
    return trusted(TrajectoryWithRew, {**vars(trajectory), "rews": rews})
