"""Trajectories on disk as a sequence, which are read when they are asked for, and views of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import pairwise
from typing import Any, overload

import gymnasium
import numpy as np
import numpy.typing as npt

from vecrollout.data.batch import TrajectoryBatch
from vecrollout.data.checks import whole_number
from vecrollout.data.html import card
from vecrollout.data.sampling import methods
from vecrollout.data.sampling.step_index import StepIndex
from vecrollout.data.trajectory import Trajectory
from vecrollout.errors import OptionError, ProtocolError, StateError
from vecrollout.storage import describing, rewriting, views
from vecrollout.storage.codec.schema import FIELDS
from vecrollout.storage.episode_table import selected_table, stats_of, summary_lines
from vecrollout.storage.files.objects import shown
from vecrollout.storage.grouping import grouped
from vecrollout.storage.order import Order
from vecrollout.storage.reading.reader import MEMORY_BYTES, Paths, TraceReader


def open_traces(path: Paths, *, check: bool = True, memory_bytes: int = MEMORY_BYTES) -> TraceDataset:
    """Open the trajectories in a directory of traces.

    Only the writers' journals are read. A trace that is still being written opens too, and so does a directory in which
    no trace has begun; `refresh` shows what has been written since. A shard whose journal is missing is left out with a
    warning, and so is a directory that holds nothing but other files.

    Args:
        path: The directory that `TraceWriter`s wrote to, or the URL of an object store, such as `s3://bucket/prefix`.
            Several of them are read as one data set. A relative directory is the one at the time of opening. `~` is
            the home directory.
        check: Whether to compare each batch with its checksum when it is first read.
        memory_bytes: Limit of what `sample_transitions` and the like keep in memory. Columns of small rows are kept
            whole where they fit, and batches of the others.

    Returns:
        The data set. Trajectories are ordered by directory, then by writer, and then by the start of their episode.

    Raises:
        TraceNotFoundError: If there is no such directory.
        DamagedTraceError: If a journal is damaged, or a shard is missing or cut off.
        TraceVersionError: If a newer version of the package wrote one of the files.
        ArgumentTypeError: If `path` is neither a path nor a URL.
        OptionError: If the URL cannot be used, there is no path, or the same one twice.
        StoreError: If the object store fails.
        MissingDependencyError: If pyarrow, xxhash or a package that the URL needs is not installed.
    """
    reader = TraceReader.opened(path, check=check, memory_bytes=whole_number("memory_bytes", memory_bytes, 0))
    if not len(reader):
        reader.warn_of_another_place()
    return TraceDataset(Order.of(reader))


class TraceDataset(Sequence[Trajectory]):
    """Trajectories in one or more directories of traces, or some of them: a view.

    `open_traces` makes a data set of everything in a directory. Slices, lists of numbers and masks of it are data sets
    too, and so are the results of `filter`, `sort_by`, `select`, `split`, `concat`, `trim` and `relabel`. None of them
    copies data.

    Trajectories are read when they are asked for, and the batches that were used last are kept, up to 64 MiB of each
    directory. Arrays are read-only. Arrays of a trace without compression are views of the file, which must not change
    while they are in use.

    A data set can be pickled, for the workers of a `DataLoader` for example. It is opened anew where it is unpickled.

    Args:
        order: Which trajectories, in which order.
    """

    def __init__(self, order: Order) -> None:
        self.order = order
        """Which trajectories, in which order."""

    @property
    def path(self) -> Any:
        """The absolute `Path` of the directory, or the URL of the object store; a list where several were given."""
        is_one = len(self.order.paths) == 1
        return self.order.paths[0] if is_one else list(self.order.paths)

    def refresh(self) -> None:
        """See what was written since the data set was opened. Trajectories may move to other numbers.

        Views that were made before stay as they are.

        Raises:
            ProtocolError: If this is a view; refresh the data set that `open_traces` returned.
            DamagedTraceError: If a journal is damaged, or a shard is missing or cut off.
            TraceVersionError: If a newer version of the package wrote one of the files.
            StoreError: If the object store fails.
        """
        readers = [source for source in self.order.sources if isinstance(source, TraceReader)]
        if not self.order.is_all or len(readers) < len(self.order.sources):
            raise ProtocolError("refresh: expected the data set that open_traces returned, got a view of it")
        self.order = Order.of(*(reader.refreshed() for reader in readers))
        vars(self).pop("table", None)

    def __len__(self) -> int:
        """Number of trajectories."""
        return len(self.order)

    @overload
    def __getitem__(self, key: int) -> Trajectory: ...

    @overload
    def __getitem__(self, key: slice | Sequence[int] | npt.NDArray[Any]) -> TraceDataset: ...

    def __getitem__(self, key: Any) -> Any:
        """One trajectory, or a view of several (slice, integers, mask).

        Raises:
            IndexError: If there is no such trajectory.
            ArgumentTypeError: If the key has another type.
            DamagedTraceError: If it cannot be read, or is not what was written.
        """
        if isinstance(key, int):
            return self.trajectory(key)
        numbers = self.order.numbers(key)
        return TraceDataset(self.order.select(numbers)) if numbers.ndim else self.trajectory(int(numbers))

    def __iter__(self) -> Iterator[Trajectory]:
        """All trajectories, in order."""
        return self.order.trajectories()

    def batches(self) -> Iterator[TrajectoryBatch]:
        """All trajectories as columns. This is the quickest way to read everything.

        Yields:
            Batches of some thousand steps, or some megabytes. Everything in a directory comes as it was written, in the
            order of the files; the trajectories of a view come in the view's order. Columns are read-only.

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
        return self.order.trajectory(at, *_range(self.order.lengths.item(at), start, stop))

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
        return self.order.columns(at, names, *_range(self.order.lengths.item(at), start, stop))

    @property
    def step_index(self) -> StepIndex:
        """Where each step lies, for the methods that draw steps and windows."""
        return self.order.step_index

    sample_transitions = methods.sample_transitions
    sample_windows = methods.sample_windows
    steps = methods.steps
    windows = methods.windows
    n_step = methods.n_step
    returns_to_go = methods.returns_to_go
    normalization = methods.normalization

    select = views.select
    filter = views.filter
    sort_by = views.sort_by
    split = views.split
    concat = views.concat
    trim = views.trim
    relabel = views.relabel
    stitched = views.stitched
    whole_episodes = views.whole_episodes
    write = rewriting.write

    @cached_property
    def table(self) -> Any:
        """The episode table, as `to_arrow` returns it."""
        return selected_table(self.order)

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Steps of each trajectory, shape `(N,)`, as the journals tell."""
        return self.order.lengths

    @property
    def total_steps(self) -> int:
        """Steps of all trajectories together, as the journals tell."""
        return int(self.order.lengths.sum())

    @property
    def observation_space(self) -> gymnasium.Space[Any] | None:
        """The observation space; None where no writer was told one. A `SpaceMismatchError` where they differ."""
        return describing.agreed_space(self.order, 0, "observation_space")

    @property
    def action_space(self) -> gymnasium.Space[Any] | None:
        """The action space; None where no writer was told one. A `SpaceMismatchError` where they differ."""
        return describing.agreed_space(self.order, 1, "action_space")

    @property
    def env_spec(self) -> str | None:
        """The environment as the writers were told; None where none was. A `SpaceMismatchError` where they differ."""
        spec: str | None = describing.agreed("env_spec", [each["env_spec"] for each in self.order.abouts.values()])
        return spec

    @property
    def metadata(self) -> dict[str, Any]:
        """Metadata of the trace; of several traces, the entries that all have in common."""
        return describing.common_metadata(self.order)

    @property
    def stats(self) -> dict[str, float]:
        """`n_traj`, `return_{min,mean,std,max}`, `len_{min,mean,std,max}` of whole episodes, as in `rollout_stats`."""
        return stats_of(self.whole_episodes().table)

    identity = describing.identity
    metadata_of = describing.metadata_of
    about = describing.about
    summary = describing.summary
    to_arrow = describing.to_arrow
    to_pandas = describing.to_pandas

    def episodes(self) -> list[range]:
        """Which trajectories belong to which episode.

        Returns:
            A range of numbers for each episode. Several numbers are the episode's fragments, in order. A view can
            separate the fragments of an episode, which then are in several ranges; `whole_episodes` finds them.
        """
        changes = np.flatnonzero(np.diff(self.order.episode_numbers)) + 1
        return [range(begin, end) for begin, end in pairwise([0, *changes.tolist(), len(self)] if len(self) else [])]

    def __getstate__(self) -> dict[str, Any]:
        """Without the table, which is made anew; a view tells how many trajectories there were."""
        order = self.order
        if order.is_all:
            return {"sources": order.sources}
        return {"order": order, "counts": [len(source.lengths) for source in order.sources]}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.order = order = state["order"] if "order" in state else Order.of(*state["sources"])
        now = [len(source.lengths) for source in order.sources]
        if state.get("counts", now) != now:
            raise StateError(
                f"expected {state['counts']} trajectories, as when the view was pickled, got {now}: the trace has "
                "grown since; load it after its writer was closed"
            )

    def __repr__(self) -> str:
        where = ", ".join(map(shown, self.order.paths))
        return f"<TraceDataset of {len(self)} trajectories in {where!r}>"

    def _repr_html_(self) -> str:
        """The summary as a table, with the returns (or lengths) as a curve, for notebooks."""
        returns = self.table.column("return_").drop_null().to_numpy()
        values, name = (returns, "returns") if len(returns) else (self.lengths, "lengths")
        where = ", ".join(map(shown, self.order.paths))
        return card(f"TraceDataset {where}", summary_lines(self.order, self.table), values, name)


def _range(steps: int, start: int, stop: int | None) -> tuple[int, int]:
    """Which of a trajectory's steps are asked for."""
    if start == 0 and stop is None:
        return 0, steps
    start = whole_number("start", start)
    stop = None if stop is None else whole_number("stop", stop)
    begin, end, _ = slice(start, stop).indices(steps)
    if begin >= end:
        raise OptionError(f"start, stop: expected a range within {steps} steps, got {start} to {stop}")
    return begin, end
