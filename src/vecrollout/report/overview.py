"""What a data set holds, as plain numbers: the overview of the viewer and of the report."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import numpy as np
import numpy.typing as npt

from vecrollout.report.statistics import described, finite, in_columns
from vecrollout.report.thinning import thinned, trend
from vecrollout.storage.dataset import TraceDataset
from vecrollout.storage.files.objects import shown

NOT_ENDED = "not ended"
ENDINGS = ("terminated", "truncated", "reset_early", "closed", NOT_ENDED)
"""Ways in which a trajectory ends, in the order in which they are shown."""

QUANTITIES = {"return_": "return", "length": "length"}
"""Columns of the episode table that the overview draws, and their names."""

_POINTS = 1200
_TREND_POINTS = 240
_BINS = 40
_OUTLIERS = 12
_MOST_ENVIRONMENTS = 256


def overview(dataset: TraceDataset) -> dict[str, Any]:
    """Counts, curves over the recording, distributions, endings, environments and outliers, ready for JSON.

    Distributions and statistics count whole episodes with their fragments joined, as `TraceDataset.stats` does. Curves
    and outliers are those of trajectories that are whole episodes. Without a whole episode all of these count all
    trajectories. No observations are read.
    """
    table = dataset.table
    whole = dataset.whole_episodes().table
    counted = whole if len(whole) else table
    columns = {name: floats(table, name) for name in QUANTITIES}
    is_whole = (floats(table, "start_step") == 0) & (floats(table, "terminated") + floats(table, "truncated") > 0)
    of_whole = {name: np.where(is_whole | ~is_whole.any(), values, np.nan) for name, values in columns.items()}
    return {
        **facts(dataset),
        "whole_episodes": len(whole),
        "counted": "whole episodes" if len(whole) else "all trajectories: none is a whole episode",
        "endings": endings(table),
        "over_recording": {QUANTITIES[name]: _curve(values) for name, values in of_whole.items()},
        "distributions": {QUANTITIES[name]: _histogram(floats(counted, name)) for name in QUANTITIES},
        "statistics": [described(QUANTITIES[name], floats(counted, name)) for name in QUANTITIES],
        "environments": _environments(table, columns),
        "outliers": _outliers(of_whole),
    }


def facts(dataset: TraceDataset) -> dict[str, Any]:
    """What the data set is, and how much of it there is."""
    order = dataset.order
    abouts = list(order.abouts.values())
    spaces = [about["spaces"] or (None, None) for about in abouts]
    return {
        "name": ", ".join(shown(path) for path in order.paths),
        "trajectories": len(dataset),
        "steps": dataset.total_steps,
        "bytes": round(float(order.sizes.sum())),
        "writers": len(abouts),
        "env_spec": environment_name(_agreed([about["env_spec"] for about in abouts])),
        "observation_space": _agreed([each[0] for each in spaces]),
        "action_space": _agreed([each[1] for each in spaces]),
    }


def environment_name(spec: str | None) -> str | None:
    """The id in the JSON of an environment's spec; any other text as it is."""
    try:
        found = json.loads(spec or "")
    except ValueError:
        return spec
    return str(found["id"]) if isinstance(found, dict) and "id" in found else spec


def endings(table: Any) -> list[dict[str, Any]]:
    """How many trajectories ended in which way."""
    counts = Counter(each or NOT_ENDED for each in table.column("ended_by").to_pylist())
    known = [*ENDINGS, *sorted(counts.keys() - set(ENDINGS))]
    return [{"name": name, "count": counts[name]} for name in known if counts[name]]


def floats(table: Any, name: str) -> npt.NDArray[np.float64]:
    """A column of the episode table; NaN where it has no value."""
    values: npt.NDArray[np.float64] = table.column(name).to_numpy().astype(np.float64)
    return values


def columns_of(dataset: TraceDataset) -> dict[str, Any]:
    """Statistics of each column of the steps, and of each numeric column of the metadata."""
    table = dataset.table
    known = set(QUANTITIES) | {"env", "seed", "id", "start_step", "terminated", "truncated"}
    numeric = [field.name for field in table.schema if field.name not in known and str(field.type) in _NUMBERS]
    return {
        "episodes": [described(name, floats(table, name)) for name in numeric],
        **in_columns(dataset),
    }


_NUMBERS = {"bool", "int64", "double", "uint64"}


def _agreed(values: list[Any]) -> str | None:
    """The text of what all traces have in common; None where they differ, or nothing is known."""
    texts = {str(value) for value in values if value is not None}
    return texts.pop() if len(texts) == 1 else None


def _curve(values: npt.NDArray[np.float64]) -> dict[str, Any]:
    numbers = thinned(values, _POINTS)
    numbers = numbers[np.isfinite(values[numbers])]
    means = trend(np.where(np.isfinite(values), values, np.nan), _TREND_POINTS)
    return {
        "number": numbers.tolist(),
        "value": values[numbers].tolist(),
        "is_thinned": len(values) > _POINTS,
        "trend_number": [number for number, _ in means],
        "trend": [mean for _, mean in means],
    }


def _histogram(values: npt.NDArray[np.float64]) -> dict[str, Any]:
    values = values[np.isfinite(values)]
    if not len(values):
        return {"edges": [], "counts": []}
    low, high = float(values.min()), float(values.max())
    if np.all(values == np.rint(values)) and high - low < _BINS:
        edges = np.arange(low - 0.5, high + 1.5)
    else:
        edges = np.linspace(low, high, _BINS + 1)
    counts, _ = np.histogram(values, edges)
    return {"edges": edges.tolist(), "counts": counts.tolist()}


def _environments(table: Any, columns: dict[str, npt.NDArray[np.float64]]) -> list[dict[str, Any]]:
    envs = floats(table, "env")
    found, which = np.unique(envs[~np.isnan(envs)], return_inverse=True)
    (known,) = np.nonzero(~np.isnan(envs))
    order = np.argsort(which, kind="stable")
    parts = np.split(known[order], np.cumsum(np.bincount(which, minlength=len(found)))[:-1]) if len(found) else []
    rows = []
    for env, numbers in zip(found[:_MOST_ENVIRONMENTS].tolist(), parts[:_MOST_ENVIRONMENTS], strict=True):
        returns, lengths = columns["return_"][numbers], columns["length"][numbers]
        returns = returns[np.isfinite(returns)]
        rows.append(
            {
                "env": int(env),
                "trajectories": len(numbers),
                "steps": int(lengths.sum()),
                "length_mean": float(lengths.mean()),
                "return_min": float(returns.min()) if len(returns) else None,
                "return_mean": float(returns.mean()) if len(returns) else None,
                "return_max": float(returns.max()) if len(returns) else None,
            }
        )
    return rows


def _outliers(columns: dict[str, npt.NDArray[np.float64]]) -> list[dict[str, Any]]:
    """Trajectories whose return or length is farthest from the median, in units of the middle half's width.

    Source:
        Tukey (1977), Exploratory Data Analysis: beyond 1.5 such widths outside the middle half.
    """
    found = []
    for name, values in columns.items():
        known = values[np.isfinite(values)]
        if len(known) < 8:
            continue
        low, middle, high = np.quantile(known, [0.25, 0.5, 0.75])
        width = high - low or known.std()
        distance = np.maximum(low - values, values - high) / width if width else np.zeros_like(values)
        (far,) = np.nonzero(np.nan_to_num(distance, nan=0.0, posinf=0.0) > 1.5)
        for number in far[np.argsort(-distance[far], kind="stable")][:_OUTLIERS].tolist():
            found.append(
                {
                    "number": number,
                    "quantity": QUANTITIES[name],
                    "value": finite(values[number]),
                    "median": float(middle),
                    "distance": float(distance[number]),
                }
            )
    return sorted(found, key=lambda each: -each["distance"])[:_OUTLIERS]
