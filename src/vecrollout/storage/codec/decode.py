"""Columns of a record batch as arrays, each decoded once."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from gymnasium.spaces import GraphInstance

from vecrollout._typing import Array
from vecrollout.data.columns import PlainColumns, trajectory_of, transitions_of
from vecrollout.data.dtypes import dtype_from_json
from vecrollout.data.fields import infos_or_empty
from vecrollout.data.kinds import Kind
from vecrollout.data.sampling.rows import Leaf
from vecrollout.data.trajectory import Episode, Trajectory
from vecrollout.data.transitions import Transitions
from vecrollout.data.trees import map_leaves
from vecrollout.errors import DamagedTraceError
from vecrollout.storage.arrow import Parsing
from vecrollout.storage.codec.columns import Column
from vecrollout.storage.codec.entries import Entries
from vecrollout.storage.codec.index import BatchIndex
from vecrollout.storage.codec.layout import MAX_TEXT_BYTES, ShardPart
from vecrollout.storage.codec.schema import FIELDS, TraceSchema

TextDtype: TypeAlias = Callable[[Column], "np.dtype[Any]"]
"""The dtype that a column's text had in a trajectory."""


class DecodedBatch(PlainColumns):
    """A record batch whose columns are decoded when they are first asked for.

    If the trajectories that begin in it are whole, it is the `Columns` of a `TrajectoryBatch`.

    Args:
        record_batch: All columns, or `schema.arrow_columns(...)` of some fields. Its buffers have the right lengths.
        schema: The shard's.
        index: The trajectories that begin in it; none in a later piece of a large one.
        where: Shard and batch, for errors.
        nbytes: Memory of the batch.
    """

    def __init__(self, record_batch: Any, schema: TraceSchema, index: BatchIndex, where: str, nbytes: int = 0) -> None:
        self._batch = record_batch
        self._index, self._where = index, where
        self._decoded: dict[str, Any] = {}
        self.schema = schema
        """The shard's schema."""
        self.rows = int(record_batch.num_rows)
        """Number of rows."""
        self.nbytes = nbytes
        """Memory of the batch and of what was decoded so far."""

    @cached_property
    def entries(self) -> Entries:
        """The trajectories that begin here."""
        with Parsing(f"{self._where}: expected a record batch of trajectories"):
            column = self._batch.column("trajectory")
        self.nbytes += column.get_total_buffer_size()
        return Entries(column, self._index, self._where)

    def __len__(self) -> int:
        return len(self._index)

    @cached_property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Steps of each trajectory, shape `(N,)`."""
        return self._index.rows - 1

    @cached_property
    def terminated(self) -> npt.NDArray[np.bool_]:
        """Whether each trajectory's last step reached a terminal state, shape `(N,)`."""
        return (self._index.ended & 1).astype(bool)

    @cached_property
    def truncated(self) -> npt.NDArray[np.bool_]:
        """Whether each trajectory was cut short at its last step, shape `(N,)`."""
        return self._index.ended >= 2

    @property
    def kind(self) -> Kind:
        """Structures, dtypes and shapes."""
        return self.schema.kind

    @property
    def has_infos(self) -> bool:
        """Whether infos of any trajectory were kept."""
        return any(entry[4] for entry in self.entries.all())

    @property
    def episodes(self) -> Sequence[Episode]:
        """Identity of each trajectory."""
        return [entry[5] for entry in self.entries.all()]

    def column(self, name: str) -> Any:
        """A column of a `TrajectoryBatch`: all rows of observations, those of steps of everything else."""
        if name == "infos" and not self.has_infos:
            return None
        rows = self.field(name, 0, self.rows, self._widest)
        if name == "infos":
            return rows[self._step_rows]
        return rows if name == "obs" or rows is None else map_leaves(self._of_steps, rows)

    def trajectory(self, i: int) -> Trajectory:
        """A trajectory that ends in this batch."""
        begin, end, terminated, truncated, has_infos, episode = self.entries.entry(i)
        columns = self._plain
        if columns is not None and not has_infos:
            obs, acts, rews = columns
            obs, acts, infos = obs[begin : end + 1], acts[begin:end], None
            rews = None if rews is None else rews[begin:end]
        else:
            obs, acts, rews, infos = (
                self.field(name, begin, end + (name == "obs"), self.text_dtype(i)) for name in FIELDS
            )
            infos = infos if has_infos else None
        return trajectory_of(obs, acts, rews, infos, terminated, truncated, episode)

    def transitions(self) -> Transitions:
        """The steps of all trajectories, as copies."""
        obs, at = self.column("obs"), self._step_rows
        infos = infos_or_empty(self.column("infos"), len(at))
        now, then = (map_leaves(partial(_taken, rows=rows), obs) for rows in (at, at + 1))
        return transitions_of(now, self.column("acts"), infos, then, self.column("rews"), self)

    def field(self, name: str, begin: int, end: int, text_dtype: TextDtype) -> Any:
        """Some rows of one of `FIELDS`."""
        layout = self.schema.layout
        if name == "infos":
            return self._infos(begin, end, text_dtype)
        if name == "rews":
            return None if layout.rews is None else self.array(layout.rews)[begin:end]
        return self._tree(layout.obs if name == "obs" else layout.acts, begin, end, text_dtype)

    def text_dtype(self, i: int) -> TextDtype:
        """The dtypes of a trajectory's text."""
        return partial(self._text_dtype, i)

    @cached_property
    def _plain(self) -> tuple[Any, Any, Any] | None:
        """All rows of observations, actions and rewards; None where text or objects are made anew each time."""
        layout = self.schema.layout
        if not layout.is_plain:
            return None
        obs, acts = (
            part.structure.unflatten(list(map(self.array, part.columns))) for part in (layout.obs, layout.acts)
        )
        return obs, acts, None if layout.rews is None else self.array(layout.rews)

    @cached_property
    def _step_rows(self) -> Array:
        """Rows of all steps; the others are of last observations."""
        is_step = np.ones(self.rows, bool)
        is_step[np.cumsum(self._index.rows) - 1] = False
        return is_step.nonzero()[0]

    def _of_steps(self, rows: Array) -> Array:
        steps = _taken(rows, self._step_rows)
        steps.flags.writeable = False
        return steps

    def array(self, column: Column) -> Array:
        """All rows of a column of arrays."""
        array: Array = self._once(column.name, column.decode, is_plain=column.is_plain)
        return array

    def _tree(self, part: ShardPart, begin: int, end: int, text_dtype: TextDtype) -> Any:
        return part.structure.unflatten([self._rows(column, begin, end, text_dtype) for column in part.columns])

    def _rows(self, column: Column, begin: int, end: int, text_dtype: TextDtype) -> Array:
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

    def _text_dtype(self, i: int, column: Column) -> np.dtype[Any]:
        try:
            dtype = dtype_from_json(self.entries.more(i)["dtypes"][column.name])
        except (LookupError, TypeError, ValueError) as error:
            raise DamagedTraceError(f"{self._where}: expected the dtype of {column.name!r}, got none") from error
        if dtype.kind != column.dtype.kind:
            raise DamagedTraceError(f"{self._where}: {column.name!r}: expected text like {column.dtype}, got {dtype}")
        return dtype

    def _widest(self, column: Column) -> np.dtype[Any]:
        """The dtype that holds the text of all trajectories."""
        dtypes = [self._text_dtype(i, column) for i in range(len(self.entries))]
        return max(dtypes, key=lambda dtype: dtype.itemsize)

    def _infos(self, begin: int, end: int, text_dtype: TextDtype) -> npt.NDArray[np.object_]:
        infos, obs = self.schema.infos, self.schema.layout.obs
        columns = [self._once(column.name, column.item.decode)[begin:end] for column in infos.columns]
        texts = self._once("info_json", lambda column: column.to_pylist())[begin:end]
        with Parsing(f"{self._where}: infos"):
            # The observation behind a step is in the next row.
            return infos.decode(
                columns, texts, lambda row: self._tree(obs, begin + row + 1, begin + row + 2, text_dtype)[0, ...]
            )

    def _once(self, name: str, decode: Callable[[Any], Any], is_plain: bool = False) -> Any:
        """A column, decoded once. If it is not plain, its text and offsets are checked first."""
        decoded = self._decoded.get(name)
        if decoded is None:
            with Parsing(f"{self._where}: column {name!r}"):
                column = self._batch.column(name)
                if not is_plain:
                    column.validate(full=True)
                decoded = self._decoded[name] = decode(column)
            # Of objects: what they were made of, and a guess at what they take.
            self.nbytes += decoded.nbytes if is_plain else column.get_total_buffer_size() + 64 * len(decoded)
        return decoded


def _taken(leaf: Array, rows: Array) -> Array:
    """A copy of some rows."""
    return Leaf(leaf).take(rows)


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
