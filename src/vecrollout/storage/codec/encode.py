"""A batch of trajectories as a record batch: one row a step, and one more for the observation that follows the last."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from vecrollout.data.batch import TrajectoryBatch
from vecrollout.storage.codec.index import BatchIndex
from vecrollout.storage.codec.schema import TraceSchema


def encode(
    batch: TrajectoryBatch,
    numbers: Sequence[int],
    metadata: Sequence[str | None],
    schema: TraceSchema,
    dropped: Counter[str],
) -> tuple[Any, BatchIndex]:
    """A `pyarrow.RecordBatch`, and where its trajectories begin."""
    raise NotImplementedError


def split(record_batch: Any, limit_bytes: int) -> list[Any]:
    """The record batch in pieces where it is a single large trajectory."""
    raise NotImplementedError
