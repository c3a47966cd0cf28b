"""Rows derived from others: those of several traces, of relabeled trajectories, and of joined fragments."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from vecrollout._typing import Array
from vecrollout.data.choosing import Numbers
from vecrollout.data.fields import info_array
from vecrollout.data.kinds import Kind
from vecrollout.data.sampling.rows import RowNumbers, Rows
from vecrollout.data.sampling.step_index import StepIndex
from vecrollout.errors import ArgumentTypeError, ShapeError, StructureError


class JoinedRows:
    """The rows of several indices, one behind another; `begins` tells where each one's begin."""

    def __init__(self, indices: Sequence[StepIndex]) -> None:
        self._rows = [index.rows for index in indices]
        self.kind = agreed_kind([rows.kind for rows in self._rows])
        sizes = [int((index.obs_rows + index.lengths).max(initial=-1)) + 1 for index in indices]
        self.begins = np.cumsum([0, *sizes], dtype=np.int64)
        """First row of each part, and behind them the number of all rows."""

    def take(self, name: str, rows: RowNumbers) -> Any:
        """A copy of some rows."""
        structure = self.kind.part(name).structure
        # A part without any of the rows still gives the dtype of text, which differs between parts.
        parts = [(at, each.take(name, local)) for at, each, local in self._split(rows)]
        leaves = zip(*(structure.flatten(part) for _, part in parts), strict=True)
        return structure.unflatten([_scattered([at for at, _ in parts], leaf, len(rows)) for leaf in leaves])

    def infos(self, rows: RowNumbers) -> npt.NDArray[np.object_]:
        """Info dicts of some steps."""
        found: list[Any] = [{}] * len(rows)
        for at, each, local in self._split(rows):
            infos = each.infos(local)
            for i, number in enumerate(at.tolist()):
                found[number] = {} if infos is None else infos[i]
        return info_array(found)

    def _split(self, rows: RowNumbers) -> list[tuple[RowNumbers, Rows, RowNumbers]]:
        """Of each part that has some of the rows: their places, the part, and its own numbers of them."""
        parts = self.begins.searchsorted(rows, "right") - 1
        used = np.unique(parts).tolist() or [0]
        places = [(parts == part).nonzero()[0] for part in used]
        return [(at, self._rows[part], rows[at] - self.begins[part]) for part, at in zip(used, places, strict=True)]


class SequencedRows:
    """The rows of an index in its own order, each trajectory's behind the one before.

    Args:
        index: Where the rows lie.
        is_last: Whether each trajectory keeps its last observation; the others' is the first of the next trajectory.
        rews: Rewards of all steps; None: those of the index.
    """

    def __init__(self, index: StepIndex, is_last: npt.NDArray[np.bool_], rews: Array | None) -> None:
        self._index, self._rews = index, rews
        self._obs_begins = np.cumsum([0, *(index.lengths + is_last)], dtype=np.int64)
        kind = index.rows.kind
        self.kind = kind if rews is None else replace(kind, rews=rews.dtype, rew_shape=rews.shape[1:])

    @property
    def obs_rows(self) -> RowNumbers:
        """Row of each trajectory's first observation, shape `(N,)`."""
        return self._obs_begins[:-1]

    @property
    def step_rows(self) -> RowNumbers:
        """Row of each trajectory's first step, shape `(N,)`."""
        return self._index.begins[:-1]

    def take(self, name: str, rows: RowNumbers) -> Any:
        """A copy of some rows."""
        index = self._index
        if name == "rews" and self._rews is not None:
            return self._rews[rows]
        if name == "obs":
            numbers = self._obs_begins.searchsorted(rows, "right") - 1
            return index.rows.take(name, index.obs_rows[numbers] + rows - self._obs_begins[numbers])
        return index.rows.take(name, self._steps(rows))

    def infos(self, rows: RowNumbers) -> npt.NDArray[np.object_] | None:
        """Info dicts of some steps."""
        return self._index.rows.infos(self._steps(rows))

    def _steps(self, rows: RowNumbers) -> RowNumbers:
        numbers, at = self._index.located(rows)
        return self._index.step_rows[numbers] + at


def joined_index(indices: Sequence[StepIndex]) -> StepIndex:
    """The trajectories of several indices, one behind another."""
    if len(indices) == 1:
        return indices[0]
    rows = JoinedRows(indices)
    offsets = np.repeat(rows.begins[:-1], [len(each.lengths) for each in indices])

    def joined(name: str) -> Any:
        return np.concatenate([getattr(each, name) for each in indices])

    flags = joined("terminated"), joined("truncated")
    firsts = joined("obs_rows") + offsets, joined("step_rows") + offsets
    return StepIndex(rows, joined("lengths"), *flags, *firsts, joined("start_steps"))


def index_in_parts(parts: Numbers, index_of: Callable[[int, Numbers], StepIndex]) -> StepIndex:
    """The index of trajectories that are in several parts.

    `parts` has the number of each trajectory's part; `index_of` makes the index of the trajectories at some places.
    """
    used = np.unique(parts).tolist() or [0]
    places = [np.flatnonzero(parts == part) for part in used]
    joined = joined_index([index_of(part, at) for part, at in zip(used, places, strict=True)])
    if len(used) == 1:
        return joined
    order = np.empty(len(parts), np.int64)
    order[np.concatenate(places)] = np.arange(len(parts))
    return joined.select(order)


def agreed_kind(kinds: Iterable[Kind]) -> Kind:
    """The kind of all parts; rewards may differ in precision, and text in length."""
    first, *others = kinds
    for kind in others:
        if kind.family == first.family:
            continue
        told = f"{first} in some, and {kind} in others; choose trajectories of one kind"
        if (kind.rews is None) != (first.rews is None):
            raise ArgumentTypeError(f"steps: expected rewards in all trajectories or in none, got {told}")
        if kind.rew_shape != first.rew_shape:
            raise ShapeError(f"steps: expected rewards of one shape, got {told}")
        raise StructureError(f"steps: expected observations and actions of one structure and shape, got {told}")
    rews = None if first.rews is None else np.result_type(first.rews, *(kind.rews for kind in others))
    return replace(first, rews=rews)


def _scattered(places: Sequence[RowNumbers], parts: Sequence[Array], count: int) -> Array:
    """The rows of parts at their places."""
    if len(parts) == 1:
        return parts[0]
    found = np.empty((count, *parts[0].shape[1:]), np.result_type(*(part.dtype for part in parts)))
    for at, part in zip(places, parts, strict=True):
        found[at] = part
    return found
