"""A batch of trajectories as columns: what leaves a recorder, a file, or another library's data set."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from functools import cached_property, partial
from typing import Any

import numpy as np
import numpy.typing as npt

from vecrollout._typing import Array
from vecrollout.data.choosing import Numbers, episode_key, episode_values
from vecrollout.data.columns import ArrayColumns, Columns, checked_columns, concatenated, joined_columns
from vecrollout.data.conditions import episode_table
from vecrollout.data.curating import Rewards, relabeled
from vecrollout.data.fields import infos_or_empty
from vecrollout.data.identities import Identities
from vecrollout.data.kinds import Kind
from vecrollout.data.sampling.step_index import StepIndex
from vecrollout.data.selected_columns import SelectedColumns
from vecrollout.data.sequence import TrajectorySequence
from vecrollout.data.trajectory import Episode, Trajectory
from vecrollout.data.transitions import Transitions
from vecrollout.data.trees import Observation, concatenate, equal
from vecrollout.errors import ShapeError


class TrajectoryBatch(TrajectorySequence):
    """N trajectories as columns, one trajectory behind another.

    `len(batch)` is N. `batch[i]` is a trajectory, with views of the columns where they lie in memory already. A batch
    from a recorder or a file gathers a column when it is first asked for.

    Examples:
        >>> batch = TrajectoryBatch.from_arrays(obs=np.arange(7.0), acts=np.zeros(5), lengths=[2, 3])
        >>> len(batch), batch[1].obs
        (2, array([3., 4., 5., 6.]))

    Args:
        columns: Where the data lies. `from_arrays` and `from_trajectories` make batches from arrays.
    """

    # So that `array == batch` asks us, instead of answering element by element.
    __array_ufunc__ = None

    def __init__(self, columns: Columns) -> None:
        self.columns = columns
        """Where the data lies."""

    @classmethod
    def from_arrays(
        cls,
        obs: Any,
        acts: Any,
        rews: Any = None,
        infos: Any = None,
        *,
        lengths: Any,
        terminated: Any = None,
        truncated: Any = None,
        episodes: Sequence[Episode] | None = None,
    ) -> TrajectoryBatch:
        """A batch of arrays in memory, which are neither copied nor altered.

        Args:
            obs: Observations, shape `(sum(lengths) + N, *obs_shape)`: of each trajectory one more than steps.
            acts: Actions, shape `(sum(lengths), *act_shape)`.
            rews: Rewards, shape `(sum(lengths),)`, float; None: none.
            infos: Info dicts, as many as steps; None: not kept.
            lengths: Steps of each trajectory, shape `(N,)`, int, 1 or more each.
            terminated: Whether each trajectory's last step reached a terminal state, shape `(N,)`, bool; None: none.
            truncated: Whether each was cut short at its last step, shape `(N,)`, bool; None: none.
            episodes: Identity of each trajectory; None: unknown, but for how it ended.

        Raises:
            ShapeError: If the numbers of rows do not fit together.
            DtypeError: If rewards are not floats, or flags not bools.
            ArgumentTypeError: If a column is something that makes no array.
        """
        return cls(checked_columns(obs, acts, rews, infos, lengths, terminated, truncated, episodes))

    @classmethod
    def from_trajectories(cls, trajectories: Iterable[Trajectory]) -> TrajectoryBatch:
        """A batch of copies of trajectories.

        Args:
            trajectories: At least one; alike in structure and shapes. Where some have infos and others not, the others'
                are empty dicts.

        Raises:
            ShapeError: If there is no trajectory, or observations or actions have different shapes.
            StructureError: If observations or actions have different structures.
            ArgumentTypeError: If some have rewards and others not, or one is no trajectory.
        """
        if isinstance(trajectories, TrajectoryBatch):
            return cls(trajectories.columns)
        return cls(joined_columns(list(trajectories)))

    @classmethod
    def concatenate(cls, batches: Iterable[TrajectoryBatch]) -> TrajectoryBatch:
        """Several batches as one.

        Args:
            batches: At least one; alike in structure and shapes.

        Raises:
            ShapeError: If there is no batch, or observations or actions have different shapes.
            StructureError: If observations or actions have different structures.
            ArgumentTypeError: If some have rewards and others not.
        """
        given = list(batches)
        if not given:
            raise ShapeError("batches: expected at least one, got none")
        listed = [batch for batch in given if len(batch)]
        if len(listed) < 2:
            return (listed or given)[0]
        first, *others = [batch.columns for batch in listed]
        joined = first.joined(others) if all(type(each) is type(first) for each in others) else None
        return cls(concatenated([first, *others]) if joined is None else joined)

    @cached_property
    def obs(self) -> Observation:
        """Observations, shape `(sum(lengths) + N, *obs_shape)`: of each trajectory one more than steps."""
        obs: Observation = self.columns.column("obs")
        return obs

    @cached_property
    def acts(self) -> Array:
        """Actions, shape `(sum(lengths), *act_shape)`."""
        acts: Array = self.columns.column("acts")
        return acts

    @cached_property
    def rews(self) -> npt.NDArray[np.floating[Any]] | None:
        """Rewards, shape `(sum(lengths),)`, float; None where the trajectories have none."""
        rews: npt.NDArray[np.floating[Any]] | None = self.columns.column("rews")
        return rews

    @cached_property
    def infos(self) -> npt.NDArray[np.object_] | None:
        """Info dicts, shape `(sum(lengths),)`, dtype object; None where they were not kept."""
        infos: npt.NDArray[np.object_] | None = self.columns.column("infos")
        return infos

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Steps of each trajectory, shape `(N,)`."""
        return self.columns.lengths

    @property
    def terminated(self) -> npt.NDArray[np.bool_]:
        """Whether each trajectory's last step reached a terminal state, shape `(N,)`."""
        return self.columns.terminated

    @property
    def truncated(self) -> npt.NDArray[np.bool_]:
        """Whether each trajectory was cut short at its last step, shape `(N,)`."""
        return self.columns.truncated

    @property
    def episodes(self) -> Sequence[Episode]:
        """Identity of each trajectory."""
        return self.columns.episodes

    @property
    def identities(self) -> Identities:
        """The same, field by field."""
        return self.columns.identities

    @property
    def has_rews(self) -> bool:
        """Whether the trajectories have rewards."""
        return self.kind.rews is not None

    @property
    def has_infos(self) -> bool:
        """Whether infos were kept; told without gathering them."""
        return self.columns.has_infos

    @property
    def is_recorded(self) -> bool:
        """Whether a recorder gave the episodes their identities."""
        return self.columns.is_recorded

    @property
    def kind(self) -> Kind:
        """Structures, dtypes and shapes of the columns."""
        return self.columns.kind

    @property
    def total_steps(self) -> int:
        """Steps of all trajectories together."""
        return self.columns.total_steps

    def __len__(self) -> int:
        """Number of trajectories, N."""
        return len(self.columns)

    def part(self, begin: int, end: int) -> TrajectoryBatch:
        """Some of the trajectories as a batch, like a slice, but as views where the columns lie in memory.

        Args:
            begin: Index of the first one, 0 or more.
            end: Index behind the last one, larger than `begin` and at most N.
        """
        columns = self.columns.part(begin, end)
        return self._selected(np.arange(begin, end)) if columns is None else TrajectoryBatch(columns)

    def transitions(self) -> Transitions:
        """The steps of all trajectories, one after another, as copies; `TransitionsWithRew` where there are rewards.

        Raises:
            ShapeError: If there is no trajectory.
        """
        if not len(self):
            raise ShapeError("trajectories: expected at least one, got none")
        return self.columns.transitions()

    @cached_property
    def step_index(self) -> StepIndex:
        """Where each step lies, for the methods that draw steps and windows."""
        return StepIndex.of_columns(self.columns, self.obs, self.acts, self.rews)

    def _at(self, number: int) -> Trajectory:
        return self.columns.trajectory(number)

    def _selected(self, numbers: Numbers) -> TrajectoryBatch:
        return self._parts(numbers, np.zeros(len(numbers), np.int64), self.lengths[numbers])

    def _parts(self, numbers: Numbers, begins: Numbers, ends: Numbers) -> TrajectoryBatch:
        if isinstance(self.columns, SelectedColumns):
            return TrajectoryBatch(self.columns.parts(numbers, begins, ends))
        return TrajectoryBatch(SelectedColumns(self.columns, partial(getattr, self), numbers, begins, ends))

    def _followed_by(self, others: Sequence[TrajectoryBatch]) -> TrajectoryBatch:
        return TrajectoryBatch.concatenate([self, *others])

    def _relabeled(self, rewards: Rewards) -> TrajectoryBatch:
        rews = [relabeled(each, rewards).rews for each in self]
        return TrajectoryBatch(self._arrays(concatenate(rews, "rews") if rews else np.empty(0)))

    def _values(self, column: str) -> Sequence[Any]:
        return episode_values(self, column)

    def _episode_table(self) -> Any:
        return episode_table(self)

    def _episode_keys(self) -> Sequence[Hashable]:
        return [episode_key(each, number) for number, each in enumerate(self.episodes)]

    def __iter__(self) -> Iterator[Trajectory]:
        """The trajectories, in order."""
        return map(self.columns.trajectory, range(len(self)))

    def __eq__(self, other: object) -> bool:
        """Whether all data is equal, identity (`episodes`) aside; never raises."""
        if not isinstance(other, TrajectoryBatch) or self.has_rews != other.has_rews:
            return False
        infos = [infos_or_empty(batch.infos, batch.total_steps) for batch in (self, other)]
        names = ["lengths", "terminated", "truncated", "acts", "obs", *(["rews"] if self.has_rews else [])]
        return all(equal(getattr(self, name), getattr(other, name)) for name in names) and equal(*infos)

    __hash__ = None  # type: ignore[assignment]  # holds arrays, which are not hashable

    def __reduce__(self) -> tuple[Any, ...]:
        # The columns in memory: those of recorders and files refer to much more than the batch.
        return TrajectoryBatch, (self._arrays(self.rews),)

    def _arrays(self, rews: Any) -> ArrayColumns:
        """The columns in memory, with these rewards."""
        flags = self.terminated, self.truncated
        return ArrayColumns(self.obs, self.acts, rews, self.infos, self.lengths, *flags, list(self.episodes))

    def __repr__(self) -> str:
        ended = int((self.terminated | self.truncated).sum())
        return f"<TrajectoryBatch of {len(self)} trajectories, {self.total_steps} steps, {ended} reached an end>"
