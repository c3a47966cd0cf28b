"""The methods of a data set that give views of it. A view copies nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, Protocol, TypeVar

import numpy as np

from vecrollout.data.checks import check_function, whole_number
from vecrollout.data.choosing import chosen, divided, matching, ordered
from vecrollout.data.trajectory import Trajectory
from vecrollout.errors import ArgumentTypeError, OptionError
from vecrollout.storage.arrow import pa
from vecrollout.storage.derived import Joined, Relabeled
from vecrollout.storage.episode_table import episode_keys
from vecrollout.storage.order import Order


class Viewed(Protocol):
    """A data set, as these methods see it."""

    order: Order

    @property
    def table(self) -> Any:
        """The episode table."""

    def __init__(self, order: Order) -> None: ...

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Trajectory]: ...


ViewT = TypeVar("ViewT", bound=Viewed)


def select(self: ViewT, numbers: Any) -> ViewT:
    """Some of the trajectories, in the order of the numbers; the same as `traces[numbers]`.

    Args:
        numbers: Integers in one dimension, negative ones from the end, or a mask of all trajectories, or a slice.

    Raises:
        IndexError: If there is no such trajectory.
        ArgumentTypeError: If it is something else.
    """
    chosen_numbers = chosen(numbers, len(self), of="trajectories", name="numbers")
    return type(self)(self.order.select(np.atleast_1d(chosen_numbers)))


def filter(self: ViewT, condition: Any) -> ViewT:  # noqa: A001  # a method's name
    """The trajectories that fulfill a condition.

    Examples:
        >>> import tempfile, pyarrow.compute as pc
        >>> from vecrollout import TraceWriter, TrajectoryBatch, open_traces
        >>> batch = TrajectoryBatch.from_arrays(np.arange(7.0), np.zeros(5), np.ones(5), lengths=[2, 3])
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     with TraceWriter(directory) as writer:
        ...         writer.extend(batch)
        ...     traces = open_traces(directory)
        ...     len(traces.filter(pc.field("return_") > 2)), len(traces.filter(lambda each: len(each) == 2))
        (1, 1)

    Args:
        condition: A `pyarrow.compute` expression over the columns of `to_arrow()`, which reads no observations. Or a
            function of a trajectory, for which all trajectories are read.

    Raises:
        OptionError: If the expression names an unknown column, or is no condition.
        ArgumentTypeError: If it is neither an expression nor a function.
        DamagedTraceError: If the trace cannot be read, or is not what was written.
    """
    # Late: it takes a while, and who has an expression has it.
    from pyarrow.compute import Expression

    if not isinstance(condition, Expression):
        check_function("condition", condition, "a trajectory, or a pyarrow.compute expression")
        return type(self)(self.order.select(matching(self, condition)))
    table = self.table
    numbered = table.append_column("", pa.array(np.arange(len(table))))
    try:
        found = numbered.filter(condition).column("").to_numpy()
    except (pa.ArrowException, ValueError, TypeError) as error:
        raise OptionError(
            f"condition: expected an expression over the columns {table.column_names}, got {condition}: {error}"
        ) from error
    return type(self)(self.order.select(found))


def sort_by(self: ViewT, column: str, *, descending: bool = False) -> ViewT:
    """The trajectories in the order of a column.

    Args:
        column: One of the columns of `to_arrow()`, such as `"return_"` or `"length"`.
        descending: Whether the largest value comes first. Trajectories without a value come last in either case, and
            those with equal values stay in their order.

    Raises:
        OptionError: If there is no such column, or its values cannot be compared.
        DamagedTraceError: If the trace cannot be read, or is not what was written.
    """
    names = self.table.column_names
    if column not in names:
        raise OptionError(f"column: expected one of {names}, got {column!r}")
    return type(self)(self.order.select(ordered(self.table.column(column).to_pylist(), descending=descending)))


def split(self: ViewT, fractions: Mapping[str, float], rng: np.random.Generator) -> dict[str, ViewT]:
    """Parts of whole episodes, drawn at random. Fragments of one episode are in the same part.

    Args:
        fractions: Fraction of the episodes by name of the part, such as `{"train": 0.9, "val": 0.1}`; they add up to 1.
        rng: Where randomness comes from. The same state gives the same parts.

    Returns:
        A view for each name. Trajectories keep their order.

    Raises:
        OptionError: If the fractions do not add up to 1.
        ArgumentTypeError: If `fractions` is no dict of numbers, or `rng` no `np.random.Generator`.
        DamagedTraceError: If the trace cannot be read, or is not what was written.
    """
    parts = divided(episode_keys(self.order, self.table), fractions, rng)
    return {name: type(self)(self.order.select(numbers)) for name, numbers in parts.items()}


def concat(self: ViewT, *others: ViewT) -> ViewT:
    """These trajectories, and then those of other data sets.

    Args:
        others: Data sets, of other directories or views of the same one.

    Raises:
        ArgumentTypeError: If one is no `TraceDataset`.
    """
    for each in others:
        if not isinstance(each, type(self)):
            raise ArgumentTypeError(f"others: expected data sets, got {type(each).__name__}")
    return type(self)(self.order.followed_by([each.order for each in others]))


def trim(self: ViewT, start: int = 0, stop: int | None = None) -> ViewT:
    """Some steps of each trajectory, as in the slice `[start:stop]`. Trajectories without such steps are left out.

    Args:
        start: First step, counted from each trajectory's own first; negative ones count from its end.
        stop: End of the steps; None: each trajectory's end.

    Raises:
        ArgumentTypeError: If a number is no integer.
    """
    start = whole_number("start", start)
    return type(self)(self.order.trimmed(start, None if stop is None else whole_number("stop", stop)))


def relabel(self: ViewT, *, rews: Callable[[Trajectory], Any]) -> ViewT:
    """The trajectories with other rewards, which are worked out each time that a trajectory is read.

    Args:
        rews: Gets a `Trajectory` and returns its rewards, shape `(T,)`, float. It gives the same for the same
            trajectory.

    Raises:
        ArgumentTypeError: If `rews` is no function.
    """
    check_function("rews", rews, "a trajectory")
    return type(self)(Order.of(Relabeled(self, rews)))


def stitched(self: ViewT) -> ViewT:
    """The same steps with fragments joined where they follow one another in an episode.

    An episode of which steps are missing in between comes as several trajectories. Episodes are in the order of their
    first fragments.

    Raises:
        DamagedTraceError: If the trace cannot be read, or is not what was written.
    """
    starts, lengths = (self.table.column(name).to_pylist() for name in ("start_step", "length"))
    ended_by = self.table.column("ended_by").to_pylist()
    of_episode: dict[Any, list[int]] = {}
    for number, key in enumerate(episode_keys(self.order, self.table)):
        of_episode.setdefault(key, []).append(number)
    runs: list[Sequence[int]] = []
    for numbers in of_episode.values():
        numbers.sort(key=starts.__getitem__)
        run = numbers[:1]
        for left, right in pairwise(numbers):
            if ended_by[left] is None and starts[left] + lengths[left] == starts[right]:
                run.append(right)
            else:
                runs.append(run)
                run = [right]
        runs.append(run)
    return type(self)(Order.of(Joined(self, runs)))


def whole_episodes(self: ViewT) -> ViewT:
    """Episodes with all their steps, from the reset to the end that the environment gave them.

    Fragments of an episode are joined. Incomplete episodes are left out; `stitched` keeps them.

    Raises:
        DamagedTraceError: If the trace cannot be read, or is not what was written.
    """
    joined = stitched(self)
    columns = [joined.table.column(name).to_numpy() for name in ("start_step", "terminated", "truncated")]
    return type(self)(joined.order.select((columns[0] == 0) & (columns[1] | columns[2])))
