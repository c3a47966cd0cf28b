"""Trajectories in batches of some thousand steps, or some megabytes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from vecrollout._typing import Array
from vecrollout.data.array_tree import ArrayTree
from vecrollout.data.batch import TrajectoryBatch
from vecrollout.data.structures import Structure
from vecrollout.data.trajectory import Trajectory

_ROWS = 8192
_BYTES = 8 << 20


def grouped(trajectories: Iterable[Trajectory]) -> Iterator[TrajectoryBatch]:
    """The trajectories in order; each batch is of one structure, dtypes and shapes."""
    pending: list[Trajectory] = []
    last: Any = None
    rows = size = 0
    for each in trajectories:
        parts = [(_spec(tree), _leaves(tree)) for tree in (each.obs, each.acts)]
        kind = type(each), [(spec, list(map(_row, leaves))) for spec, leaves in parts]
        if pending and (kind != last or rows >= _ROWS or size >= _BYTES):
            yield TrajectoryBatch.from_trajectories(pending)
            pending, rows, size = [], 0, 0
        last = kind
        pending.append(each)
        rows += len(each) + 1
        size += sum(leaf.nbytes for _, leaves in parts for leaf in leaves)
    if pending:
        yield TrajectoryBatch.from_trajectories(pending)


def _spec(tree: Any) -> Any:
    return Structure.of(tree).spec if isinstance(tree, ArrayTree) else None


def _leaves(tree: Any) -> list[Array]:
    return list(Structure.of(tree).flatten(tree)) if isinstance(tree, ArrayTree) else [tree]


def _row(leaf: Array) -> tuple[Any, tuple[int, ...]]:
    """Dtype and shape of a row; texts of different lengths fit together."""
    return leaf.dtype.kind if leaf.dtype.kind in "US" else leaf.dtype, leaf.shape[1:]
