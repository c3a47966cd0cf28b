"""Trajectories in batches of some thousand steps, or some megabytes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from vecrollout.data.batch import TrajectoryBatch
from vecrollout.data.kinds import Kind
from vecrollout.data.trajectory import Trajectory

_ROWS = 8192
_BYTES = 8 << 20


def kind_of(trajectory: Trajectory) -> Kind:
    """Structures, dtypes and shapes of a trajectory."""
    return Kind.of(trajectory.obs, trajectory.acts, getattr(trajectory, "rews", None))


def grouped(trajectories: Iterable[Trajectory]) -> Iterator[TrajectoryBatch]:
    """The trajectories in order; each batch is of one structure, dtypes and shapes."""
    pending: list[Trajectory] = []
    last: object = None
    rows = size = 0
    for each in trajectories:
        kind = kind_of(each)
        # Not the dtype itself, which NumPy compares with None.
        alike = kind.family, str(kind.rews)
        if pending and (alike != last or rows >= _ROWS or size >= _BYTES):
            yield TrajectoryBatch.from_trajectories(pending)
            pending, rows, size = [], 0, 0
        last = alike
        pending.append(each)
        rows += len(each) + 1
        size += (len(each) + 1) * sum(item.nbytes for part in (kind.obs, kind.acts) for item in part.items)
    if pending:
        yield TrajectoryBatch.from_trajectories(pending)
