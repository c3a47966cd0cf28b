"""A cache of decoded batches, limited by their bytes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from contextlib import suppress

from vecrollout.storage.codec.decode import DecodedBatch

_MAX_ENTRIES = 256


class BatchCache:
    """Decoded batches; the least recently used ones go first."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._batches: OrderedDict[Hashable, DecodedBatch] = OrderedDict()

    def get(self, key: Hashable, read: Callable[[], DecodedBatch]) -> DecodedBatch:
        """A batch, which is read if it is not cached."""
        batch = self._batches.get(key)
        if batch is None:
            # Before reading, so that the new batch can take the memory of those that go.
            self._shrink()
            batch = self._batches[key] = read()
        else:
            with suppress(KeyError):  # another thread may read, too
                self._batches.move_to_end(key)
        return batch

    def known(self, key: Hashable) -> DecodedBatch | None:
        """A batch if it is cached."""
        return self._batches.get(key)

    def _shrink(self) -> None:
        sizes = [batch.nbytes for batch in list(self._batches.values())]
        total, entries = sum(sizes), len(sizes)
        # Room for one more like the largest.
        room = self._limit - max(sizes, default=0)
        if total <= room and entries < _MAX_ENTRIES:
            return
        for key, nbytes in zip(list(self._batches), sizes, strict=False):
            self._batches.pop(key, None)
            total, entries = total - nbytes, entries - 1
            if total <= room and entries < _MAX_ENTRIES:
                return
