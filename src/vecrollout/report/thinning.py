"""Fewer points that draw the same picture."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def thinned(values: npt.NDArray[Any], points: int) -> npt.NDArray[np.int64]:
    """Numbers of at most so many values: the least and the largest of each stretch, so that no peak is lost."""
    count = len(values)
    if count <= points:
        return np.arange(count)
    size = -(-count // max(points // 2, 1))
    filled = np.full(-(-count // size) * size, np.nan)
    filled[:count] = values
    stretches = filled.reshape(-1, size)
    firsts = np.arange(len(stretches)) * size
    least = firsts + np.where(np.isnan(stretches), np.inf, stretches).argmin(axis=1)
    largest = firsts + np.where(np.isnan(stretches), -np.inf, stretches).argmax(axis=1)
    return np.unique(np.concatenate([least, largest]))


def trend(values: npt.NDArray[Any], points: int) -> list[tuple[int, float]]:
    """Centered rolling mean at so many places, as pairs of number and mean. Missing values do not count."""
    count = len(values)
    half = max(count // 40, 2)
    known = ~np.isnan(values)
    sums = np.concatenate([[0.0], np.cumsum(np.where(known, values, 0.0))])
    counts = np.concatenate([[0], np.cumsum(known)])
    places = np.unique(np.linspace(0, count - 1, min(points, count)).astype(np.int64)) if count else np.empty(0, int)
    begin, end = np.maximum(places - half, 0), np.minimum(places + half + 1, count)
    found = counts[end] - counts[begin]
    means = (sums[end] - sums[begin])[found > 0] / found[found > 0]
    return list(zip(places[found > 0].tolist(), means.tolist(), strict=True))
