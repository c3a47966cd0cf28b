"""Columns of a record batch as arrays and values, each decoded once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from vecrollout._typing import Array
from vecrollout.errors import DamagedTraceError
from vecrollout.storage.arrow import ArrowErrors
from vecrollout.storage.columns import Column


class DecodedBatch:
    """A record batch whose columns are decoded when they are first asked for, and once.

    Args:
        batch: The `pyarrow.RecordBatch`.
        where: Shard and batch, for errors.
    """

    def __init__(self, batch: Any, where: str) -> None:
        self._batch = batch
        self.nbytes = int(batch.nbytes)
        """Memory of the batch."""
        self._where = where
        self._decoded: dict[str, Any] = {}
        # Not decoded: pyarrow takes longer to find a column than to read one row of it.
        self._texts: dict[str, Any] = {}

    def array(self, column: Column) -> Array:
        """All rows of a column of arrays.

        Raises:
            DamagedTraceError: If it does not hold such rows.
        """
        decoded: Array = self._once(column.name, column.decode)
        return decoded

    def values(self, name: str, decode: Callable[[Any], Sequence[Any]]) -> Sequence[Any]:
        """All rows of another column, as `decode` makes them of a `pyarrow.Array`.

        Raises:
            DamagedTraceError: If it cannot.
        """
        decoded: Sequence[Any] = self._once(name, decode)
        return decoded

    def text(self, name: str, row: int) -> str | None:
        """One row of a column of text."""
        if name not in self._texts:
            self._texts[name] = self._batch.column(name)
        text: str | None = self._texts[name][row].as_py()
        return text

    def has_values(self, name: str) -> bool:
        """Whether any row of a column is not null."""
        return bool(self._batch.column(name).null_count < self._batch.num_rows)

    def _once(self, name: str, decode: Callable[[Any], Any]) -> Any:
        if name not in self._decoded:
            try:
                self._decoded[name] = decode(self._batch.column(name))
            except ArrowErrors as error:
                raise DamagedTraceError(f"{self._where}: column {name!r}: {error}") from error
        return self._decoded[name]
