"""Which trajectories begin in a record batch, and where."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np
import numpy.typing as npt

from vecrollout.errors import DamagedTraceError


@dataclass(frozen=True)
class BatchIndex:
    """The trajectories that begin in a record batch; all arrays have shape `(n,)` and dtype int64."""

    rows: npt.NDArray[np.int64]
    """Number of rows, steps + 1. A large trajectory goes on in the record batches that follow."""
    episode: npt.NDArray[np.int64]
    """Number of the episode, unique for the writer."""
    env: npt.NDArray[np.int64]
    """Index of the environment; -1: unknown."""
    start_step: npt.NDArray[np.int64]
    """Index in the episode of the first step."""
    ended: npt.NDArray[np.int64]
    """How the last step ended the episode: 1 terminated, 2 truncated, 3 both, 0 neither."""

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def row(self) -> npt.NDArray[np.int64]:
        """First row of each."""
        row: npt.NDArray[np.int64] = np.cumsum(self.rows) - self.rows
        return row

    def check(self, rows: int, where: str) -> None:
        """Refuse trajectories that do not fill so many rows."""
        columns = [getattr(self, each.name) for each in fields(self)]
        if any(column.shape != self.rows.shape or column.dtype != np.int64 for column in columns):
            raise DamagedTraceError(f"{where}: expected one value a trajectory, got others")
        # Each by itself, too: their sum wraps around.
        if not len(self) or (self.rows < 2).any() or (self.rows > rows).any() or self.rows.sum() != rows:
            raise DamagedTraceError(f"{where}: expected trajectories that fill {rows} rows, got others")
        if (self.start_step < 0).any() or (self.ended < 0).any() or (self.ended > 3).any():
            raise DamagedTraceError(f"{where}: expected steps and endings of trajectories, got others")


NO_TRAJECTORIES = BatchIndex(*[np.empty(0, np.int64)] * len(fields(BatchIndex)))
"""Of a record batch in which a large trajectory goes on."""
