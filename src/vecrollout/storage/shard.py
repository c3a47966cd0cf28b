"""One shard, for reading: its schema, its batches, and what it holds."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vecrollout.errors import DamagedTraceError
from vecrollout.storage.arrow import ArrowErrors, checksum, ipc, pa
from vecrollout.storage.format import END_MAGIC, MAGIC
from vecrollout.storage.index import BATCH_COLUMNS, TRAJECTORY_COLUMNS, ShardIndex
from vecrollout.storage.schema import TraceSchema

_CONTINUATION = b"\xff\xff\xff\xff"
_DERIVED_FROM = ("episode", "step", "env", "terminated", "truncated", "episode_json")


class Shard:
    """A shard's file, mapped into memory.

    A shard that was not finished has no footer; it is read as a stream, as far as whole batches go.

    Args:
        path: The file.
        as_stream: Whether to do without the footer even if there is one.

    Raises:
        DamagedTraceError: If it is not there, or not even its schema can be read.
        TraceVersionError: If a newer version of the package wrote it.
    """

    def __init__(self, path: Path, *, as_stream: bool = False) -> None:
        self.path = path
        self._readers: dict[tuple[str, ...] | None, Any] = {}
        try:
            self._source = pa.memory_map(str(path))
            self.size = int(self._source.size())
            magic = self._source.read_at(len(MAGIC), 0)
            if magic != MAGIC:
                raise DamagedTraceError(f"{path.name}: expected an Arrow IPC file, got one that begins with {magic!r}")
            self._source.seek(len(MAGIC))
            self.arrow_schema = ipc.read_schema(ipc.read_message(self._source))
            self._first_batch = int(self._source.tell())
            end = self._source.read_at(len(END_MAGIC), max(0, self.size - len(END_MAGIC)))
        except ArrowErrors as error:
            if isinstance(error, DamagedTraceError):
                raise
            raise DamagedTraceError(f"{path.name}: expected a shard, got no schema: {error}") from error
        self.is_finished = end == END_MAGIC and not as_stream and self._has_footer()
        self.schema = TraceSchema.from_arrow(self.arrow_schema, path.name)
        self._checked: set[int] = set()

    def batch(self, number: int, index: ShardIndex, columns: Sequence[str] | None = None) -> Any:
        """A `pyarrow.RecordBatch`, of all columns or of some.

        Args:
            number: Which one.
            index: Where the batches are; where it has checksums, the batch is checked when it is first read.
            columns: Names of columns; of a compressed shard only these are decoded. None: all.

        Raises:
            DamagedTraceError: If the batch cannot be read, or is not what was written.
        """
        self.check_section(0, index)
        self.check_section(number + 1, index)
        try:
            if self.is_finished:
                # To choose columns makes pyarrow copy them, which pays where it saves decoding others.
                is_compressed = self.schema.about.get("compression") is not None
                read = self._reader(columns if is_compressed else None).get_batch(number)
            else:
                self._source.seek(int(index.batches["offset"][number]))
                read = ipc.read_record_batch(ipc.read_message(self._source), self.arrow_schema)
            if columns is not None:
                read = read.select(list(columns))
            if read.num_rows != index.batches["rows"][number]:
                raise DamagedTraceError(f"expected {index.batches['rows'][number]} rows, got {read.num_rows}")
            read.validate()
            for column in read.columns:
                # Offsets that point anywhere; of numbers the lengths say enough.
                if not pa.types.is_primitive(getattr(column.type, "value_type", column.type)):
                    column.validate(full=True)
        except ArrowErrors as error:
            raise DamagedTraceError(f"{self.path.name}: batch {number}: {error}") from error
        return read

    def check_section(self, section: int, index: ShardIndex) -> None:
        """Compare a part of the file with its checksum, once.

        Raises:
            DamagedTraceError: If they differ.
        """
        if index.checksums is None or section in self._checked:
            return
        begin, end = index.section(section)
        if self.checksum(begin, end) != index.checksums[section]:
            raise DamagedTraceError(
                f"{self.path.name}: {index.section_name(section)}: bytes {begin} to {end} were altered since they were "
                "written, their checksum differs"
            )
        self._checked.add(section)

    def checksum(self, begin: int, end: int) -> str:
        """The checksum of a part of the file."""
        self._source.seek(begin)
        return checksum(self._source.read_buffer(end - begin))

    def derive(self) -> tuple[ShardIndex, str | None]:
        """The index of what the shard holds: whole batches, and of them what makes whole trajectories.

        Returns:
            The index, with checksums where the shard is finished; and what follows behind it that is not whole, None
            where there is nothing.
        """
        offsets, lengths, rows, trouble = self._walk()
        found: dict[str, list[Any]] = {name: [] for name in TRAJECTORY_COLUMNS}
        whole = 0
        opened: dict[str, Any] | None = None
        bare = ShardIndex(self.size, _batches(offsets, lengths, rows), {}, None)
        for number in range(len(offsets)):
            try:
                ended, opened = _trajectories(self.batch(number, bare, _DERIVED_FROM), number, opened)
            except DamagedTraceError as error:
                trouble = str(error)
                break
            for name, column in ended.items():
                found[name].append(column)
            whole = whole if opened else number + 1
        else:
            if opened:
                trouble = f"{self.path.name}: batch {opened['batch']}: a trajectory without its end"
        trajectories = {
            name: np.concatenate([np.empty(0, dtype), *found[name]], dtype=dtype, casting="unsafe")
            for name, dtype in TRAJECTORY_COLUMNS.items()
        }
        keep = trajectories["batch"] < whole
        index = ShardIndex(
            self.size,
            _batches(offsets[:whole], lengths[:whole], rows[:whole]),
            {name: column[keep] for name, column in trajectories.items()},
            None,
        )
        if self.is_finished and trouble is None:
            sums = tuple(self.checksum(*index.section(section)) for section in range(whole + 2))
            index = ShardIndex(index.size, index.batches, index.trajectories, sums)
        return index, trouble

    def _walk(self) -> tuple[list[int], list[int], list[int], str | None]:
        """Offset, length and rows of each whole batch, and what comes behind them that is none."""
        offsets: list[int] = []
        lengths: list[int] = []
        rows: list[int] = []
        at = self._first_batch
        while at < self.size:
            head = self._source.read_at(min(8, self.size - at), at)
            if head == _CONTINUATION + bytes(4):
                break
            if len(head) < 8 or head[:4] != _CONTINUATION:
                trouble = f"{self.path.name}: byte {at}: {self.size - at} bytes that are no whole batch"
                return offsets, lengths, rows, trouble
            try:
                (metadata_bytes,) = struct.unpack("<i", head[4:])
                self._source.seek(at)
                message = ipc.read_message(self._source)
                batch = ipc.read_record_batch(message, self.arrow_schema) if not self.is_finished else None
            except ArrowErrors as error:
                trouble = f"{self.path.name}: byte {at}: {self.size - at} bytes that are no whole batch: {error}"
                return offsets, lengths, rows, trouble
            length = 8 + metadata_bytes + int(message.body.size)
            number = len(offsets)
            try:
                count = self._reader(("episode",)).get_batch(number).num_rows if batch is None else batch.num_rows
            except ArrowErrors as error:
                return offsets, lengths, rows, f"{self.path.name}: batch {number}: {error}"
            offsets.append(at)
            lengths.append(length)
            rows.append(int(count))
            at += length
        if self.is_finished:
            listed = self._reader(None).num_record_batches
            if listed != len(offsets):
                trouble = f"{self.path.name}: footer: expected {len(offsets)} batches, got {listed}"
                return offsets, lengths, rows, trouble
        return offsets, lengths, rows, None

    def _has_footer(self) -> bool:
        try:
            self._reader(None)
        except ArrowErrors:
            return False
        return True

    def _reader(self, columns: Sequence[str] | None) -> Any:
        key = None if columns is None else tuple(columns)
        if key not in self._readers:
            fields = None if key is None else [self.arrow_schema.get_field_index(name) for name in key]
            options = ipc.IpcReadOptions(included_fields=fields) if fields is not None else ipc.IpcReadOptions()
            self._readers[key] = ipc.open_file(self._source, options=options)
        return self._readers[key]


def _batches(offsets: list[int], lengths: list[int], rows: list[int]) -> dict[str, Any]:
    columns = zip(BATCH_COLUMNS.items(), (offsets, lengths, rows), strict=True)
    return {name: np.array(values, dtype) for (name, dtype), values in columns}


def _trajectories(
    batch: Any, number: int, opened: dict[str, Any] | None
) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any] | None]:
    """The trajectories that end in a batch, in columns, and the one that goes on behind it.

    Raises:
        DamagedTraceError: If the rows are not whole trajectories, one after the other.
    """
    steps = batch.column("step").to_numpy()
    episodes = batch.column("episode").to_numpy()
    environments = batch.column("env").fill_null(-1).to_numpy()
    is_first = batch.column("episode_json").is_valid().to_numpy(zero_copy_only=False)
    is_last = batch.column("terminated").is_null().to_numpy(zero_copy_only=False)
    # A trajectory begins behind the last row of the one before; the first may have begun in an earlier batch.
    begins = np.concatenate(([0], np.flatnonzero(is_last[:-1]) + 1))
    ends = np.concatenate((begins[1:], [len(steps)]))
    lengths = ends - begins
    expected = np.repeat(np.arange(len(begins)), lengths)
    goes_on = np.zeros(len(steps), dtype=bool)
    goes_on[begins] = True
    if opened is not None:
        goes_on[0] = False
    _check(is_first == goes_on, number, "the first row of a trajectory, or the next")
    first_steps, first_rows = steps[begins], begins.copy()
    if opened is not None:
        first_steps[0], first_rows[0] = opened["start_step"], -opened["rows"]
        same = episodes[0] == opened["episode"] and environments[0] == opened["env"]
        _check(np.full(1, same), number, "one episode's steps in order")
    in_order = steps == (first_steps - first_rows)[expected] + np.arange(len(steps))
    in_order &= episodes == episodes[begins][expected]
    in_order &= environments == environments[begins][expected]
    _check(in_order, number, "one episode's steps in order")
    found = {
        "batch": np.full(len(begins), number),
        "row": begins,
        "rows": ends - first_rows,
        "episode": episodes[begins],
        "env": environments[begins],
        "start_step": first_steps,
    }
    if opened is not None:
        found["batch"][0], found["row"][0] = opened["batch"], opened["row"]
    unfinished = None if is_last[-1] else {name: int(column[-1]) for name, column in found.items()}
    whole = slice(None) if unfinished is None else slice(-1)
    # The row before the last one has the flags; a split never parts the two.
    _check(lengths[whole] >= 2, number, "a step before the last observation")
    for name in ("terminated", "truncated"):
        flags = batch.column(name).fill_null(False).to_numpy(zero_copy_only=False)
        found[name] = flags[ends - 2]
    return {name: column[whole] for name, column in found.items()}, unfinished


def _check(is_right: npt.NDArray[np.bool_], number: int, expected: str) -> None:
    if not is_right.all():
        raise DamagedTraceError(f"batch {number}: row {int(is_right.argmin())}: expected {expected}")
