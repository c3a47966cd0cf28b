"""Gathers trajectories into batches, and batches into shards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from vecrollout.storage.batches import Entry, encode
from vecrollout.storage.format import shard_name
from vecrollout.storage.infos import InfoColumns
from vecrollout.storage.local import LocalDirectory
from vecrollout.storage.location import Location
from vecrollout.storage.manifest import Manifest
from vecrollout.storage.schema import TraceSchema
from vecrollout.storage.shard_writer import ShardWriter, write_index

BATCH_ROWS = 8192
"""A batch is written once it has so many rows,"""

BATCH_BYTES = 8 << 20
"""or so many bytes before compression. A trajectory of that size has a batch of its own."""

# A new column stays in all shards that follow: fewer infos than these do not decide on one.
_TELLING_INFOS = 32


class TraceEncoder:
    """Writes one writer's shards and manifest; knows nothing of threads.

    Args:
        location: Where to.
        name: The writer's name.
        about: What manifest and shards say about the trace.
        compression: `"zstd"`, `"lz4"` or None.
        max_shard_bytes: Size after which a shard is finished.
        dropped: Gains, by key, the number of values of infos that could not be kept.
    """

    def __init__(
        self,
        location: Location,
        name: str,
        about: Mapping[str, Any],
        compression: str | None,
        max_shard_bytes: int,
        dropped: Counter[str],
    ) -> None:
        self._target = self._location = location
        self._about = about
        self._compression = compression
        self._max_shard_bytes = max_shard_bytes
        self._dropped = dropped
        self._manifest = Manifest(name, {key: value for key, value in about.items() if key != "writer"})
        self._schema: TraceSchema | None = None
        self._arrow_schema: Any = None
        self._shard: ShardWriter | None = None
        self._shards_begun = 0
        self._is_begun = False
        # Where the last shard was begun.
        self._spool: Path | None = None
        self.pending: list[Entry] = []
        """Trajectories that wait for their batch to become full."""
        self._pending_rows = 0
        self._pending_bytes = 0

    def add(self, entry: Entry) -> int:
        """Take a trajectory, and write what makes a batch.

        Returns:
            Bytes of memory of the trajectories that were written.

        Raises:
            OSError: If writing fails; what was not written is still `pending`.
        """
        written = self.write() if _makes_a_batch(entry.rows, entry.nbytes) else 0
        self.pending.append(entry)
        self._pending_rows += entry.rows
        self._pending_bytes += entry.nbytes
        return written + (self.write() if _makes_a_batch(self._pending_rows, self._pending_bytes) else 0)

    def write(self) -> int:
        """Write what is pending.

        Returns:
            Bytes of memory of the trajectories that were written.

        Raises:
            OSError: If that fails; what was not written is still `pending`.
        """
        if not self.pending:
            return 0
        schema = self._fitting_schema()
        batch = encode(self.pending, schema, self._arrow_schema, self._dropped)
        shard = self._shard = self._shard or self._begin_shard()
        shard.write(batch)
        written = self._pending_bytes
        self.pending, self._pending_rows, self._pending_bytes = [], 0, 0
        if not self._is_begun:
            # Early: what it says about the trace is then known, and that an object store can be written to.
            self._manifest.write(self._location)
            self._is_begun = True
        if shard.size >= self._max_shard_bytes:
            self._finish_shard()
        return written

    def sync(self) -> None:
        """Make what was written durable.

        Raises:
            OSError: If that fails.
        """
        if self._shard is not None and self._location.appends:
            self._shard.sync()
        else:
            self._finish_shard()

    def finish(self) -> None:
        """Write what is pending, finish the last shard, and say so in the manifest.

        Raises:
            OSError: If that fails.
        """
        self.write()
        if self._schema is not None:
            self._manifest = replace(self._manifest, closed=True)
        if self._shard is not None:
            self._finish_shard()
        elif self._schema is not None:
            self._manifest.write(self._location)

    def keep(self, entries: Iterable[Entry]) -> None:
        """Write trajectories into the local folder, with what did not get from there into the object store.

        Args:
            entries: All that were not written yet, those that are pending among them.

        Raises:
            OSError: If that fails.
        """
        if self._spool is None or not self._spool.exists():
            self._spool = self._location.spool()
        self._location = LocalDirectory(self._spool)
        here = tuple(entry for entry in self._manifest.shards if (self._spool / entry.file).exists())
        self._manifest = replace(self._manifest, shards=here)
        self.pending, self._pending_rows, self._pending_bytes = [], 0, 0
        for entry in entries:
            self.add(entry)
        self.finish()

    @property
    def left_in(self) -> Path | None:
        """The local folder where there is what did not get into the object store."""
        if self._target.appends or self._spool is None or not self._spool.exists():
            return None
        return self._spool

    def abandon(self) -> None:
        """Let go of the unfinished shard as it is."""
        if self._shard is not None:
            self._shard.abandon()

    def _fitting_schema(self) -> TraceSchema:
        """The columns, planned when a shard is begun; where later data needs another type, that is a new shard's."""
        leaves = [entry.leaves for entry in self.pending]
        old = self._schema
        layout = (old or self.pending[0]).layout.holding(leaves[-1][-1]).widened(leaves, may_narrow=old is None)
        if old is not None and self._shard is not None:
            if layout is old.layout or layout == old.layout:
                return old
            self._finish_shard()
        infos = [info for entry in self.pending for info in _infos(entry)]
        if old is None:
            columns = InfoColumns.plan(infos)
        else:
            columns = old.infos if len(infos) < _TELLING_INFOS else InfoColumns.plan(infos, old.infos.columns)
        schema = self._schema = TraceSchema(layout, columns, self._about)
        self._arrow_schema = schema.to_arrow()
        return schema

    def _begin_shard(self) -> ShardWriter:
        self._spool = self._location.spool()
        path = self._spool / shard_name(self._manifest.writer, self._shards_begun)
        self._shards_begun += 1
        return ShardWriter(path, self._arrow_schema, self._compression)

    def _finish_shard(self) -> None:
        if self._shard is not None:
            path, index = self._shard.path, self._shard.close()
            self._shard = None
            self._manifest = self._manifest.adding(write_index(path, index))
            self._location.publish(path.parent)
            self._manifest.write(self._location)


def _makes_a_batch(rows: int, size: int) -> bool:
    return rows >= BATCH_ROWS or size >= BATCH_BYTES


def _infos(entry: Entry) -> Any:
    return [] if entry.trajectory.infos is None else entry.trajectory.infos
