"""Trajectories as record batches: one row a step, and one more for the observation that follows the last."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from operator import index
from typing import Any, get_args

import numpy as np

from vecrollout._typing import Array
from vecrollout.data.dtypes import dtype_to_json
from vecrollout.data.plain import dumps
from vecrollout.data.trajectory import EndedBy, Episode, Trajectory
from vecrollout.errors import ArgumentTypeError, OptionError
from vecrollout.storage.arrays import sparse_text
from vecrollout.storage.arrow import pa
from vecrollout.storage.columns import Column
from vecrollout.storage.infos import packed_info
from vecrollout.storage.layout import Layout
from vecrollout.storage.schema import TraceSchema


class Entry:
    """A trajectory on its way to the disk.

    Args:
        trajectory: The trajectory.
        layout: That of the trace.
        leaves: Its arrays, one a column of the layout.
        episode: Number of its episode, unique in the trace.
        metadata: What the user says about it, as JSON.
    """

    __slots__ = ("episode", "layout", "leaves", "metadata", "nbytes", "rows", "trajectory")

    def __init__(
        self,
        trajectory: Trajectory,
        layout: Layout,
        leaves: list[Array],
        episode: int,
        metadata: str | None,
    ) -> None:
        self.trajectory = trajectory
        self.layout = layout
        self.leaves = leaves
        self.episode = episode
        self.metadata = metadata
        self.rows = len(trajectory.acts) + 1
        """Rows that it takes: T + 1."""
        self.nbytes = sum(leaf.nbytes for leaf in leaves) + 1000
        """Memory of its arrays, and a guess at that of its infos."""
        if trajectory.infos is not None:
            self.nbytes += self.rows * _nbytes(trajectory.infos[0])


def _nbytes(info: Any) -> int:
    values = info.values() if isinstance(info, Mapping) else ()
    return 200 + sum(value.nbytes for value in values if isinstance(value, np.ndarray))


_ENDED_BY = {ended_by: dumps(ended_by) for ended_by in (None, *get_args(EndedBy))}


_INT32, _INT64 = 1 << 31, 1 << 63

# Python itself writes no number that is much longer.
_SEED = 1 << 4096


def check_episode(episode: Episode, steps: int) -> None:
    """Refuse an identity that cannot be written.

    Args:
        episode: The identity of a trajectory.
        steps: Its number of steps.

    Raises:
        ArgumentTypeError: If a number is no integer, or the reset's info no dict.
        OptionError: If a number is too large, or the episode ended by nothing that is known.
    """
    # One condition, as it is asked of every trajectory.
    number, env_index, seed = episode.id, episode.env_index, episode.seed
    try:
        if (
            (number is None or -_INT64 <= index(number) < _INT64)
            and (env_index is None or -_INT32 <= index(env_index) < _INT32)
            and -_INT64 <= index(episode.start_step) < _INT64 - steps
            and (seed is None or -_SEED < index(seed) < _SEED)
            and episode.ended_by in _ENDED_BY
            and (episode.reset_info is None or isinstance(episode.reset_info, Mapping))
        ):
            return
    except (TypeError, AttributeError) as error:
        raise ArgumentTypeError(f"episode: expected an Episode of integers and text, got another: {error}") from error
    if not isinstance(episode.reset_info, Mapping | None):
        raise ArgumentTypeError(f"episode.reset_info: expected a dict or None, got {type(episode.reset_info).__name__}")
    if episode.ended_by not in _ENDED_BY:
        raise OptionError(f"episode.ended_by: expected one of {tuple(_ENDED_BY)}, got {episode.ended_by!r}")
    raise OptionError(
        "episode: expected an id and steps of 64 bits, an env_index of 32 and a seed of 4096 at most, got "
        f"id {number}, env_index {env_index}, {steps} steps from {episode.start_step} on"
    )


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
    trajectories = [entry.trajectory for entry in entries]
    first_steps = np.array([trajectory.episode.start_step for trajectory in trajectories], np.int64)
    arrays = {
        "episode": pa.array(np.repeat(np.array([entry.episode for entry in entries], np.int64), lengths)),
        "step": pa.array(np.arange(rows) + np.repeat(first_steps - starts, lengths)),
        "env": _environments(trajectories, lengths),
        "terminated": _flags([trajectory.terminated for trajectory in trajectories], last - 1, is_last),
        "truncated": _flags([trajectory.truncated for trajectory in trajectories], last - 1, is_last),
    }
    observed = len(schema.layout.obs.columns)
    for i, column in enumerate(schema.layout.columns):
        parts = [entry.leaves[i] for entry in entries]
        if i < observed:
            arrays[column.name] = column.encode(_joined(parts, column))
        else:
            arrays[column.name] = column.encode(_joined_with_gaps(parts, column, is_last), is_last)
    typed, texts = schema.infos.encode(trajectories, dropped)
    arrays.update({column.name: array for column, array in zip(schema.infos.columns, typed, strict=True)})
    arrays["info_json"] = sparse_text(rows, list(texts), list(texts.values()))
    arrays["episode_json"] = sparse_text(rows, starts, [_story(entry, schema, dropped) for entry in entries])
    return pa.record_batch([arrays[name] for name in arrow_schema.names], schema=arrow_schema)


def _environments(trajectories: Sequence[Trajectory], lengths: Array) -> Any:
    indices = [trajectory.episode.env_index for trajectory in trajectories]
    known = np.repeat(np.array([-1 if index is None else index for index in indices], np.int32), lengths)
    return pa.array(known, mask=known < 0)


def _flags(flags: list[bool], rows: Array, missing: Array) -> Any:
    column = np.zeros(len(missing), dtype=bool)
    column[rows] = flags
    return pa.array(column, mask=missing)


def _joined(parts: list[Array], column: Column) -> Array:
    joined = parts[0] if len(parts) == 1 else np.concatenate(parts)
    # Rewards of one batch may come in several dtypes.
    return joined if column.is_text else joined.astype(column.dtype, copy=False)


def _joined_with_gaps(parts: list[Array], column: Column, is_last: Array) -> Array:
    """The parts, each with an empty row behind it."""
    values = _joined(parts, column)
    if values.dtype.hasobject:
        joined = np.empty((len(is_last), *column.shape), values.dtype)
    else:
        joined = np.zeros((len(is_last), *column.shape), values.dtype)
    joined[~is_last] = values
    return joined


def _story(entry: Entry, schema: TraceSchema, dropped: Counter[str]) -> str:
    """What there is to say of a trajectory as a whole, for `episode_json`."""
    episode, has_infos = entry.trajectory.episode, entry.trajectory.infos is not None
    # Put together by hand: many short episodes would cost more to describe than to write.
    story = (
        f'{{"id":{_number(episode.id)},"env_index":{_number(episode.env_index)},'
        f'"start_step":{_number(episode.start_step)},"seed":{_number(episode.seed)},'
        f'"ended_by":{_ENDED_BY[episode.ended_by]},"has_infos":{"true" if has_infos else "false"}'
    )
    if episode.reset_info is not None:
        packed = packed_info(episode.reset_info, dropped)
        story += f',"reset_info":{dumps(packed) if packed else "{}"}'
    if entry.metadata is not None:
        story += f',"metadata":{entry.metadata}'
    # Text is as wide as its longest; which dtype this trajectory's had would be lost.
    if schema.layout.has_text:
        columns = zip(schema.layout.columns, entry.leaves, strict=True)
        dtypes = {column.name: dtype_to_json(leaf.dtype) for column, leaf in columns if column.is_text}
        story += f',"dtypes":{dumps(dtypes)}'
    return story + "}"


def _number(number: Any) -> str:
    """An integer, of Python's or NumPy's, as JSON."""
    return "null" if number is None else str(int(number))
