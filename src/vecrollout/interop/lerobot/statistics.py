"""Statistics of LeRobot's features, by episode and for all episodes."""

from __future__ import annotations

from typing import Any

import numpy as np

from vecrollout._typing import Array

QUANTILES = {"q01": 0.01, "q10": 0.1, "q50": 0.5, "q90": 0.9, "q99": 0.99}

Statistics = dict[str, Array]
"""`min`, `max`, `mean`, `std`, `count` and the quantiles."""


def statistics_of(rows: Array) -> Statistics:
    """Statistics over the rows of a feature; a single number has one dimension."""
    numbers = rows.astype(np.float64).reshape(len(rows), *(rows.shape[1:] or (1,)))
    return _statistics(numbers, len(rows))


def statistics_of_images(images: Array) -> Statistics:
    """Statistics of some of the images, in [0, 1], of three channels, shape `(3, 1, 1)`, as LeRobot has them.

    Source:
        `lerobot.datasets.compute_stats.sample_images` (LeRobot 0.4.4).
    """
    count = min(len(images), max(100, min(int(len(images) ** 0.75), 10_000)))
    some = images[np.round(np.linspace(0, len(images) - 1, count)).astype(int)]
    if max(some.shape[1:3]) >= 300:
        step = max(1, max(some.shape[1:3]) // 150)
        some = some[:, ::step, ::step]
    colors = some[..., :3] if some.shape[3] >= 3 else np.repeat(some[..., :1], 3, axis=3)
    found = _statistics(colors.reshape(-1, 3) / 255.0, count)
    return {name: value if name == "count" else value.reshape(3, 1, 1) for name, value in found.items()}


def merged(ours: Statistics | None, theirs: Statistics) -> Statistics:
    """Statistics of two groups of rows together; quantiles are weighted means, as in LeRobot."""
    if ours is None:
        return theirs
    counts = [float(each["count"][0]) for each in (ours, theirs)]
    weights = [count / sum(counts) for count in counts]
    with np.errstate(all="ignore"):
        found = {name: weights[0] * ours[name] + weights[1] * theirs[name] for name in ("mean", *QUANTILES)}
        squares = [
            weight * (each["std"] ** 2 + (each["mean"] - found["mean"]) ** 2)
            for weight, each in zip(weights, (ours, theirs), strict=True)
        ]
        return {
            "min": np.minimum(ours["min"], theirs["min"]),
            "max": np.maximum(ours["max"], theirs["max"]),
            "std": np.sqrt(squares[0] + squares[1]),
            "count": ours["count"] + theirs["count"],
            **found,
        }


def _statistics(numbers: Array, count: int) -> Statistics:
    # Infinities and NaN have statistics that are NaN.
    with np.errstate(all="ignore"):
        quantiles: Any = np.quantile(numbers, list(QUANTILES.values()), axis=0)
        return {
            "min": numbers.min(axis=0),
            "max": numbers.max(axis=0),
            "mean": numbers.mean(axis=0),
            "std": numbers.std(axis=0),
            "count": np.array([count]),
            **dict(zip(QUANTILES, quantiles, strict=True)),
        }
