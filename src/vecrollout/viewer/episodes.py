"""The episode table as NumPy columns: filtered, sorted, and a page at a time."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from vecrollout.data.choosing import Numbers, ordered
from vecrollout.errors import OptionError
from vecrollout.report.overview import NOT_ENDED, floats
from vecrollout.viewer.showing import showable

SHOWN = ("return_", "length", "ended_by", "env", "seed", "start_step")
"""Columns that every row has. Metadata that varies follows."""

PAGE = 50
_MOST_ROWS = 500
_MOST_METADATA = 6
_OWN = {*SHOWN, "terminated", "truncated", "recording", "id", "writer"}
_RANGES = {"return": "return_", "length": "length"}


class Episodes:
    """The episode table of a data set, as it was at one time.

    Args:
        table: `TraceDataset.table`.
    """

    def __init__(self, table: Any) -> None:
        self._table = table
        names = [name for name in table.column_names if name not in _OWN]
        self.metadata = [name for name in names if len(table.column(name).unique()) > 1][:_MOST_METADATA]
        """Columns of metadata that differ between episodes."""
        self.environments = sorted(table.column("env").drop_null().unique().to_pylist())
        """Indices of the environments."""
        self.writers: list[str] = table.column("writer").unique().to_pylist()
        """Names of the writers."""
        self._orders: dict[tuple[str, bool], Numbers] = {}

    def __len__(self) -> int:
        return len(self._table)

    def keys(self) -> list[tuple[Any, ...]]:
        """What names each trajectory, also after others have moved it to another number."""
        columns = [self._table.column(name).to_pylist() for name in ("writer", "recording", "id", "env", "start_step")]
        return list(zip(*columns, strict=True))

    def key(self, number: int) -> tuple[Any, ...]:
        """What names one trajectory."""
        return tuple(
            self._table.column(name)[number].as_py() for name in ("writer", "recording", "id", "env", "start_step")
        )

    def matching(self, query: Mapping[str, str], flagged: set[int]) -> Numbers:
        """Numbers of the trajectories that a query asks for, in its order."""
        mask = np.ones(len(self), bool)
        for name, column in _RANGES.items():
            low, high = _bound(query, f"{name}_min"), _bound(query, f"{name}_max")
            if low is not None:
                mask &= floats(self._table, column) >= low
            if high is not None:
                mask &= floats(self._table, column) <= high
        for name in ("env", "seed"):
            wanted = _bound(query, name)
            if wanted is not None:
                mask &= floats(self._table, name) == wanted
        if query.get("ended_by"):
            endings = self._table.column("ended_by").fill_null(NOT_ENDED).to_numpy()
            mask &= endings == query["ended_by"]
        if query.get("flagged"):
            mask &= np.isin(np.arange(len(self)), list(flagged))
        order = self._order(query.get("sort", ""), bool(query.get("descending")))
        return order[mask[order]]

    def rows(self, numbers: npt.NDArray[np.int64]) -> list[dict[str, Any]]:
        """Rows of the table, ready for JSON."""
        chosen = self._table.take(numbers).select([*SHOWN, *self.metadata])
        return [
            {"number": number, **{name: showable(value) for name, value in row.items()}}
            for number, row in zip(numbers.tolist(), chosen.to_pylist(), strict=True)
        ]

    def _order(self, column: str, descending: bool) -> Numbers:
        if column in ("", "number"):
            numbers = np.arange(len(self))
            return numbers[::-1] if descending else numbers
        if column not in (*SHOWN, *self.metadata):
            raise OptionError(f"sort: expected one of {[*SHOWN, *self.metadata]}, got {column!r}")
        found = self._orders.get((column, descending))
        if found is None:
            found = ordered(self._table.column(column).to_pylist(), descending=descending)
            self._orders[column, descending] = found
        return found


def window(query: Mapping[str, str], count: int) -> slice:
    """Which of so many rows a query asks for."""
    offset = _bound(query, "offset") or 0
    limit = _bound(query, "limit") or PAGE
    start = int(min(max(offset, 0), count))
    return slice(start, start + int(min(max(limit, 1), _MOST_ROWS)))


def _bound(query: Mapping[str, str], name: str) -> float | None:
    text = query.get(name, "").strip()
    try:
        number = float(text) if text else None
    except ValueError as error:
        raise OptionError(f"{name}: expected a number, got {text!r}") from error
    if number is not None and math.isnan(number):
        raise OptionError(f"{name}: expected a number, got {text!r}")
    return number
