"""Columns of a record batch as arrays, each decoded once."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium.spaces import GraphInstance

from vecrollout._typing import Array
from vecrollout.data.columns import ArrayColumns, Columns, transitions_of
from vecrollout.data.dtypes import dtype_from_json
from vecrollout.data.fields import infos_or_empty, trusted
from vecrollout.data.kinds import Kind
from vecrollout.data.trajectory import Episode, Trajectory, TrajectoryWithRew
from vecrollout.data.transitions import Transitions
from vecrollout.data.trees import map_leaves
from vecrollout.errors import DamagedTraceError
from vecrollout.storage.arrow import ArrowErrors
from vecrollout.storage.codec.arrays import bits, taken, validity, values
from vecrollout.storage.codec.columns import Column
from vecrollout.storage.codec.layout import MAX_TEXT_BYTES, Part
from vecrollout.storage.codec.schema import TraceSchema
from vecrollout.storage.codec.told import Told


class DecodedBatch:
    """A record batch whose columns are decoded when they are first asked for.

    It is the `Columns` of a `TrajectoryBatch`: the trajectories that begin in it.

    Args:
        record_batch: All columns, or `schema.arrow_columns(...)` of some fields.
        schema: The shard's.
        where: Shard and batch, for errors.
    """

    def __init__(self, record_batch: Any, schema: TraceSchema, where: str) -> None:
        self._batch = record_batch
        self._where = where
        self._decoded: dict[str, Any] = {}
        self._decoded_bytes = 0
        self._slicers: dict[str, Callable[[int, int, Told, int], Any]] = {}
        self.schema = schema
        """The shard's schema."""
        self.rows = int(record_batch.num_rows)
        """Number of rows."""
        try:
            # Offsets, lengths and bitmaps of all columns, and whether text is text.
            record_batch.validate(full=True)
        except ArrowErrors as error:
            raise DamagedTraceError(f"{where}: expected a record batch of trajectories: {error}") from error
        self.told = Told(record_batch.column("trajectory"), where)
        """Where trajectories begin, and which they are."""
        self.lengths = self.told.lengths
        """Steps of each trajectory, shape `(N,)`."""
        last = np.minimum(np.array(self.told.starts, np.int64) + self.lengths, self.rows) - 1
        self.terminated = self.flags("terminated")[last]
        """Whether each trajectory's last step reached a terminal state, shape `(N,)`."""
        self.truncated = self.flags("truncated")[last]
        """Whether each trajectory was cut short at its last step, shape `(N,)`."""

    @property
    def nbytes(self) -> int:
        """Memory of the batch and of what was decoded so far."""
        return self._arrow_bytes + self._decoded_bytes

    @cached_property
    def _arrow_bytes(self) -> int:
        # pyarrow takes longer to count them than a trajectory takes to read.
        return int(self._batch.nbytes)

    @property
    def kind(self) -> Kind:
        """Structures, dtypes and shapes."""
        return self.schema.kind

    @property
    def has_infos(self) -> bool:
        """Whether infos of any trajectory were kept."""
        return self.column("infos") is not None

    @property
    def recordings(self) -> list[str | None]:
        """Recording of each trajectory."""
        return self.told.recordings

    @property
    def episodes(self) -> Sequence[Episode]:
        """Identity of each trajectory."""
        return self.told.episodes

    def metadata(self, i: int) -> dict[str, Any]:
        """What the user said about a trajectory."""
        return self.told.metadata(i)

    def columns(self) -> Columns:
        """All trajectories, each of which ends in this batch."""
        if not self.told.starts or self.told.starts[-1] + self.told.steps[-1] >= self.rows:
            raise DamagedTraceError(f"{self._where}: expected whole trajectories, got one that goes on")
        return self

    def column(self, name: str) -> Any:
        """A column of a `TrajectoryBatch`: all rows of observations, those of steps of everything else."""
        layout = self.schema.layout
        if name == "obs":
            return self._tree(layout.obs, 0, self.rows, self._widest)
        if name == "acts":
            return map_leaves(self._of_steps, self._tree(layout.acts, 0, self.rows, self._widest))
        if name == "rews":
            return None if layout.rews is None else self._of_steps(self.array(layout.rews))
        if not any(map(self.told.has_infos, range(len(self.lengths)))):
            return None
        return self._infos(0, self.rows, self._widest)[self._step_rows]

    def trajectory(self, i: int) -> Trajectory:
        """A trajectory that ends in this batch."""
        told = self.told
        begin = told.starts[i]
        end = begin + told.steps[i]
        fields = {
            "obs": self.field("obs", begin, end + 1, told, i),
            "acts": self.field("acts", begin, end, told, i),
            "infos": self.field("infos", begin, end, told, i),
            "rews": self.field("rews", begin, end, told, i),
        }
        flags = self._decoded["terminated"], self._decoded["truncated"]
        return trajectory_of(fields, flags[0].item(end - 1), flags[1].item(end - 1), told.episode(i))

    def transitions(self) -> Transitions:
        """The steps of all trajectories, as copies."""
        obs, at = self.column("obs"), self._step_rows
        infos = infos_or_empty(self.column("infos"), len(at))
        now, then = (map_leaves(partial(taken, rows=rows), obs) for rows in (at, at + 1))
        return transitions_of(now, self.column("acts"), infos, then, self.column("rews"), self)

    is_recorded = False
    """A file may say anything."""

    def part(self, begin: int, end: int) -> Columns | None:
        """Nothing: single trajectories are views already."""
        return None

    def joined(self, others: Sequence[Any]) -> Columns | None:
        """These and other batches of files as one, in memory."""
        first, *rest = [
            ArrayColumns(
                **{name: each.column(name) for name in ("obs", "acts", "rews", "infos")},
                lengths=each.lengths,
                terminated=each.terminated,
                truncated=each.truncated,
                episodes=each.episodes,
            )
            for each in [self, *others]
        ]
        return first.joined(rest)

    def field(self, name: str, begin: int, end: int, told: Told, i: int) -> Any:
        """Some rows of one of `FIELDS`, which are of trajectory i of `told`."""
        slicer = self._slicers.get(name)
        if slicer is None:
            slicer = self._slicers[name] = self._slicer(name)
        return slicer(begin, end, told, i)

    def _slicer(self, name: str) -> Callable[[int, int, Told, int], Any]:
        """A function with the arguments of `field`: most columns are arrays, which are cut and no more."""
        layout = self.schema.layout
        if name == "infos":
            return lambda begin, end, told, i: (
                self._infos(begin, end, partial(self._text_dtype, told, i)) if told.has_infos(i) else None
            )
        if name == "rews" and layout.rews is None:
            return lambda begin, end, told, i: None
        part = layout.obs if name == "obs" else layout.acts
        columns = part.columns if layout.rews is None or name != "rews" else (layout.rews,)
        if name == "rews" or (part.structure.is_leaf and columns[0].is_plain):
            array = self.array(columns[0])
            return lambda begin, end, told, i: array[begin:end]
        return lambda begin, end, told, i: self._tree(part, begin, end, partial(self._text_dtype, told, i))

    def array(self, column: Column) -> Array:
        """All rows of a column."""
        array: Array = self._once(column.name, column.decode)
        return array

    def flags(self, name: str) -> npt.NDArray[np.bool_]:
        """All rows of `terminated` or `truncated`; False behind each trajectory."""
        flags: npt.NDArray[np.bool_] = self._once(name, lambda column: bits(column) & validity(column))
        return flags

    def numbers(self, name: str) -> npt.NDArray[np.int64]:
        """All rows of `episode`, `step` or `env`; -1 where null."""
        dtype = np.int32 if name == "env" else np.int64
        numbers: npt.NDArray[np.int64] = self._once(
            name, lambda column: np.where(validity(column), values(column, dtype).astype(np.int64), -1)
        )
        return numbers

    @cached_property
    def _step_rows(self) -> Array:
        """Rows of all steps."""
        return np.arange(int(self.lengths.sum())) + np.repeat(np.arange(len(self.lengths)), self.lengths)

    def _of_steps(self, rows: Array) -> Array:
        steps = taken(rows, self._step_rows)
        steps.flags.writeable = False
        return steps

    def _tree(self, part: Part, begin: int, end: int, text_dtype: Callable[[Column], np.dtype[Any]]) -> Any:
        if part.structure.is_leaf:
            return self._rows(part.columns[0], begin, end, text_dtype)
        return part.structure.unflatten([self._rows(column, begin, end, text_dtype) for column in part.columns])

    def _rows(self, column: Column, begin: int, end: int, text_dtype: Callable[[Column], np.dtype[Any]]) -> Array:
        if column.is_plain:
            return self.array(column)[begin:end]
        if column.is_text:
            rows = self._text(column, begin, end, text_dtype(column))
        else:
            rows = self.array(column)[begin:end]
            # The batch hands out its objects again.
            rows = np.fromiter(map(_own, rows.flat), object, rows.size).reshape(rows.shape)
        rows.flags.writeable = False
        return rows

    def _text(self, column: Column, begin: int, end: int, dtype: np.dtype[Any]) -> Array:
        texts = self._once(column.name, column.arrays.texts)
        width = column.arrays.width
        found = texts[begin * width : end * width]
        size = max(max(map(len, found), default=0) * (4 if dtype.kind == "U" else 1), dtype.itemsize)
        if size * len(found) > MAX_TEXT_BYTES:
            raise DamagedTraceError(f"{self._where}: {column.name!r}: expected text of {MAX_TEXT_BYTES} bytes at most")
        return column.arrays.text_rows(found, end - begin, dtype)

    def _text_dtype(self, told: Told, i: int, column: Column) -> np.dtype[Any]:
        try:
            dtype = dtype_from_json(told.more(i)["dtypes"][column.name])
        except (LookupError, TypeError, ValueError) as error:
            raise DamagedTraceError(f"{self._where}: expected the dtype of {column.name!r}, got none") from error
        if dtype.kind != column.dtype.kind:
            raise DamagedTraceError(f"{self._where}: {column.name!r}: expected text like {column.dtype}, got {dtype}")
        return dtype

    def _widest(self, column: Column) -> np.dtype[Any]:
        """The dtype that holds the text of all trajectories."""
        dtypes = [self._text_dtype(self.told, i, column) for i in range(len(self.lengths))]
        return max(dtypes, key=lambda dtype: dtype.itemsize)

    def _infos(self, begin: int, end: int, text_dtype: Callable[[Column], np.dtype[Any]]) -> npt.NDArray[np.object_]:
        infos, obs = self.schema.infos, self.schema.layout.obs
        columns = [self._once(column.name, column.item.decode)[begin:end] for column in infos.columns]
        texts = self._once("info_json", lambda column: column.to_pylist())[begin:end]
        try:
            # The observation behind a step is in the next row.
            return infos.decode(
                columns, texts, lambda row: self._tree(obs, begin + row + 1, begin + row + 2, text_dtype)[0, ...]
            )
        except ArrowErrors as error:
            raise DamagedTraceError(f"{self._where}: infos: {error}") from error

    def _once(self, name: str, decode: Callable[[Any], Any]) -> Any:
        decoded = self._decoded.get(name)
        if decoded is None:
            try:
                decoded = self._decoded[name] = decode(self._batch.column(name))
            except ArrowErrors as error:
                raise DamagedTraceError(f"{self._where}: column {name!r}: {error}") from error
            # Of lists, a guess at what their objects take.
            self._decoded_bytes += decoded.nbytes if isinstance(decoded, np.ndarray) else 64 * len(decoded)
        return decoded


def trajectory_of(fields: dict[str, Any], terminated: bool, truncated: bool, episode: Episode) -> Trajectory:
    """A trajectory of fields that fit together, in final form; rewards may be None."""
    told = {
        **fields,
        "terminal": terminated or truncated,
        "terminated": terminated,
        "truncated": truncated,
        "episode": episode,
    }
    if fields["rews"] is None:
        del told["rews"]
        return trusted(Trajectory, told)
    return trusted(TrajectoryWithRew, told)


def _own(value: Any) -> Any:
    """An object's copy, as far as it can be altered."""
    kind = type(value)
    if kind is dict:
        return {key: _own(item) for key, item in value.items()}
    if kind is list or kind is tuple:
        return kind(map(_own, value))
    if kind is GraphInstance:
        return GraphInstance(*map(_own, value))
    if kind is np.ndarray and not (value.flags.writeable or value.dtype.hasobject):
        return value
    return copy.deepcopy(value)
