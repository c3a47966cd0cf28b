"""Statistics of columns: of the episode table, and of a sample of the steps."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from vecrollout.data.structures import Structure
from vecrollout.errors import VecrolloutError
from vecrollout.storage.dataset import TraceDataset

SAMPLED_STEPS = 4096
_SAMPLED_BYTES = 64 << 20
_MOST_COLUMNS = 64


def finite(value: float) -> float | None:
    """The number, or None for what JSON has no number for."""
    return float(value) if math.isfinite(value) else None


def described(name: str, values: npt.NDArray[Any]) -> dict[str, Any]:
    """Least, mean, median, largest, standard deviation (of the population), and how many values are missing."""
    values = np.asarray(values, np.float64)
    known = values[np.isfinite(values)]
    row: dict[str, Any] = {"column": name, "missing": len(values) - len(known)}
    for statistic, compute in _STATISTICS.items():
        with np.errstate(over="ignore"):
            row[statistic] = finite(float(compute(known))) if len(known) else None
    return row


_STATISTICS: dict[str, Callable[..., Any]] = {
    "min": np.min,
    "mean": np.mean,
    "median": np.median,
    "max": np.max,
    "std": np.std,
}


def in_columns(dataset: TraceDataset) -> dict[str, Any]:
    """Statistics of each number of observations, actions and rewards, over steps that are drawn at random.

    Traces whose episodes differ in shape, or hold objects, have none: `reason` says why.
    """
    if not dataset.total_steps:
        return {"steps": [], "sampled": 0, "reason": None}
    try:
        first = dataset.columns(0, ("obs",), 0, 1)["obs"]
        row_bytes = sum(np.asarray(leaf)[:1].nbytes for leaf in Structure.of(first).flatten(first))
        count = max(1, min(SAMPLED_STEPS, dataset.total_steps, _SAMPLED_BYTES // max(row_bytes, 1)))
        drawn = dataset.sample_transitions(count, np.random.default_rng(0))
    except VecrolloutError as error:
        return {"steps": [], "sampled": 0, "reason": str(error)}
    rows = []
    for name in ("obs", "acts", "rews"):
        for column, values in numbers_in(getattr(drawn, name, None), name):
            rows.append(described(column, values))
            if len(rows) == _MOST_COLUMNS:
                return {"steps": rows, "sampled": count, "reason": f"only the first {_MOST_COLUMNS} columns are shown"}
    return {"steps": rows, "sampled": count, "reason": None}


def numbers_in(tree: Any, name: str) -> Iterator[tuple[str, npt.NDArray[Any]]]:
    """Names and values of the numbers in each row of a field; a leaf of many numbers, such as an image, is one."""
    if tree is None:
        return
    structure = Structure.of(tree)
    for leaf_name, leaf in zip(structure.names(name), structure.flatten(tree), strict=True):
        leaf = np.asarray(leaf)
        if leaf.dtype.kind not in "biuf":
            continue
        if math.prod(leaf.shape[1:]) > _MOST_COLUMNS:
            yield f"{leaf_name} (all of shape {leaf.shape[1:]})", leaf.ravel()
        else:
            for index in np.ndindex(leaf.shape[1:]):
                yield entry_name(leaf_name, index), leaf[:, *index]


def entry_name(leaf: str, index: tuple[int, ...]) -> str:
    """Name of a number in a leaf, such as `obs[2]`."""
    return f"{leaf}[{', '.join(map(str, index))}]" if index else leaf
