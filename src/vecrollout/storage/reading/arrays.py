"""Single columns of record batches as arrays, for reading rows in any order."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from vecrollout._typing import Array
from vecrollout.storage.codec.decode import DecodedBatch
from vecrollout.storage.codec.index import NO_TRAJECTORIES
from vecrollout.storage.files.source import MappedFile
from vecrollout.storage.reading.catalog import Place
from vecrollout.storage.reading.shard import Shard


class BatchArrays:
    """Columns of record batches; recently used arrays are cached. Views of mapped files take no memory.

    Args:
        pieces: Group and number in the group of each record batch.
        shard: Opens the shard of a group.
        limit_bytes: Limit of the cached arrays; at least one is kept.
    """

    def __init__(self, pieces: Sequence[tuple[Place, int]], shard: Callable[[Place], Shard], limit_bytes: int) -> None:
        self._pieces, self._shard = pieces, shard
        self._limit = limit_bytes
        self._views: dict[tuple[int, int], Array] = {}
        self._kept: OrderedDict[tuple[int, int], Array] = OrderedDict()
        self._bytes = 0

    def get(self, batch: int, column: int) -> Array:
        """All rows of a column of a record batch."""
        key = batch, column
        array = self._views.get(key)
        if array is not None:
            return array
        array = self._kept.get(key)
        if array is not None:
            with suppress(KeyError):  # another thread may read, too
                self._kept.move_to_end(key)
            return array
        (array,) = self.read(batch, [column])
        shard = self._shard(self._pieces[batch][0])
        if shard.schema.about.get("compression") is None and isinstance(shard.file, MappedFile) and _is_view(array):
            self._views[key] = array
            return array
        self._bytes += array.nbytes
        while self._kept and self._bytes > self._limit:
            self._bytes -= self._kept.popitem(last=False)[1].nbytes
        self._kept[key] = array
        return array

    def read(self, batch: int, columns: Sequence[int]) -> list[Array]:
        """All rows of some columns of a record batch, without decompressing others."""
        place, at = self._pieces[batch]
        shard = self._shard(place)
        chosen = [shard.schema.layout.columns[i] for i in columns]
        number, names = place.group.first + at, list(dict.fromkeys(column.name for column in chosen))
        batch = shard.batch(number, place.group.pieces[at], names)
        decoded = DecodedBatch(batch, shard.schema, NO_TRAJECTORIES, f"{shard.name}: batch {number}")
        return [decoded.array(column) for column in chosen]


def _is_view(array: Any) -> bool:
    """Whether an array lies in memory that is not NumPy's."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return not array.flags.owndata
