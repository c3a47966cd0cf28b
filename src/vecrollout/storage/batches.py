"""Trajectories as record batches: one row a step, and one more for the observation that follows the last."""

from __future__ import annotations

import numbers
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from vecrollout._typing import Array
from vecrollout.storage.arrow import pa
from vecrollout.storage.columns import Column
from vecrollout.storage.dtypes import dtype_to_json
from vecrollout.storage.infos import packed_info
from vecrollout.storage.layout import Layout
from vecrollout.storage.payload import dumps
from vecrollout.storage.schema import TraceSchema
from vecrollout.trajectory import Trajectory
from vecrollout.trees import map_leaves


@dataclass(frozen=True)
class Entry:
    """A trajectory on its way to the disk."""

    trajectory: Trajectory
    layout: Layout
    """That of the trace."""
    leaves: list[Array]
    """Its arrays, one a column of the layout."""
    episode: int
    """Number of its episode, unique in the trace."""
    metadata: Mapping[str, Any] | None
    """What the user says about it."""

    @property
    def rows(self) -> int:
        """Rows that it takes: T + 1."""
        return len(self.trajectory) + 1

    @cached_property
    def nbytes(self) -> int:
        """Memory of its arrays, and a guess at that of its infos."""
        infos = 0 if self.trajectory.infos is None else 200 * len(self.trajectory)
        return sum(leaf.nbytes for leaf in self.leaves) + infos + 1000


def encode(entries: Sequence[Entry], schema: TraceSchema, arrow_schema: Any, dropped: Counter[str]) -> Any:
    """Some trajectories as a `pyarrow.RecordBatch`.

    Args:
        entries: At least one.
        schema: What the trace looks like.
        arrow_schema: The same, for Arrow.
        dropped: Gains, by key, the number of values of infos that could not be kept.
    """
    lengths = np.array([entry.rows for entry in entries])
    ends = np.cumsum(lengths)
    rows = int(ends[-1])
    starts, last = ends - lengths, ends - 1
    is_last = np.zeros(rows, dtype=bool)
    is_last[last] = True
    arrays = {
        "episode": pa.array(np.repeat(np.array([entry.episode for entry in entries], np.int64), lengths)),
        "step": pa.array(np.concatenate([_steps(entry) for entry in entries])),
        "env": _environments(entries, lengths),
        "terminated": _flags([entry.trajectory.terminated for entry in entries], last - 1, is_last),
        "truncated": _flags([entry.trajectory.truncated for entry in entries], last - 1, is_last),
    }
    observed = len(schema.layout.obs.columns)
    for i, column in enumerate(schema.layout.columns):
        parts = [entry.leaves[i] for entry in entries]
        if i < observed:
            arrays[column.name] = column.encode(_joined(parts, column))
        else:
            arrays[column.name] = column.encode(_joined_with_gaps(parts, column, is_last), is_last)
    infos: list[Any] = []
    final_obs = {}
    for entry, end in zip(entries, last.tolist(), strict=True):
        kept = entry.trajectory.infos
        infos.extend([None] * entry.rows if kept is None else [*kept, None])
        if kept is not None:
            final_obs[end - 1] = map_leaves(_last, entry.trajectory.obs)
    typed, texts = schema.infos.encode(infos, final_obs, dropped)
    arrays.update({column.name: array for column, array in zip(schema.infos.columns, typed, strict=True)})
    arrays["info_json"] = pa.array(texts, pa.string())
    stories: list[str | None] = [None] * rows
    for entry, start in zip(entries, starts.tolist(), strict=True):
        stories[start] = _story(entry, schema, dropped)
    arrays["episode_json"] = pa.array(stories, pa.string())
    return pa.record_batch([arrays[name] for name in arrow_schema.names], schema=arrow_schema)


def _steps(entry: Entry) -> Array:
    first = entry.trajectory.episode.start_step
    return np.arange(first, first + entry.rows, dtype=np.int64)


def _environments(entries: Sequence[Entry], lengths: Array) -> Any:
    indices = [entry.trajectory.episode.env_index for entry in entries]
    known = np.repeat(np.array([-1 if index is None else index for index in indices], np.int32), lengths)
    return pa.array(known, mask=known < 0)


def _flags(flags: list[bool], rows: Array, missing: Array) -> Any:
    column = np.zeros(len(missing), dtype=bool)
    column[rows] = flags
    return pa.array(column, mask=missing)


def _joined(parts: list[Array], column: Column) -> Array:
    if len(parts) == 1:
        return parts[0]
    return np.concatenate(parts) if column.is_text else np.concatenate(parts, dtype=column.dtype, casting="no")


def _joined_with_gaps(parts: list[Array], column: Column, is_last: Array) -> Array:
    """The parts, each with an empty row behind it."""
    dtype = max((part.dtype for part in parts), key=lambda dtype: dtype.itemsize) if column.is_text else column.dtype
    joined = np.empty((len(is_last), *column.shape), dtype)
    row = 0
    for part in parts:
        joined[row : row + len(part)] = part
        row += len(part) + 1
    if not dtype.hasobject:
        joined[is_last] = np.zeros((), dtype)
    return joined


def _last(leaf: Any) -> Array:
    last: Array = np.asarray(leaf)[-1, ...]
    return last


def _story(entry: Entry, schema: TraceSchema, dropped: Counter[str]) -> str:
    """What there is to say of a trajectory as a whole, for `episode_json`."""
    episode = entry.trajectory.episode
    told: dict[str, Any] = {
        "id": _plain(episode.id),
        "env_index": _plain(episode.env_index),
        "start_step": _plain(episode.start_step),
        "seed": _plain(episode.seed),
        "ended_by": episode.ended_by,
        "has_infos": entry.trajectory.infos is not None,
    }
    if episode.reset_info is not None:
        told["reset_info"] = packed_info(episode.reset_info, dropped)
    if entry.metadata is not None:
        told["metadata"] = packed_info(entry.metadata, dropped)
    # Text is as wide as its longest; which dtype this trajectory's had would be lost.
    if schema.layout.has_text:
        columns = zip(schema.layout.columns, entry.leaves, strict=True)
        told["dtypes"] = {column.name: dtype_to_json(leaf.dtype) for column, leaf in columns if column.is_text}
    return dumps(told)


def _plain(number: Any) -> Any:
    """NumPy's integers as Python's."""
    if number is None or type(number) is int:
        return number
    return int(number) if isinstance(number, numbers.Integral) else number
