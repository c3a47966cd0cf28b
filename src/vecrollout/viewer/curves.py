"""The numbers of an episode's steps, by name: one curve a dimension."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from vecrollout.data.structures import Structure
from vecrollout.report.statistics import entry_name
from vecrollout.storage.dataset import TraceDataset
from vecrollout.viewer.images import is_image

FEW, MANY = 12, 64
"""Dimensions of an array that are drawn at first, and on request."""

_CHUNK_BYTES = 64 << 20


@dataclass
class Curves:
    """Curves of a kind, and how many dimensions were left out."""

    title: str
    by_name: dict[str, npt.NDArray[np.float64]] = field(default_factory=dict)
    """Values by name, NaN where a step has none."""
    left_out: int = 0


def curves(dataset: TraceDataset, number: int, start: int, stop: int, most: int) -> list[Curves]:
    """Rewards, actions, observations, outputs of the policy, and other infos of the steps `[start, stop)`.

    Observations have one row more. Images, text and objects have no curves. Memory does not grow with the images.
    """
    steps = stop - start
    found = {title: Curves(title) for title in ("Rewards", "Actions", "Observations", "Policy", "Infos")}
    small = dataset.columns(number, ("acts", "rews"), start, stop)
    for name, title in (("rews", "Rewards"), ("acts", "Actions")):
        if small[name] is not None:
            for leaf_name, values, left_out in _of_tree(small[name], name, most):
                found[title].by_name[leaf_name] = values
                found[title].left_out += left_out
    for begin, end in _chunks(dataset, number, start, stop):
        large = dataset.columns(number, ("obs", "infos"), begin, end)
        obs = found["Observations"]
        obs.left_out = 0
        for leaf_name, values, left_out in _of_tree(large["obs"], "obs", most):
            kept = obs.by_name.setdefault(leaf_name, np.full(steps + 1, np.nan))
            kept[begin - start : end - start + 1] = values
            obs.left_out += left_out
        for at, info in enumerate(large["infos"] if large["infos"] is not None else (), begin - start):
            for key, value in _numbers_of(info, most):
                title = "Policy" if key.startswith(_OF_POLICY) else "Infos"
                kept = found[title].by_name.setdefault(key, np.full(steps, np.nan))
                kept[at] = value
    return [each for each in found.values() if each.by_name]


_OF_POLICY = ("policy_", "value", "log_prob", "action_mask")


def _chunks(dataset: TraceDataset, number: int, start: int, stop: int) -> Iterator[tuple[int, int]]:
    first = dataset.columns(number, ("obs", "infos"), start, start + 1)
    arrays = list(Structure.of(first["obs"]).flatten(first["obs"]))
    if first["infos"] is not None:
        arrays += [value for value in first["infos"][0].values() if isinstance(value, np.ndarray)]
    size = max(1, _CHUNK_BYTES // max(sum(np.asarray(each).nbytes for each in arrays), 1))
    for begin in range(start, stop, size):
        yield begin, min(begin + size, stop)


def _of_tree(tree: Any, name: str, most: int) -> Iterator[tuple[str, npt.NDArray[np.float64], int]]:
    """Name and values of each dimension, and with the first one of an array how many follow those that are given."""
    structure = Structure.of(tree)
    for leaf_name, leaf in zip(structure.names(name), structure.flatten(tree), strict=True):
        leaf = np.asarray(leaf)
        if leaf.dtype.kind not in "biuf" or is_image(leaf[0]):
            continue
        left_out = max(0, math.prod(leaf.shape[1:]) - most)
        for count, index in enumerate(np.ndindex(leaf.shape[1:])):
            if count == most:
                break
            yield entry_name(leaf_name, index), leaf[(slice(None), *index)].astype(np.float64), left_out
            left_out = 0


def _numbers_of(info: Any, most: int) -> Iterator[tuple[str, float]]:
    """The numbers of an info: scalars, and small arrays a dimension each."""
    for key, value in info.items():
        if isinstance(value, bool | int | float | np.generic):
            values = np.asarray(value)
        elif isinstance(value, np.ndarray) and value.size <= most:
            values = value
        else:
            continue
        if values.dtype.kind in "biuf":
            for index in np.ndindex(values.shape):
                yield entry_name(str(key), index), float(values[index])
