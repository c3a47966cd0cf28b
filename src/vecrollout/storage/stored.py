"""Trajectories of traces by number, and what is known of them."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from itertools import pairwise
from typing import Any, Self

import gymnasium
import numpy as np
import numpy.typing as npt

from vecrollout.data.batch import TrajectoryBatch
from vecrollout.data.choosing import Numbers
from vecrollout.data.grouping import grouped
from vecrollout.data.html import card
from vecrollout.data.sampling.step_index import StepIndex
from vecrollout.data.sequence import TrajectorySequence
from vecrollout.data.trajectory import Episode, Trajectory
from vecrollout.errors import OptionError
from vecrollout.storage.codec.schema import FIELDS
from vecrollout.storage.describing import agreed, common_entries, frame_of_episodes, frame_of_steps, summary_lines
from vecrollout.storage.files.objects import shown
from vecrollout.storage.order import Order


class StoredTrajectories(TrajectorySequence):
    """Trajectories in one or more directories of traces, or some of them: how to read and describe them.

    Args:
        order: Which trajectories, in which order.
    """

    def __init__(self, order: Order) -> None:
        self.order = order
        """Which trajectories, in which order."""

    def _at(self, number: int) -> Trajectory:
        return self.order.trajectory(number, 0, self.order.lengths.item(number))

    def _selected(self, numbers: Any) -> Self:
        return type(self)(self.order.select(numbers))

    def _parts(self, numbers: Numbers, begins: Numbers, ends: Numbers) -> Self:
        return type(self)(self.order.parts(numbers, begins, ends))

    def _followed_by(self, others: Sequence[Self]) -> Self:
        return type(self)(self.order.followed_by([each.order for each in others]))

    def _numbers(self, key: Any, name: str) -> Numbers:
        return self.order.numbers(key, name)

    def _values(self, column: str) -> Sequence[Any]:
        table = self.table
        if column not in table.column_names:
            raise OptionError(f"column: expected one of {table.column_names}, got {column!r}")
        values: Sequence[Any] = table.column(column).to_pylist()
        return values

    def _episode_table(self) -> Any:
        return self.table

    def _episode_keys(self) -> Sequence[Hashable]:
        return self.order.episode_keys()

    @property
    def path(self) -> Any:
        """The absolute `Path` of the directory, or the URL of the object store; a list where several were given."""
        is_one = len(self.order.paths) == 1
        return self.order.paths[0] if is_one else list(self.order.paths)

    def __iter__(self) -> Iterator[Trajectory]:
        """All trajectories, in order."""
        return self.order.trajectories()

    def batches(self) -> Iterator[TrajectoryBatch]:
        """All trajectories as columns. This is the quickest way to read everything.

        Yields:
            Batches of up to some ten thousand steps or some megabytes. All of a directory comes as it was written, in
            the order of the files; the trajectories of a view come in the order of the view. Columns are read-only, and
            decompressed when you ask for them.

        Raises:
            DamagedTraceError: If one cannot be read, or is not what was written.
        """
        if self.order.is_all:
            for source in self.order.sources:
                yield from source.batches()
            return
        yield from grouped(self)

    def trajectory(self, number: int, start: int = 0, stop: int | None = None) -> Trajectory:
        """A trajectory, or some of its steps.

        Args:
            number: Which trajectory; negative ones count from the end.
            start: First step, counted from the trajectory's own first; negative ones count from its end.
            stop: End of the steps; None: the trajectory's end.

        Returns:
            A `TrajectoryWithRew` where there are rewards. Some of the steps are a fragment, whose `episode` says which
            part of the episode it is.

        Raises:
            IndexError: If there is no such trajectory.
            ArgumentTypeError: If a number is no integer.
            OptionError: If the range has no steps.
            DamagedTraceError: If it cannot be read, or is not what was written.
        """
        at = self.order.at(number)
        return self.order.trajectory(at, *self.order.range(at, start, stop))

    episode = trajectory
    """Another name of `trajectory`."""

    def columns(self, number: int, names: Sequence[str], start: int = 0, stop: int | None = None) -> dict[str, Any]:
        """Some fields of a trajectory, without decompressing the others.

        Args:
            number: Which trajectory; negative ones count from the end.
            names: Of `obs`, `acts`, `rews`, `infos`.
            start: First step, counted from the trajectory's own first; negative ones count from its end.
            stop: End of the steps; None: the trajectory's end.

        Returns:
            The fields by name: `acts`, `rews` and `infos` with a row a step, `obs` with one more.

        Raises:
            IndexError: If there is no such trajectory.
            ArgumentTypeError: If a number is no integer.
            OptionError: If a name is none of these, or the range has no steps.
            DamagedTraceError: If it cannot be read, or is not what was written.
        """
        unknown = set(names) - set(FIELDS)
        if unknown:
            raise OptionError(f"names: expected some of {FIELDS}, got {sorted(unknown)}")
        at = self.order.at(number)
        return self.order.columns(at, names, *self.order.range(at, start, stop))

    @property
    def step_index(self) -> StepIndex:
        """Where each step lies, for the methods that draw steps and windows."""
        return self.order.step_index

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Steps of each trajectory, shape `(N,)`, as the journals tell."""
        return self.order.lengths

    def identity(self, number: int) -> Episode:
        """Which episode a trajectory is of, and which part of it, without reading its arrays.

        Args:
            number: Which trajectory; negative ones count from the end.

        Returns:
            What `traces[number].episode` is.

        Raises:
            IndexError: If there is no such trajectory.
            ArgumentTypeError: If the number is no integer.
            DamagedTraceError: If it cannot be read.
        """
        return self.order.identity(self.order.at(number))

    def metadata_of(self, number: int) -> dict[str, Any]:
        """The metadata that was given with a trajectory when it was appended.

        Args:
            number: Which trajectory; negative ones count from the end.

        Returns:
            The metadata, by name.

        Raises:
            IndexError: If there is no such trajectory.
            ArgumentTypeError: If the number is no integer.
            DamagedTraceError: If it cannot be read.
        """
        return self.order.metadata(self.order.at(number))

    def about(self, number: int) -> dict[str, Any]:
        """What is known of the trace that a trajectory is in.

        Args:
            number: Which trajectory; negative ones count from the end.

        Returns:
            `spaces`: observation and action space, None for one of an unknown kind; None where they were not given.
            `env_spec`: the environment as the writer was told, or None. `metadata`: the user's metadata.
            `versions`: of the packages that wrote it. `writer` and `compression`.

        Raises:
            IndexError: If there is no such trajectory.
            ArgumentTypeError: If the number is no integer.
            DamagedTraceError: If it cannot be read.
        """
        return self.order.about(self.order.at(number))

    @property
    def observation_space(self) -> gymnasium.Space[Any] | None:
        """The observation space; None where no writer was told one. A `SpaceMismatchError` where they differ."""
        return self._space(0, "observation_space")

    @property
    def action_space(self) -> gymnasium.Space[Any] | None:
        """The action space; None where no writer was told one. A `SpaceMismatchError` where they differ."""
        return self._space(1, "action_space")

    def _space(self, place: int, name: str) -> gymnasium.Space[Any] | None:
        spaces = [each["spaces"][place] for each in self.order.abouts.values() if each["spaces"] is not None]
        space: gymnasium.Space[Any] | None = agreed(name, spaces)
        return space

    @property
    def env_spec(self) -> str | None:
        """The environment as the writers were told; None where none was. A `SpaceMismatchError` where they differ."""
        spec: str | None = agreed("env_spec", [each["env_spec"] for each in self.order.abouts.values()])
        return spec

    @property
    def metadata(self) -> dict[str, Any]:
        """Metadata of the trace; of several traces, the entries that all have in common."""
        return common_entries([each["metadata"] for each in self.order.abouts.values()])

    @property
    def table(self) -> Any:
        """The episode table, as `to_arrow` returns it."""
        return self.order.table

    def summary(self) -> str:
        """A few lines of text: episodes, steps, how they ended, returns, lengths, size. No observations are read.

        Returns:
            One item a line. Returns are undiscounted sums of rewards; standard deviations are of the population. The
            size on disk is the trajectories' share of the batches that they are in.

        Raises:
            DamagedTraceError: If the trace cannot be read, or is not what was written.
        """
        lines = summary_lines(self.order)
        width = max(map(len, lines))
        return "\n".join(f"{name:<{width}}  {text}" for name, text in lines.items())

    def to_arrow(self) -> Any:
        """The episode table: a row a trajectory, in order. It is made once, in one pass over rewards and identities.

        Their checksums are compared. Where rows are large, images for example, observations are not read.

        Returns:
            A `pyarrow.Table`. `return_` (sum of rewards, float64; null without rewards), `length` (steps),
            `terminated`, `truncated`, `ended_by`, `env` (index of the environment), `seed`, `recording`, `id` (number
            of the episode in its recording), `start_step` and `writer`. Then a column for each key of the metadata of
            traces and of trajectories; of equal keys, the trajectory's counts. Values that are neither numbers nor text
            are JSON. A key with the name of one of the other columns is in `metadata.<key>`.

        Raises:
            DamagedTraceError: If the trace cannot be read, or is not what was written.
        """
        return self.table

    def to_pandas(self, *, steps: bool = False) -> Any:
        """The episode table, or all steps, as a pandas `DataFrame`.

        Args:
            steps: False: a row a trajectory, with the columns of `to_arrow()`. True: a row a step, all of them in
                memory: `trajectory` (number in this data set), `step` (index in the episode), `obs`, `acts`, `rews`,
                `terminated` and `truncated`. Cells of `obs` and `acts` are numbers, or arrays; entries of dicts have
                columns of their own, such as `obs['camera']`. Last observations are left out.

        Raises:
            MissingDependencyError: If pandas is not installed.
            DamagedTraceError: If the trace cannot be read, or is not what was written.
        """
        return frame_of_steps(self) if steps else frame_of_episodes(self.table)

    def episodes(self) -> list[range]:
        """Which trajectories belong to which episode.

        Returns:
            A range of numbers for each episode. Several numbers are the episode's fragments, in order. A view can
            separate the fragments of an episode, which then are in several ranges; `whole_episodes` finds them.
        """
        changes = np.flatnonzero(np.diff(self.order.episode_numbers)) + 1
        return [range(begin, end) for begin, end in pairwise([0, *changes.tolist(), len(self)] if len(self) else [])]

    def __repr__(self) -> str:
        where = ", ".join(map(shown, self.order.paths))
        return f"<TraceDataset of {len(self)} trajectories in {where!r}>"

    def _repr_html_(self) -> str:
        """The summary as a table, with the returns (or lengths) as a curve, for notebooks."""
        returns = self.table.column("return_").drop_null().to_numpy()
        values, name = (returns, "returns") if len(returns) else (self.lengths, "lengths")
        where = ", ".join(map(shown, self.order.paths))
        return card(f"TraceDataset {where}", summary_lines(self.order), values, name)
