"""Columns of a record batch as arrays, each decoded once."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
from gymnasium.spaces import GraphInstance

from vecrollout._typing import Array
from vecrollout.data.batch import ArrayColumns, Columns, transitions_of
from vecrollout.data.dtypes import dtype_from_json
from vecrollout.data.fields import infos_or_empty, trusted
from vecrollout.data.kinds import Kind
from vecrollout.data.structures import Structure
from vecrollout.data.trajectory import EndedBy, Episode, Trajectory, TrajectoryWithRew
from vecrollout.data.transitions import Transitions
from vecrollout.data.trees import map_leaves
from vecrollout.errors import DamagedTraceError
from vecrollout.storage.arrow import ArrowErrors
from vecrollout.storage.codec.arrays import bits, taken, validity, values
from vecrollout.storage.codec.columns import Column
from vecrollout.storage.codec.encode import NO_RESET_INFO
from vecrollout.storage.codec.index import BatchIndex
from vecrollout.storage.codec.infos import unpacked_info
from vecrollout.storage.codec.layout import MAX_TEXT_BYTES, Part
from vecrollout.storage.codec.metadata import parsed
from vecrollout.storage.codec.schema import TraceSchema

INDEX_COLUMNS = ("trajectory", "episode", "step", "env", "terminated", "truncated")
"""Columns that `index_of` looks at."""

_LEAF = Structure(None)
_ENDINGS = frozenset((None, *get_args(EndedBy)))


class DecodedBatch:
    """A record batch whose columns are decoded when they are first asked for.

    It has the trajectories that begin in it, as `Columns` of a `TrajectoryBatch` where all of them end in it, too.

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
        self.schema = schema
        """The shard's schema."""
        self.rows = int(record_batch.num_rows)
        """Number of rows."""
        try:
            # Offsets, lengths and bitmaps of all columns, and whether text is text.
            record_batch.validate(full=True)
            entries = record_batch.column("trajectory")
            offsets = entries.offsets.to_numpy()
            counts, is_sound = np.diff(offsets), entries.null_count == 0 and offsets[0] == 0
            entries = entries.values
            self._told = {field.name: entries.field(i) for i, field in enumerate(entries.type)}
            starts = np.flatnonzero(counts)
            steps = values(self._told["steps"], np.int64)
            told = [self._told[name].null_count for name in ("steps", "start_step", "has_infos")]
        except ArrowErrors as error:
            raise DamagedTraceError(f"{where}: expected a record batch of trajectories: {error}") from error
        is_sound = is_sound and (counts == (counts > 0)).all() and len(starts) == len(entries)
        is_sound = is_sound and entries.null_count == 0 and not any(told)
        if not is_sound or (steps < 1).any() or not self._is_tiled(starts, steps):
            raise DamagedTraceError(f"{where}: expected trajectories that follow one another, got others")
        self.lengths: npt.NDArray[np.int64] = steps
        """Steps of each trajectory, shape `(N,)`."""
        self._starts: list[int] = starts.tolist()
        self._steps: list[int] = steps.tolist()

    def _is_tiled(self, starts: Array, steps: Array) -> bool:
        """Whether the trajectories follow one another; a single one may go on in the batches that follow."""
        if not len(starts):
            return self.rows > 0
        ends = np.minimum(np.cumsum(np.minimum(steps, 1 << 40) + 1), 1 << 60)
        is_whole = ends[-1] == self.rows or (len(steps) == 1 and ends[-1] > self.rows >= 2)
        return bool(is_whole and starts[0] == 0 and (starts[1:] == ends[:-1]).all())

    @property
    def nbytes(self) -> int:
        """Memory of the batch and of what was decoded so far."""
        return int(self._batch.nbytes) + self._decoded_bytes

    @cached_property
    def terminated(self) -> npt.NDArray[np.bool_]:
        """Whether each trajectory's last step reached a terminal state, shape `(N,)`."""
        return self._flags("terminated")

    @cached_property
    def truncated(self) -> npt.NDArray[np.bool_]:
        """Whether each trajectory was cut short at its last step, shape `(N,)`."""
        return self._flags("truncated")

    @property
    def kind(self) -> Kind:
        """Structures, dtypes and shapes."""
        return self.schema.kind

    @cached_property
    def recordings(self) -> list[str | None]:
        """Recording of each trajectory."""
        recordings: list[str | None] = self._told["recording"].to_pylist()
        return recordings

    @cached_property
    def episodes(self) -> list[Episode]:
        """Identity of each trajectory."""
        told = self._told_lists
        rows = zip(*(told[name] for name in ("id", "env_index", "start_step", "seed", "ended_by", "extra")), strict=True)
        return [
            self._episode(recording, *row, i) for i, (recording, row) in enumerate(zip(self.recordings, rows, strict=True))
        ]

    def columns(self) -> Columns:
        """All trajectories, each of which ends in this batch."""
        if len(self._starts) != 1 or self._starts[0] + self._steps[0] < self.rows:
            return self
        raise DamagedTraceError(f"{self._where}: expected whole trajectories, got one that goes on")

    def column(self, name: str) -> Any:
        """A column of a `TrajectoryBatch`: without the rows behind each trajectory, but of observations."""
        if name == "infos":
            if not any(self._told_lists["has_infos"]):
                return None
            infos = self._infos(0, self.rows, lambda row: self._tree(self.schema.layout.obs, row, row + 1, self._wide))
            return infos[self._step_rows]
        layout = self.schema.layout
        if name == "obs":
            return self._tree(layout.obs, 0, self.rows, self._wide)
        if name == "acts":
            return map_leaves(self._of_steps, self._tree(layout.acts, 0, self.rows, self._wide))
        return None if layout.rews is None else self._of_steps(self.array(layout.rews))

    def transitions(self) -> Transitions:
        """The steps of all trajectories, as copies."""
        obs, at = self.column("obs"), self._step_rows
        infos = infos_or_empty(self.column("infos"), len(at))
        now, then = (map_leaves(partial(taken, rows=rows), obs) for rows in (at, at + 1))
        return transitions_of(now, self.column("acts"), infos, then, self.column("rews"), self)

    def joined(self, others: Sequence[Any]) -> Columns | None:
        """These and other batches of a file as one, in memory."""
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

    def trajectory(self, i: int) -> Trajectory:
        """A trajectory that ends in this batch."""
        begin, steps = self._starts[i], self._steps[i]
        return fragment(self, i, ((self, begin, begin + steps + 1),), 0, steps)

    def metadata(self, i: int) -> dict[str, Any]:
        """What the user said about a trajectory."""
        return unpacked_info(self.extra(i).get("metadata", {}), self._where)

    def steps(self, i: int) -> int:
        """Number of steps of a trajectory."""
        return self._steps[i]

    def has_infos(self, i: int) -> bool:
        """Whether infos of a trajectory were kept."""
        return bool(self._told_lists["has_infos"][i])

    def extra(self, i: int) -> dict[str, Any]:
        """What else is kept of a trajectory, as JSON."""
        text = self._told_lists["extra"][i]
        return {} if text is None else parsed(text, self._where)

    def array(self, column: Column) -> Array:
        """All rows of a column."""
        array: Array = self._once(column.name, column.decode)
        return array

    def field_rows(self, part: Part, begin: int, end: int, extra: Callable[[], dict[str, Any]]) -> Any:
        """Rows of observations or actions of one trajectory."""
        return self._tree(part, begin, end, lambda column: self._text_dtype(column, extra()))

    def info_rows(self, begin: int, end: int, final_obs: Callable[[int], Any]) -> npt.NDArray[np.object_]:
        """Infos of some rows."""
        return self._infos(begin, end, final_obs)

    def flags(self, name: str) -> npt.NDArray[np.bool_]:
        """All rows of `terminated` or `truncated`; False behind each trajectory."""
        flags: npt.NDArray[np.bool_] = self._once(name, lambda column: bits(column) & validity(column))
        return flags

    def numbers(self, name: str) -> Array:
        """All rows of `episode`, `step` or `env`; -1 where null."""
        dtype = np.int32 if name == "env" else np.int64
        return self._once(name, lambda column: np.where(validity(column), values(column, dtype), -1))  # type: ignore[no-any-return]

    @cached_property
    def _told_lists(self) -> dict[str, list[Any]]:
        return {name: column.to_pylist() for name, column in self._told.items()}

    @cached_property
    def _step_rows(self) -> Array:
        """Rows of all steps."""
        return np.arange(int(self.lengths.sum())) + np.repeat(np.arange(len(self.lengths)), self.lengths)

    def _of_steps(self, rows: Array) -> Array:
        steps = taken(rows, self._step_rows)
        steps.flags.writeable = False
        return steps

    def _flags(self, name: str) -> npt.NDArray[np.bool_]:
        flags = self.flags(name)
        return flags[np.minimum(np.array(self._starts, np.int64) + self.lengths, self.rows) - 1]

    def _tree(self, part: Part, begin: int, end: int, text_dtype: Callable[[Column], np.dtype[Any]]) -> Any:
        if part.structure.is_leaf:
            return self._rows(part.columns[0], begin, end, text_dtype)
        return part.structure.unflatten([self._rows(column, begin, end, text_dtype) for column in part.columns])

    def _rows(self, column: Column, begin: int, end: int, text_dtype: Callable[[Column], np.dtype[Any]]) -> Array:
        if column.is_plain:
            decoded = self._decoded.get(column.name)
            return (self.array(column) if decoded is None else decoded)[begin:end]  # type: ignore[no-any-return]
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

    def _text_dtype(self, column: Column, extra: dict[str, Any]) -> np.dtype[Any]:
        try:
            dtype = dtype_from_json(extra["dtypes"][column.name])
        except (LookupError, TypeError, ValueError) as error:
            raise DamagedTraceError(f"{self._where}: expected the dtype of {column.name!r}, got none") from error
        if dtype.kind != column.dtype.kind:
            raise DamagedTraceError(f"{self._where}: {column.name!r}: expected text like {column.dtype}, got {dtype}")
        return dtype

    def _wide(self, column: Column) -> np.dtype[Any]:
        """The dtype that holds the text of all trajectories."""
        dtypes = [self._text_dtype(column, self.extra(i)) for i in range(len(self._starts))]
        return max(dtypes, key=lambda dtype: dtype.itemsize)

    def _infos(self, begin: int, end: int, final_obs: Callable[[int], Any]) -> npt.NDArray[np.object_]:
        columns = [
            self._once(column.name, column.item.decode)[begin:end] for column in self.schema.infos.columns
        ]
        texts = self._once("info_json", lambda column: column.to_pylist())
        try:
            # The observation behind a step is in the next row.
            return self.schema.infos.decode(columns, texts[begin:end], lambda row: final_obs(begin + row + 1)[0, ...])
        except ArrowErrors as error:
            raise DamagedTraceError(f"{self._where}: infos: {error}") from error

    def _episode(
        self, recording: Any, number: Any, env_index: Any, start_step: int, seed: Any, ended_by: Any, extra: Any, i: int
    ) -> Episode:
        reset_info: Any = None
        if extra == NO_RESET_INFO:
            reset_info = {}
        elif extra is not None:
            described = self.extra(i)
            if "reset_info" in described:
                reset_info = unpacked_info(described["reset_info"], self._where)
            seed = described.get("seed", seed)
        if ended_by not in _ENDINGS or start_step < 0 or (type(seed) is not int and seed is not None):
            raise DamagedTraceError(f"{self._where}: expected an episode's identity, got {ended_by!r}, {start_step}")
        return trusted(
            Episode,
            {
                "id": number,
                "env_index": env_index,
                "start_step": start_step,
                "seed": seed,
                "reset_info": reset_info,
                "ended_by": ended_by,
                "recording": recording,
            },
        )

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


Piece = tuple[DecodedBatch, int, int]
"""A batch, its first row, and the row behind the last."""


def fragment(first: DecodedBatch, i: int, pieces: Sequence[Piece], start: int, stop: int) -> Trajectory:
    """Steps [start, stop) of trajectory i of `first`; the pieces have its rows [start, stop]."""
    terminated = truncated = False
    episode = first.episodes[i]
    is_whole = start == 0 and stop == first.steps(i)
    if stop == first.steps(i):
        batch, begin, end = pieces[-1]
        if end - begin < 2:
            raise DamagedTraceError("expected the last two rows of a trajectory in one batch, got one")
        terminated, truncated = bool(batch.flags("terminated")[end - 2]), bool(batch.flags("truncated")[end - 2])
    if not is_whole:
        ended_by = episode.ended_by if stop == first.steps(i) else None
        episode = trusted(
            Episode, {**vars(episode), "start_step": episode.start_step + start, "ended_by": ended_by}
        )
    fields = {
        "obs": field(first, i, pieces, start, stop, "obs"),
        "acts": field(first, i, pieces, start, stop, "acts"),
        "infos": field(first, i, pieces, start, stop, "infos"),
        "terminal": terminated or truncated,
        "terminated": terminated,
        "truncated": truncated,
        "episode": episode,
    }
    if first.schema.layout.rews is None:
        return trusted(Trajectory, fields)
    fields["rews"] = field(first, i, pieces, start, stop, "rews")
    return trusted(TrajectoryWithRew, fields)


def field(first: DecodedBatch, i: int, pieces: Sequence[Piece], start: int, stop: int, name: str) -> Any:
    """One of `FIELDS` of a fragment."""
    layout, extra = first.schema.layout, partial(first.extra, i)
    if name == "obs":
        rows = [batch.field_rows(layout.obs, begin, end, extra) for batch, begin, end in pieces]
        return _joined(rows, layout.obs.structure)
    steps = _without_last(pieces)
    if name == "acts":
        rows = [batch.field_rows(layout.acts, begin, end, extra) for batch, begin, end in steps]
        return _joined(rows, layout.acts.structure)
    if name == "rews":
        if layout.rews is None:
            return None
        return _joined([batch.array(layout.rews)[begin:end] for batch, begin, end in steps], _LEAF)
    if not first.has_infos(i):
        return None
    return np.concatenate(
        [
            batch.info_rows(begin, end, lambda row, batch=batch: batch.field_rows(layout.obs, row, row + 1, extra))
            for batch, begin, end in steps
        ]
    )


def index_of(batches: Sequence[DecodedBatch]) -> BatchIndex:
    """Where trajectories begin, from the columns: whole ones of one batch, or one in several, all rows checked."""
    first = batches[0]
    steps, starts = first.lengths, np.cumsum(first.lengths + 1) - first.lengths - 1
    told, rows, where = first.episodes, sum(each.rows for each in batches), "record batch"
    columns = {name: np.concatenate([each.numbers(name) for each in batches]) for name in ("episode", "step", "env")}
    flags = {name: np.concatenate([each.flags(name) for each in batches]) for name in ("terminated", "truncated")}
    if len(starts) == 0 or starts[-1] + steps[-1] + 1 != rows or any(len(each.lengths) for each in batches[1:]):
        raise DamagedTraceError(f"{where}: expected whole trajectories in {rows} rows, got others")
    last = starts + steps - 1
    index = BatchIndex(
        row=starts,
        rows=steps + 1,
        episode=columns["episode"][starts].astype(np.int64),
        env=columns["env"][starts].astype(np.int64),
        start_step=np.array([each.start_step for each in told], np.int64),
        ended=flags["terminated"][last] + 2 * flags["truncated"][last].astype(np.int64),
    )
    by_row = {
        "episode": np.repeat(index.episode, index.rows),
        "step": np.arange(rows) + np.repeat(index.start_step - starts, index.rows),
        "env": np.repeat(index.env, index.rows),
    }
    if any((columns[name] != expected).any() for name, expected in by_row.items()):
        raise DamagedTraceError(f"{where}: expected rows of one episode, step after step, in each trajectory, got others")
    early = sum(int(np.count_nonzero(each)) - int(np.count_nonzero(each[last])) for each in flags.values())
    if early or any(each.env_index is not None and each.env_index >= 0 and each.env_index != env
                    for each, env in zip(told, index.env.tolist(), strict=True)):
        raise DamagedTraceError(f"{where}: expected endings at the ends, and one environment a trajectory, got others")
    index.check(rows, where)
    return index


def _without_last(pieces: Sequence[Piece]) -> Sequence[Piece]:
    """The pieces without the row of the last observation."""
    *before, (batch, begin, end) = pieces
    return [*before, (batch, begin, end - 1)] if end - 1 > begin else before


def _joined(trees: list[Any], structure: Structure) -> Any:
    """Pieces of a column, one behind another."""
    if len(trees) == 1:
        return trees[0]
    columns = zip(*(structure.flatten(tree) for tree in trees), strict=True)
    return structure.unflatten([_joined_arrays(arrays) for arrays in columns])


def _joined_arrays(arrays: Sequence[Array]) -> Array:
    # Without a dtype NumPy would make the other byte order its own.
    joined: Array = np.concatenate(arrays, dtype=arrays[0].dtype)
    joined.flags.writeable = False
    return joined


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
