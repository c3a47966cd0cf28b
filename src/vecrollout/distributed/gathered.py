"""What the workers of a collection have written so far."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vecrollout.storage.dataset import TraceDataset, open_traces

_ORDER = ("start_step", "id", "env", "incarnation", "worker", "round")
"""The columns by which trajectories are sorted, the first one last."""


class Gathered:
    """The part of a directory that a collection has written.

    Args:
        directory: The directory, or the URL of an object store.
        collection: The name that the collection's traces have in their metadata.
    """

    def __init__(self, directory: str | Path, collection: str) -> None:
        self._directory, self._collection = directory, collection
        self._dataset: TraceDataset | None = None
        # Recording, number and first step: the order of trajectories changes when fragments are added.
        self._seen = set[tuple[str, int, int]]()

    def everything(self) -> TraceDataset:
        """All data, by round, worker, environment and time."""
        return self._sorted(*self._rows())

    def round(self, number: int) -> TraceDataset:
        """The data of a round, by worker, environment and time."""
        return self._sorted(*self._of_round(number))

    def made(self, number: int, worker: int) -> tuple[int, int]:
        """How many transitions of a round a worker has written, and how many episodes that ended."""
        table, rows = self._of_round(number)
        if not len(rows):
            return 0, 0
        rows = rows[table.column("worker").to_numpy()[rows] == worker]
        flags = table.column("terminated").to_numpy() | table.column("truncated").to_numpy()
        return int(table.column("length").to_numpy()[rows].sum()), int(flags[rows].sum())

    def new(self, number: int) -> TraceDataset:
        """What was written for a round since the last call."""
        table, rows = self._of_round(number)
        parts = (table.column(name).take(rows).to_pylist() for name in ("recording", "id", "start_step"))
        keys = zip(*parts, strict=True)
        fresh = {key: row for key, row in zip(keys, rows.tolist(), strict=True) if key not in self._seen}
        self._seen.update(fresh)
        return self._all[list(fresh.values())]

    @property
    def _all(self) -> TraceDataset:
        if self._dataset is None:
            self._dataset = open_traces(self._directory)
        return self._dataset

    def _sorted(self, table: Any, rows: npt.NDArray[np.int64]) -> TraceDataset:
        if not len(rows):
            return self._all[rows]
        return self._all[rows[np.lexsort([table.column(name).to_numpy()[rows] for name in _ORDER])]]

    def _of_round(self, number: int) -> tuple[Any, npt.NDArray[np.int64]]:
        table, rows = self._rows()
        return table, rows[table.column("round").to_numpy()[rows] == number] if len(rows) else rows

    def _rows(self) -> tuple[Any, npt.NDArray[np.int64]]:
        """The episode table as it is now, and the rows of this collection."""
        self._all.refresh()
        table = self._all.to_arrow()
        if "collection" not in table.column_names:
            return table, np.empty(0, np.int64)
        is_own = table.column("collection").to_numpy(zero_copy_only=False) == self._collection
        return table, np.flatnonzero(np.asarray(is_own, bool))
