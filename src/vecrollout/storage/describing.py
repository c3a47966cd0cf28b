"""What is said of a data set as a whole: statistics, a summary, tables, and what its traces have in common."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from vecrollout.data.equality import same
from vecrollout.data.sizes import size_text
from vecrollout.data.stats import statistics
from vecrollout.data.structures import Structure
from vecrollout.data.trajectory import Trajectory, TrajectoryWithRew
from vecrollout.errors import MissingDependencyError, SpaceMismatchError
from vecrollout.storage.order import Order


def frame_of_steps(trajectories: Iterable[Trajectory]) -> Any:
    """All steps as a pandas `DataFrame`."""
    pandas = _pandas()
    frames = [pandas.DataFrame(_steps(number, each)) for number, each in enumerate(trajectories)]
    return pandas.concat(frames, ignore_index=True)


def frame_of_episodes(table: Any) -> Any:
    """The episode table as a pandas `DataFrame`."""
    _pandas()
    return table.to_pandas()


def stats_of(table: Any) -> dict[str, float]:
    """Number of trajectories, and statistics of returns and lengths, as in `rollout_stats`."""
    samples = {"return": table.column("return_").drop_null().to_numpy(), "len": table.column("length").to_numpy()}
    return {"n_traj": len(table), **statistics({name: values for name, values in samples.items() if len(values)})}


def summary_lines(order: Order) -> dict[str, str]:
    """A few lines about the trajectories, by name."""
    table = order.table
    lengths = table.column("length").to_numpy()
    returns = table.column("return_").drop_null().to_numpy()
    endings = Counter(each or "not ended" for each in table.column("ended_by").to_pylist())
    environments = table.column("env").drop_null().unique()
    size, steps = round(float(order.sizes.sum())), int(lengths.sum())
    return {
        "episodes": f"{len(set(order.episode_keys())):,}",
        "trajectories": f"{len(table):,}",
        "steps": f"{steps:,}",
        "ended by": ", ".join(f"{name} {count:,}" for name, count in endings.most_common()) or "-",
        "environments": f"{len(environments):,}",
        "return": _spread(returns),
        "length": _spread(lengths),
        "size on disk": f"{size_text(size)}, {size / max(steps, 1):,.1f} bytes a step",
    }


def agreed(name: str, values: Sequence[Any]) -> Any:
    """The value that all given ones are equal to; None if there are none."""
    told = [value for value in values if value is not None]
    for value in told[1:]:
        if not same(value, told[0]):
            raise SpaceMismatchError(
                f"{name}: expected the same in all traces, got {told[0]} and {value}; `about(number)` tells that of a "
                "trajectory, and `select` takes those of one kind"
            )
    return told[0] if told else None


def common_entries(all_metadata: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Entries of metadata that all have in common."""
    first, *others = all_metadata or [{}]
    return {key: value for key, value in first.items() if all(key in it and same(it[key], value) for it in others)}


def _pandas() -> Any:
    try:
        import pandas
    except ImportError as error:
        raise MissingDependencyError(
            'to_pandas needs pandas: install it with: pip install "vecrollout[pandas]"'
        ) from error
    return pandas


def _steps(number: int, trajectory: Trajectory) -> dict[str, Any]:
    steps = len(trajectory)
    last = np.arange(steps) == steps - 1
    columns: dict[str, Any] = {
        "trajectory": np.full(steps, number),
        "step": trajectory.episode.start_step + np.arange(steps),
    }
    for name, tree in (("obs", trajectory.obs[:-1]), ("acts", trajectory.acts)):
        structure = Structure.of(tree)
        for column, leaf in zip(structure.names(name), structure.flatten(tree), strict=True):
            columns[column] = leaf if leaf.ndim == 1 else list(leaf)
    if isinstance(trajectory, TrajectoryWithRew):
        columns["rews"] = trajectory.rews
    return {**columns, "terminated": last & trajectory.terminated, "truncated": last & trajectory.truncated}


def _spread(values: Any) -> str:
    if not len(values):
        return "-"
    found = {"min": values.min(), "mean": values.mean(), "median": np.median(values), "max": values.max()}
    return f"{', '.join(f'{name} {value:,.6g}' for name, value in found.items())}, std {values.std():,.6g}"
