"""The methods of a data set that tell what is in it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np

from vecrollout.data.equality import same
from vecrollout.data.structures import Structure
from vecrollout.data.trajectory import Episode
from vecrollout.errors import MissingDependencyError, SpaceMismatchError
from vecrollout.storage.episode_table import summary_lines
from vecrollout.storage.order import Order
from vecrollout.storage.views import Viewed

_EXTRA = 'install it with: pip install "vecrollout[pandas]"'


def identity(self: Viewed, number: int) -> Episode:
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


def metadata_of(self: Viewed, number: int) -> dict[str, Any]:
    """What was said about a trajectory when it was appended.

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


def about(self: Viewed, number: int) -> dict[str, Any]:
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


def summary(self: Viewed) -> str:
    """A few lines of text: episodes, steps, how they ended, returns, lengths, size. No observations are read.

    Returns:
        One item a line. Returns are undiscounted sums of rewards; standard deviations are of the population. The size
        on disk is the trajectories' share of the batches that they are in.

    Raises:
        DamagedTraceError: If the trace cannot be read, or is not what was written.
    """
    lines = summary_lines(self.order, self.table)
    width = max(map(len, lines))
    return "\n".join(f"{name:<{width}}  {text}" for name, text in lines.items())


def to_arrow(self: Viewed) -> Any:
    """The episode table: a row a trajectory, in order. It is made in one pass that reads no observations, and kept.

    Where rows are large, images for example, checksums are not compared either; reading the trajectories does that.

    Returns:
        A `pyarrow.Table`. `return_` (sum of rewards, float64; null without rewards), `length` (steps), `terminated`,
        `truncated`, `ended_by`, `env` (index of the environment), `seed`, `recording`, `id` (number of the episode in
        its recording), `start_step` and `writer`. Then a column for each key of the metadata of traces and of
        trajectories; of equal keys, the trajectory's counts. Values that are neither numbers nor text are JSON. A key
        with the name of one of the other columns is in `metadata.<key>`.

    Raises:
        DamagedTraceError: If the trace cannot be read, or is not what was written.
    """
    return self.table


def to_pandas(self: Viewed, *, steps: bool = False) -> Any:
    """The episode table, or all steps, as a pandas `DataFrame`.

    Args:
        steps: False: a row a trajectory, with the columns of `to_arrow()`. True: a row a step, all of them in memory:
            `trajectory` (number in this data set), `step` (index in the episode), `obs`, `acts`, `rews`, `terminated`
            and `truncated`. Cells of `obs` and `acts` are numbers, or arrays; entries of dicts have columns of their
            own, such as `obs['camera']`. Last observations are left out.

    Raises:
        MissingDependencyError: If pandas is not installed.
        DamagedTraceError: If the trace cannot be read, or is not what was written.
    """
    try:
        import pandas
    except ImportError as error:
        raise MissingDependencyError(f"to_pandas needs pandas: {_EXTRA}") from error
    if not steps:
        return self.table.to_pandas()
    numbered = enumerate(self)
    return pandas.concat([pandas.DataFrame(_steps(number, each)) for number, each in numbered], ignore_index=True)


def _steps(number: int, trajectory: Any) -> dict[str, Any]:
    steps = len(trajectory)
    last = np.arange(steps) == steps - 1
    columns = {"trajectory": np.full(steps, number), "step": trajectory.episode.start_step + np.arange(steps)}
    for name, tree in (("obs", trajectory.obs[:-1]), ("acts", trajectory.acts)):
        structure = Structure.of(tree)
        for column, leaf in zip(structure.names(name), structure.flatten(tree), strict=True):
            columns[column] = leaf if leaf.ndim == 1 else list(leaf)
    if hasattr(trajectory, "rews"):
        columns["rews"] = trajectory.rews
    return {**columns, "terminated": last & trajectory.terminated, "truncated": last & trajectory.truncated}


def agreed(name: str, values: Sequence[Any]) -> Any:
    """What the given values have in common; None if there are none."""
    told = [value for value in values if value is not None]
    for value in told[1:]:
        if not same(value, told[0]):
            raise SpaceMismatchError(
                f"{name}: expected the same in all traces, got {told[0]} and {value}; `about(number)` tells that of a "
                "trajectory, and `select` takes those of one kind"
            )
    return told[0] if told else None


def agreed_space(order: Order, place: int, name: str) -> gymnasium.Space[Any] | None:
    """The observation space (0) or action space (1) of all traces."""
    spaces = [each["spaces"][place] for each in order.abouts.values() if each["spaces"] is not None]
    space: gymnasium.Space[Any] | None = agreed(name, spaces)
    return space


def common_metadata(order: Order) -> dict[str, Any]:
    """Entries of metadata that all traces have in common."""
    first, *others = [each["metadata"] for each in order.abouts.values()] or [{}]
    return {key: value for key, value in first.items() if all(key in it and same(it[key], value) for it in others)}
