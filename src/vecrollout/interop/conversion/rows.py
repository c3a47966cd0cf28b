"""Tables with a row a step, in which an episode's last observation is a further row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import numpy as np

from vecrollout._typing import Array
from vecrollout.data.batch import TrajectoryBatch

RowColumns: TypeAlias = dict[str, tuple[Array, Array | None]]
"""Of each column its values, and where it has none; None: it has all."""


def row_columns(
    batch: TrajectoryBatch, number: int, obs: Mapping[str, Array], steps: Mapping[str, Array]
) -> tuple[RowColumns, Array]:
    """The columns of a batch whose first trajectory is of this number, and which rows are last observations."""
    counts = batch.lengths + 1
    starts = np.array([episode.start_step for episode in batch.episodes], np.int64)
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    is_last = within == np.repeat(batch.lengths, counts)
    # Row t of the steps; a last observation shows none.
    at = np.arange(len(is_last)) - np.repeat(np.arange(len(batch)), counts) - is_last
    flags = np.zeros((2, batch.total_steps), bool)
    flags[:, np.cumsum(batch.lengths) - 1] = batch.terminated, batch.truncated
    columns: RowColumns = {
        "episode": (np.repeat(np.arange(len(batch)) + number, counts), None),
        "step": (within + np.repeat(starts, counts), None),
    }
    columns |= {name: (leaf, None) for name, leaf in obs.items()}
    of_steps = {**steps, "terminated": flags[0], "truncated": flags[1]}
    columns |= {name: (leaf[at], is_last) for name, leaf in of_steps.items()}
    return columns, is_last
