"""What a shard holds, without reading it: where its batches and trajectories are, and checksums.

An index is a cache beside a sealed shard. Everything in it can be derived from the shard, and is, where it is missing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from vecrollout.data.plain import dumps
from vecrollout.errors import DamagedTraceError
from vecrollout.storage.arrow import ArrowErrors, checksum, ipc, pa
from vecrollout.storage.format import FORMAT_VERSION, METADATA_KEY, check_version, parsed
from vecrollout.storage.location import RandomAccessFile

BATCH_COLUMNS: Mapping[str, Any] = {
    "offset": np.int64,
    "bytes": np.int64,
    "rows": np.int64,
}
"""Of each batch: where in the file its message begins, how long it is with its body, and its number of rows."""

TRAJECTORY_COLUMNS: Mapping[str, Any] = {
    "batch": np.int32,
    "row": np.int64,
    "rows": np.int64,
    "episode": np.int64,
    "env": np.int32,
    "start_step": np.int64,
    "terminated": np.bool_,
    "truncated": np.bool_,
}
"""Of each trajectory: number of the batch and row in it where it begins, its rows (T + 1), and what it is; `env` is -1
where it is unknown."""


@dataclass(frozen=True)
class ShardIndex:
    """Where a shard's batches and trajectories are."""

    size: int
    """Of the shard, in bytes."""
    batches: Mapping[str, npt.NDArray[Any]]
    """`BATCH_COLUMNS`."""
    trajectories: Mapping[str, npt.NDArray[Any]]
    """`TRAJECTORY_COLUMNS`, in the order of the file."""
    checksums: tuple[str, ...] | None
    """xxh3_64 of what comes before the first batch, of each batch, and of what comes after the last, as 16 hexadecimal
    digits; None where they are unknown."""

    def __len__(self) -> int:
        """Number of trajectories."""
        return len(self.trajectories["batch"])

    @property
    def rows(self) -> int:
        """Number of rows in all batches."""
        return int(self.batches["rows"].sum())

    def section(self, number: int) -> tuple[int, int]:
        """Begin and end in the file of the bytes that a checksum is of; 0 is what comes before the first batch."""
        offsets, lengths = self.batches["offset"], self.batches["bytes"]
        ends = offsets + lengths
        batches = len(offsets)
        if number == 0:
            return 0, int(offsets[0]) if batches else self.size
        if number > batches:
            return (int(ends[-1]) if batches else self.size), self.size
        return int(offsets[number - 1]), int(ends[number - 1])

    def section_name(self, number: int) -> str:
        """What a section is: `"schema"`, `"batch 0"` and so on, or `"footer"`."""
        if number == 0:
            return "schema"
        return "footer" if number > len(self.batches["rows"]) else f"batch {number - 1}"

    def with_checksums(self, file: RandomAccessFile) -> ShardIndex:
        """The index with the checksums of its shard's file."""
        sections = range(len(self.batches["rows"]) + 2)
        return replace(self, checksums=tuple(checksum(file.read(*self.section(section))) for section in sections))

    def checksum(self) -> str | None:
        """The checksum of all checksums, behind one another as ASCII text; None where they are unknown."""
        return None if self.checksums is None else checksum("".join(self.checksums).encode())

    def up_to(self, batch: int) -> ShardIndex:
        """The index of the batches before one, and of the trajectories that end before it; without checksums."""
        batches = {name: column[:batch] for name, column in self.batches.items()}
        of = self.trajectories
        ends = np.concatenate([[0], np.cumsum(self.batches["rows"])])
        keep = ends[of["batch"]] + of["row"] + of["rows"] <= ends[batch]
        whole = int(of["batch"][~keep].min(initial=batch))
        return ShardIndex(
            self.size,
            {name: column[:whole] for name, column in batches.items()},
            {name: column[keep] for name, column in of.items()},
            None,
        )

    def to_bytes(self) -> bytes:
        """The index as a file.

        Raises:
            DamagedTraceError: If it has no checksums.
        """
        if self.checksums is None:
            raise DamagedTraceError("index: expected one with checksums, got one of an unfinished shard")
        about = {
            "format_version": FORMAT_VERSION,
            "size": self.size,
            "batches": {name: column.tolist() for name, column in self.batches.items()},
            "checksums": list(self.checksums),
        }
        arrays = {name: pa.array(column) for name, column in self.trajectories.items()}
        schema = pa.schema([pa.field(name, array.type) for name, array in arrays.items()])
        batch = pa.record_batch(list(arrays.values()), schema=schema.with_metadata({METADATA_KEY: dumps(about)}))
        sink = pa.BufferOutputStream()
        with ipc.new_file(sink, batch.schema, options=ipc.IpcWriteOptions(compression="zstd")) as writer:
            writer.write_batch(batch)
        content: bytes = sink.getvalue().to_pybytes()
        return content

    @classmethod
    def from_bytes(cls, content: bytes, where: str) -> ShardIndex:
        """The index that `to_bytes` wrote.

        Raises:
            TraceVersionError: If a newer version of the package wrote it.
            DamagedTraceError: If it is none.
        """
        try:
            # An index is small: to wake other threads for it takes longer than to read it.
            alone = ipc.IpcReadOptions(use_threads=False)
            table = ipc.open_file(pa.BufferReader(content), options=alone).read_all()
            table.validate(full=True)
            about = table.schema.metadata[METADATA_KEY]
        except ArrowErrors as error:
            raise DamagedTraceError(f"{where}: expected an index of a shard: {error}") from error
        about = parsed(about, where)
        check_version(about, where)
        try:
            batches = {name: np.array(about["batches"][name], dtype) for name, dtype in BATCH_COLUMNS.items()}
            trajectories = {
                name: table.column(name).to_numpy().astype(dtype, casting="no", copy=False)
                for name, dtype in TRAJECTORY_COLUMNS.items()
            }
            index = cls(int(about["size"]), batches, trajectories, tuple(map(str, about["checksums"])))
        except ArrowErrors as error:
            raise DamagedTraceError(f"{where}: expected an index of a shard: {error}") from error
        index.check(where)
        return index

    def check(self, where: str) -> None:
        """Refuse an index whose parts contradict one another.

        Raises:
            DamagedTraceError: If they do.
        """
        offsets, lengths, rows = self.batches["offset"], self.batches["bytes"], self.batches["rows"]
        if rows.ndim != 1 or not offsets.shape == lengths.shape == rows.shape:
            raise DamagedTraceError(f"{where}: expected lists of one length, got {self.batches}")
        ends = offsets + lengths
        in_order = (
            (lengths > 0).all()
            and (rows > 0).all()
            and (offsets[1:] == ends[:-1]).all()
            and (len(ends) == 0 or (offsets[0] > 0 and ends[-1] <= self.size))
        )
        of = self.trajectories
        firsts = np.concatenate([[0], np.cumsum(rows)])
        lengths_match = len(self) == 0 or (
            (of["batch"] >= 0).all()
            and (of["batch"] < len(rows)).all()
            and (of["rows"] >= 2).all()
            and (of["row"] >= 0).all()
            and (of["row"] < rows[of["batch"]]).all()
            and (firsts[of["batch"]] + of["row"] + of["rows"] <= firsts[-1]).all()
        )
        if not (in_order and lengths_match):
            raise DamagedTraceError(f"{where}: expected batches and trajectories in order, within the shard")
        if self.checksums is not None and len(self.checksums) != len(offsets) + 2:
            raise DamagedTraceError(f"{where}: expected {len(offsets) + 2} checksums, got {len(self.checksums)}")
