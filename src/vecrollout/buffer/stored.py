"""Trajectories that lie in a chunk of their own, apart from the log."""

from __future__ import annotations

import numpy as np

from vecrollout._typing import Array
from vecrollout.buffer.episodes import Ending, Piece, Run, Span
from vecrollout.buffer.layout import Layout
from vecrollout.buffer.memory import Chunk
from vecrollout.buffer.table import INFOS, LEAVES, REWS
from vecrollout.data.batch import TrajectoryBatch


def stored_runs(batch: TrajectoryBatch) -> list[Run]:
    """Trajectories as runs in a chunk of their own, so that a log can let go of theirs."""
    kind = batch.kind
    layout = Layout(1, kind.obs, kind.acts, kind.rews, kind.rew_shape)
    count, lengths = len(batch), batch.lengths
    # Between two trajectories lies a row of an action that nobody took.
    steps = np.arange(batch.total_steps) + np.repeat(np.arange(count), lengths)
    rows = batch.total_steps + count - 1
    columns: dict[int, Array] = {}
    for i, leaf in enumerate(kind.obs.structure.flatten(batch.obs)):
        columns[LEAVES + i] = kind.obs.items[i].closed(leaf)
    first = LEAVES + len(kind.obs.items)
    others = [(first + i, leaf) for i, leaf in enumerate(kind.acts.structure.flatten(batch.acts))]
    others.append((REWS, batch.rews))
    if batch.infos is not None:
        others.append((INFOS, batch.infos))
    for entry, column in others:
        spread = np.zeros((rows, *column.shape[1:]), column.dtype)
        spread[steps] = column
        columns[entry] = spread if entry == INFOS else layout.item(entry - LEAVES).closed(spread)
    chunk = Chunk.of_columns(layout, columns)
    starts = np.cumsum(lengths) - lengths + np.arange(count)
    runs = []
    each = zip(starts.tolist(), lengths.tolist(), batch.episodes, batch.terminated, batch.truncated, strict=True)
    for start, length, episode, terminated, truncated in each:
        span = Span.of_episode(episode)
        ends = Ending(span.env, bool(terminated), bool(truncated), None) if terminated or truncated else None
        pieces = (Piece(chunk, 0, start, length, start),)
        runs.append(Run(span, pieces, length, ends, episode.ended_by))
    return runs
