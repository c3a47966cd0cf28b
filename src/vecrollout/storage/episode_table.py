"""The episode table of a data set: made, filtered, and summarized."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable
from typing import Any

import numpy as np

from vecrollout.data.sizes import size_text
from vecrollout.data.stats import statistics
from vecrollout.data.structures import Structure
from vecrollout.data.trajectory import Trajectory, TrajectoryWithRew
from vecrollout.errors import MissingDependencyError
from vecrollout.storage.arrow import pa
from vecrollout.storage.order import Order
from vecrollout.storage.reading.table import joined_tables


def selected_table(order: Order) -> Any:
    """The table of the chosen parts of trajectories."""
    table = joined_tables([source.table for source in order.sources]).take(pa.array(order.positions()))
    (cut,) = np.nonzero(~order.is_whole)
    if not len(cut):
        return table
    reaches_end = order.stop == order.source_lengths
    returns = table.column("return_").to_pylist()
    for at in cut.tolist():
        if returns[at] is not None:
            rews = order.columns(at, ("rews",), 0, order.lengths.item(at))["rews"]
            returns[at] = float(rews.sum(dtype=np.float64))
    endings = zip(table.column("ended_by").to_pylist(), reaches_end.tolist(), strict=True)
    changed = {
        "return_": pa.array(returns, pa.float64()),
        "length": order.lengths,
        "start_step": table.column("start_step").to_numpy() + order.start,
        "terminated": table.column("terminated").to_numpy() & reaches_end,
        "truncated": table.column("truncated").to_numpy() & reaches_end,
        "ended_by": pa.array([ended_by if reaches else None for ended_by, reaches in endings], pa.string()),
    }
    return with_columns(table, changed)


def with_columns(table: Any, columns: dict[str, Any]) -> Any:
    """A table in which some columns are others."""
    for name, values in columns.items():
        table = table.set_column(table.schema.get_field_index(name), name, pa.chunked_array([pa.array(values)]))
    return table


def frame_of(table: Any) -> Any:
    """The table as a pandas `DataFrame`."""
    _pandas()
    return table.to_pandas()


def frame_of_steps(trajectories: Iterable[Trajectory]) -> Any:
    """All steps as a pandas `DataFrame`."""
    pandas = _pandas()
    frames = [pandas.DataFrame(_steps(number, each)) for number, each in enumerate(trajectories)]
    return pandas.concat(frames, ignore_index=True)


def episode_keys(order: Order, table: Any) -> list[Hashable]:
    """One value a trajectory, equal for the fragments of one episode, whichever writers wrote them."""
    identities = [table.column(name).to_pylist() for name in ("recording", "id", "env")]
    return [
        number if recording is None or id_ is None else (recording, id_, env)
        for number, recording, id_, env in zip(order.episode_numbers.tolist(), *identities, strict=True)
    ]


def stats_of(table: Any) -> dict[str, float]:
    """Number of trajectories, and statistics of returns and lengths, as in `rollout_stats`."""
    samples = {"return": table.column("return_").drop_null().to_numpy(), "len": table.column("length").to_numpy()}
    return {"n_traj": len(table), **statistics({name: values for name, values in samples.items() if len(values)})}


def summary_lines(order: Order, table: Any) -> dict[str, str]:
    """A few lines about the trajectories, by name."""
    lengths = table.column("length").to_numpy()
    returns = table.column("return_").drop_null().to_numpy()
    endings = Counter(each or "not ended" for each in table.column("ended_by").to_pylist())
    environments = table.column("env").drop_null().unique()
    size, steps = round(float(order.sizes.sum())), int(lengths.sum())
    return {
        "episodes": f"{len(set(episode_keys(order, table))):,}",
        "trajectories": f"{len(table):,}",
        "steps": f"{steps:,}",
        "ended by": ", ".join(f"{name} {count:,}" for name, count in endings.most_common()) or "-",
        "environments": f"{len(environments):,}",
        "return": _spread(returns),
        "length": _spread(lengths),
        "size on disk": f"{size_text(size)}, {size / max(steps, 1):,.1f} bytes a step",
    }


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
