"""Columns of a record batch as arrays, each decoded once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vecrollout.data.batch import Columns
from vecrollout.data.trajectory import Episode, Trajectory
from vecrollout.storage.codec.index import BatchIndex
from vecrollout.storage.codec.schema import TraceSchema

INDEX_COLUMNS = ("trajectory", "episode", "step", "env", "terminated", "truncated")
"""Columns that `DecodedBatch.index` is made of."""


class DecodedBatch:
    """A record batch whose columns are decoded when they are first asked for."""

    def __init__(self, record_batch: Any, schema: TraceSchema, where: str) -> None:
        raise NotImplementedError

    @property
    def rows(self) -> int:
        """Number of rows."""
        raise NotImplementedError

    @property
    def nbytes(self) -> int:
        """Memory of the batch and of what was decoded so far."""
        raise NotImplementedError

    @property
    def index(self) -> BatchIndex:
        """Where its trajectories begin, from its columns."""
        raise NotImplementedError

    @property
    def recordings(self) -> list[str | None]:
        """Recording of each trajectory."""
        raise NotImplementedError

    @property
    def episodes(self) -> Sequence[Episode]:
        """Identity of each trajectory."""
        raise NotImplementedError

    def metadata(self, i: int) -> dict[str, Any]:
        """What the user said about a trajectory."""
        raise NotImplementedError

    def trajectory(self, i: int) -> Trajectory:
        """A trajectory that lies in this batch alone."""
        raise NotImplementedError

    def columns(self) -> Columns:
        """All trajectories, which lie in this batch alone."""
        raise NotImplementedError


Piece = tuple[DecodedBatch, int, int]
"""A batch, its first row, and the row behind the last."""


def fragment(first: DecodedBatch, i: int, pieces: Sequence[Piece], start: int, stop: int) -> Trajectory:
    """Steps [start, stop) of a trajectory that begins in `first`; the pieces have its rows [start, stop]."""
    raise NotImplementedError


def field(first: DecodedBatch, i: int, pieces: Sequence[Piece], start: int, stop: int, name: str) -> Any:
    """One of `FIELDS` of a fragment."""
    raise NotImplementedError
