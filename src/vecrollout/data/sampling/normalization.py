"""Mean, spread and range of observations, actions and rewards."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from vecrollout._typing import Array
from vecrollout.data.sampling.step_index import StepIndex
from vecrollout.errors import DtypeError, ShapeError

_CHUNK_BYTES = 4 << 20
"""Memory of rows that are read at once, as float64."""


@dataclass(frozen=True)
class Moments:
    """Statistics of all rows of a column; trees like a row of it, shape `item_shape` and dtype float64 each leaf."""

    count: int
    """Number of rows."""
    mean: Any
    """Mean of each element."""
    std: Any
    """Standard deviation of each element, of the population."""
    min: Any
    """Smallest value of each element."""
    max: Any
    """Largest value of each element."""


@dataclass(frozen=True)
class Normalization:
    """Statistics of trajectories, for normalizing the data of a learner."""

    obs: Moments
    """Of all observations, the last ones of trajectories too."""
    acts: Moments
    """Of all actions."""
    rews: Moments | None
    """Of all rewards; None where the trajectories have none."""


def normalization_of(index: StepIndex) -> Normalization:
    """The statistics of all rows, in one pass of bounded memory."""
    if not len(index):
        raise ShapeError("normalization: expected at least one step, got none")
    kind = index.rows.kind
    rews = None if kind.rews is None else _moments(index, "rews")
    return Normalization(_moments(index, "obs"), _moments(index, "acts"), rews)


class _Running:
    """Statistics of the rows so far, of one leaf."""

    def __init__(self) -> None:
        self.count = 0
        self.mean: Any = 0.0
        self.squares: Any = 0.0
        self.min: Any = np.inf
        self.max: Any = -np.inf

    def add(self, rows: Array) -> None:
        """Take more rows (Chan, Golub & LeVeque 1979)."""
        rows = rows.astype(np.float64)
        count, mean = len(rows), rows.mean(axis=0)
        apart = mean - self.mean
        total = self.count + count
        self.min, self.max = np.minimum(self.min, rows.min(axis=0)), np.maximum(self.max, rows.max(axis=0))
        rows -= mean
        rows *= rows
        self.squares = self.squares + rows.sum(axis=0) + apart**2 * (self.count * count / total)
        self.mean = self.mean + apart * (count / total)
        self.count = total


def _moments(index: StepIndex, name: str) -> Moments:
    part = index.rows.kind.part(name)
    structure, items = part.structure, part.items
    for leaf, item in zip(structure.names(name), items, strict=True):
        if item.dtype.kind not in "biuf":
            raise DtypeError(f"normalization: {leaf}: expected numbers, got {item.dtype}")
    running = [_Running() for _ in items]
    row_bytes = sum(8 * prod(item.shape) for item in items)
    for rows in _chunks(index, name, max(1, _CHUNK_BYTES // max(1, row_bytes))):
        for each, leaf in zip(running, structure.flatten(index.rows.take(name, rows)), strict=True):
            each.add(leaf)
    return Moments(
        running[0].count if running else 0,
        structure.unflatten([each.mean for each in running]),
        structure.unflatten([np.sqrt(each.squares / each.count) for each in running]),
        structure.unflatten([each.min for each in running]),
        structure.unflatten([each.max for each in running]),
    )


def _chunks(index: StepIndex, name: str, size: int) -> Iterator[npt.NDArray[np.int64]]:
    """All rows of a column, in the order in which they lie."""
    first, counts = (index.obs_rows, index.lengths + 1) if name == "obs" else (index.step_rows, index.lengths)
    order = first.argsort(kind="stable")
    first, counts = first[order], counts[order]
    ends = np.cumsum(counts)
    for begin in range(0, int(ends[-1]), size):
        numbers = np.arange(begin, min(begin + size, int(ends[-1])))
        trajectories = ends.searchsorted(numbers, "right")
        yield first[trajectories] + numbers - (ends[trajectories] - counts[trajectories])
