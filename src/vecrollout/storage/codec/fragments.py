"""Trajectories, or some of their steps, out of one record batch or several."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

from vecrollout._typing import Array
from vecrollout.data.fields import trusted
from vecrollout.data.structures import Structure
from vecrollout.data.trajectory import Episode, Trajectory
from vecrollout.errors import DamagedTraceError
from vecrollout.storage.codec.decode import DecodedBatch, trajectory_of
from vecrollout.storage.codec.index import BatchIndex
from vecrollout.storage.codec.schema import FIELDS

INDEX_COLUMNS = ("trajectory", "episode", "step", "env", "terminated", "truncated")
"""Columns that `index_of` looks at."""

Piece: TypeAlias = tuple[DecodedBatch, int, int]
"""A batch, its first row, and the row behind the last."""

_LEAF = Structure(None)


def fragment(first: DecodedBatch, i: int, pieces: Sequence[Piece], start: int, stop: int) -> Trajectory:
    """Steps [start, stop) of trajectory i of `first`; the pieces have its rows [start, stop]."""
    told = first.told
    reaches_end = stop == told.steps[i]
    terminated = truncated = False
    if reaches_end:
        batch, begin, end = pieces[-1]
        if end - begin < 2:
            raise DamagedTraceError("expected the last two rows of a trajectory in one batch, got one")
        terminated, truncated = (bool(batch.flags(name)[end - 2]) for name in ("terminated", "truncated"))
    episode = told.episode(i)
    if start or not reaches_end:
        ended_by = episode.ended_by if reaches_end else None
        episode = trusted(Episode, {**vars(episode), "start_step": episode.start_step + start, "ended_by": ended_by})
    fields = {name: field(first, i, pieces, start, stop, name) for name in FIELDS}
    return trajectory_of(fields, terminated, truncated, episode)


def field(first: DecodedBatch, i: int, pieces: Sequence[Piece], start: int, stop: int, name: str) -> Any:
    """One of `FIELDS` of a fragment."""
    if name != "obs":
        pieces = _without_last(pieces)
    parts = [batch.field(name, begin, end, first.told, i) for batch, begin, end in pieces]
    if len(parts) == 1 or parts[0] is None:
        return parts[0]
    layout = first.schema.layout
    structure = layout.obs.structure if name == "obs" else layout.acts.structure if name == "acts" else _LEAF
    columns = zip(*(structure.flatten(part) for part in parts), strict=True)
    return structure.unflatten([_joined(arrays, is_read_only=name != "infos") for arrays in columns])


def index_of(batches: Sequence[DecodedBatch]) -> BatchIndex:
    """Where trajectories begin: whole ones of one batch, or a single one in several; every row is compared."""
    first, where = batches[0], "record batch"
    steps, rows = first.lengths, sum(each.rows for each in batches)
    starts = np.cumsum(steps + 1) - steps - 1
    if not len(starts) or starts[-1] + steps[-1] + 1 != rows or any(len(each.lengths) for each in batches[1:]):
        raise DamagedTraceError(f"{where}: expected whole trajectories in {rows} rows, got others")
    episode, step, env = (np.concatenate([each.numbers(n) for each in batches]) for n in ("episode", "step", "env"))
    flags = [np.concatenate([each.flags(name) for each in batches]) for name in ("terminated", "truncated")]
    last, told = starts + steps - 1, first.episodes
    index = BatchIndex(
        row=starts,
        rows=steps + 1,
        episode=episode[starts].astype(np.int64),
        env=env[starts].astype(np.int64),
        start_step=np.array([each.start_step for each in told], np.int64),
        ended=flags[0][last] + 2 * flags[1][last].astype(np.int64),
    )
    index.check(rows, where)
    expected = {
        "episode": (episode, np.repeat(index.episode, index.rows)),
        "step": (step, np.arange(rows) + np.repeat(index.start_step - starts, index.rows)),
        "env": (env, np.repeat(index.env, index.rows)),
        "env_index": (index.env, np.array([-1 if e.env_index is None else max(-1, e.env_index) for e in told])),
    }
    wrong = [name for name, (got, right) in expected.items() if not np.array_equal(got, right)]
    if wrong or any(np.count_nonzero(each) != np.count_nonzero(each[last]) for each in flags):
        raise DamagedTraceError(f"{where}: expected rows of one episode, step by step, in each trajectory; not {wrong}")
    return index


def _without_last(pieces: Sequence[Piece]) -> Sequence[Piece]:
    """The pieces without the row of the last observation."""
    *before, (batch, begin, end) = pieces
    return [*before, (batch, begin, end - 1)] if end - 1 > begin else before


def _joined(arrays: Sequence[Array], *, is_read_only: bool) -> Array:
    # Without a dtype NumPy would make the other byte order its own.
    joined: Array = np.concatenate(arrays, dtype=arrays[0].dtype)
    joined.flags.writeable = not is_read_only
    return joined
