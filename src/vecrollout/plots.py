"""Plots of recordings: returns and lengths over the recording, distributions of rewards and actions.

Each function draws into axes of matplotlib. All of them take a `TraceDataset`, a view of one, a `TrajectoryBatch`, or a
list of trajectories. Of a `TraceDataset`, whole episodes count, with their fragments joined.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from vecrollout.data.array_tree import ArrayTree
from vecrollout.data.structures import Structure
from vecrollout.data.trajectory import Trajectory
from vecrollout.errors import ArgumentTypeError, MissingDependencyError, OptionError, ShapeError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["PLOTS", "actions", "lengths", "overview", "returns", "rewards"]

_ACCENT, _DARK = "#3b5bdb", "#1f2440"
_STEPS = 2_000_000  # of which a distribution is drawn at most
_POINTS = 5_000  # more points are drawn as one image, also in an SVG
_DIMENSIONS = 8  # of actions, drawn as lines of their own
_VALUES = 50  # integers up to here have a bar each


def returns(trajectories: Iterable[Trajectory], ax: Axes) -> None:
    """Draw the return of each episode over the recording, and its running mean.

    Args:
        trajectories: A data set, a batch or a list, with rewards that are numbers.
        ax: Where to draw.

    Raises:
        ShapeError: If there is no whole episode, or rewards are missing or vectors.
        ArgumentTypeError: If `trajectories` is something else.
    """
    _over_time(_column(trajectories, "return_", _return), ax, "return")


def lengths(trajectories: Iterable[Trajectory], ax: Axes) -> None:
    """Draw the length of each episode over the recording, in steps, and its running mean.

    Args:
        trajectories: A data set, a batch or a list.
        ax: Where to draw.

    Raises:
        ShapeError: If there is no whole episode.
        ArgumentTypeError: If `trajectories` is something else.
    """
    _over_time(_column(trajectories, "length", len), ax, "steps")


def rewards(trajectories: Iterable[Trajectory], ax: Axes) -> None:
    """Draw the distribution of the rewards of all steps; of more than 2,000,000 steps, that of some trajectories.

    Args:
        trajectories: A data set, a batch or a list, with rewards.
        ax: Where to draw.

    Raises:
        ShapeError: If there is no trajectory, or rewards are missing.
        ArgumentTypeError: If `trajectories` is something else.
    """
    found = [np.asarray(each, np.float64) for each in _steps(trajectories, "rews")]
    values = np.concatenate(found)
    if values.ndim > 1:
        _distributions({f"rews[{at}]": values[:, at] for at in range(values.shape[1])}, ax, "reward")
    else:
        _distributions({"rews": values}, ax, "reward")


def actions(trajectories: Iterable[Trajectory], ax: Axes) -> None:
    """Draw the distribution of the actions of all steps; of more than 2,000,000 steps, that of some trajectories.

    Args:
        trajectories: A data set, a batch or a list. Of actions with more than 8 numbers, the first 8 are drawn.
        ax: Where to draw.

    Raises:
        ShapeError: If there is no trajectory.
        ArgumentTypeError: If `trajectories` is something else, or actions are not numbers.
    """
    found: dict[str, list[Any]] = {}
    for acts in _steps(trajectories, "acts"):
        structure = Structure.of(acts)
        for name, leaf in zip(structure.names("acts"), structure.flatten(acts), strict=True):
            if leaf.dtype.kind not in "biuf":
                raise ArgumentTypeError(f"{name}: expected numbers, got dtype {leaf.dtype}")
            found.setdefault(name, []).append(leaf.reshape(len(leaf), -1))
    columns: dict[str, npt.NDArray[Any]] = {}
    for name, leaves in found.items():
        joined = np.concatenate(leaves)
        is_one = joined.shape[1] == 1
        columns |= {name if is_one else f"{name}[{at}]": joined[:, at] for at in range(joined.shape[1])}
    _distributions(dict(list(columns.items())[:_DIMENSIONS]), ax, "action")


PLOTS: dict[str, Callable[[Any, Any], None]] = {
    "returns": returns,
    "lengths": lengths,
    "rewards": rewards,
    "actions": actions,
}
"""The plots by name."""


def overview(
    trajectories: Iterable[Trajectory], path: str | Path | None = None, *, plots: Iterable[str] = tuple(PLOTS)
) -> Figure:
    """Draw some plots side by side.

    Args:
        trajectories: A data set, a batch or a list.
        path: Where to save the picture; its suffix is the format, such as `.png`, `.svg` or `.pdf`. None: it is not
            saved.
        plots: Names of the plots, of `PLOTS`.

    Returns:
        The figure, which is not one of pyplot's.

    Raises:
        OptionError: If a plot or the format is unknown, or no plot is named.
        ShapeError: If there is no whole episode, or rewards are missing.
        ArgumentTypeError: If `trajectories` is something else.
        MissingDependencyError: If matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependencyError('plots need matplotlib: pip install "vecrollout[plot]"') from error
    names = list(plots)
    unknown = [name for name in names if name not in PLOTS]
    if unknown or not names:
        raise OptionError(f"plots: expected some of {', '.join(PLOTS)}, got {', '.join(unknown) or 'none'}")
    columns = min(len(names), 2)
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(5.2 * columns, 3.4 * rows), layout="constrained")
    listed = trajectories if hasattr(trajectories, "__len__") else list(trajectories)
    for at, name in enumerate(names):
        PLOTS[name](listed, figure.add_subplot(rows, columns, at + 1))
    if path is not None:
        try:
            figure.savefig(path, dpi=150)
        except ValueError as error:
            raise OptionError(
                f"path: expected the name of a picture such as returns.png, got {path!s}: {error}"
            ) from error
    return figure


def _column(trajectories: Any, column: str, of_one: Callable[[Any], float]) -> npt.NDArray[np.float64]:
    """A number for each whole episode."""
    if hasattr(trajectories, "whole_episodes"):
        values = trajectories.whole_episodes().to_arrow().column(column)
        if values.null_count:
            raise ShapeError("trajectories: expected rewards that are numbers, got some without")
        found = values.to_numpy()
    else:
        found = np.array([of_one(each) for each in _checked(trajectories)])
    if not len(found):
        raise ShapeError("trajectories: expected at least one whole episode, got none")
    return np.asarray(found, np.float64)


def _checked(trajectories: Any) -> Iterator[Any]:
    if not isinstance(trajectories, Iterable) or isinstance(trajectories, str | bytes | Trajectory):
        raise ArgumentTypeError(
            f"trajectories: expected a data set, a batch or a list, got {type(trajectories).__name__}"
        )
    for each in trajectories:
        if not isinstance(each, Trajectory):
            raise ArgumentTypeError(f"trajectories: expected trajectories, got a {type(each).__name__}")
        yield each


def _return(trajectory: Any) -> float:
    rews = _rewards_of(trajectory)
    if rews.ndim != 1:
        raise ShapeError("trajectories: expected rewards that are numbers, got vectors")
    return float(rews.sum(dtype=np.float64))


def _rewards_of(trajectory: Any) -> Any:
    rews = getattr(trajectory, "rews", None)
    if rews is None:
        raise ShapeError("trajectories: expected rewards, got a trajectory without")
    return rews


def _steps(trajectories: Any, name: str) -> Iterator[Any]:
    """Actions or rewards of trajectories, of every n-th one where there are too many steps."""
    has_columns = hasattr(trajectories, "whole_episodes")
    if not has_columns:
        trajectories = list(_checked(trajectories))
    counts = trajectories.lengths if has_columns else np.array(list(map(len, trajectories)), np.int64)
    if not len(counts):
        raise ShapeError("trajectories: expected at least one, got none")
    for number in range(0, len(counts), 1 + int(counts.sum()) // _STEPS):
        if has_columns:
            # Observations, which may be large, are not read.
            found = trajectories.columns(number, [name])[name]
        else:
            found = trajectories[number].acts if name == "acts" else _rewards_of(trajectories[number])
        if found is None:
            raise ShapeError("trajectories: expected rewards, got a trajectory without")
        yield found if isinstance(found, ArrayTree) else np.asarray(found)


def _over_time(values: npt.NDArray[np.float64], ax: Axes, label: str) -> None:
    numbers = np.arange(len(values))
    is_many = len(values) > _POINTS
    ax.scatter(numbers, values, s=10, color=_ACCENT, alpha=0.35, linewidths=0, rasterized=is_many, label="episode")
    window = max(1, len(values) // 20)
    if len(values) >= 3 and window > 1:
        sums = np.cumsum(np.concatenate([[0.0], values]))
        means = (sums[window:] - sums[:-window]) / window
        ax.plot(numbers[window - 1 :], means, color=_DARK, linewidth=1.6, label=f"mean of {window}")
        ax.legend(frameon=False)
    _label(ax, "episode", label)


def _distributions(columns: dict[str, npt.NDArray[Any]], ax: Axes, label: str) -> None:
    values = np.concatenate([each.astype(np.float64) for each in columns.values()])
    values = values[np.isfinite(values)]
    if not len(values):
        raise ShapeError(f"trajectories: expected finite numbers in {', '.join(columns)}, got none")
    low, high = float(values.min()), float(values.max())
    is_whole = bool((values == np.floor(values)).all()) and high - low < _VALUES
    edges = np.arange(low - 0.5, high + 1.0) if is_whole else np.linspace(low, high if high > low else low + 1.0, 41)
    for at, (name, each) in enumerate(columns.items()):
        shares, _ = np.histogram(each.astype(np.float64), edges)
        shares = shares / max(len(each), 1)
        if len(columns) == 1:
            width = np.diff(edges) * (0.8 if is_whole else 1.0)
            ax.bar((edges[:-1] + edges[1:]) / 2, shares, width, color=_ACCENT)
        else:
            ax.stairs(shares, edges, label=name, color=f"C{at}")
    if len(columns) > 1:
        ax.legend(frameon=False)
    if is_whole:
        ax.locator_params(axis="x", integer=True)
    _label(ax, label, "share of steps")


def _label(ax: Axes, x: str, y: str) -> None:
    ax.set_xlabel(x)
    ax.set_ylabel(y)
    ax.spines[["top", "right"]].set_visible(False)
    ax.set_axisbelow(True)
    ax.grid(axis="y", alpha=0.3)
