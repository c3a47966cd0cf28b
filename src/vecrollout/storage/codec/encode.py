"""Encodes a batch of trajectories as a record batch: one row a step, and one more row for the last observation."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from vecrollout._typing import Array
from vecrollout.data.batch import TrajectoryBatch
from vecrollout.data.identities import Identities
from vecrollout.data.plain import dumps
from vecrollout.data.sampling.rows import Leaf
from vecrollout.data.trees import map_leaves
from vecrollout.storage.arrow import pa
from vecrollout.storage.codec.arrays import numbers, sparse_text
from vecrollout.storage.codec.index import BatchIndex
from vecrollout.storage.codec.infos import packed_info
from vecrollout.storage.codec.schema import NO_RESET_INFO, TRAJECTORY_FIELDS, TraceSchema

_INT64 = 1 << 63


@dataclass(frozen=True)
class Numbered:
    """Trajectories with the numbers of their episodes in the trace."""

    batch: TrajectoryBatch
    identities: Identities
    numbers: npt.NDArray[np.int64]
    """Number of each trajectory's episode."""
    has_infos: list[bool]
    """Whether infos of each trajectory were kept. If not, the batch may have empty ones."""
    notes: list[dict[str, Any]] | None = None
    """Further facts about each trajectory, in JSON's types: `metadata`, and `dtypes` of text; None: there are none."""


def encode(numbered: Numbered, schema: TraceSchema, arrow_schema: Any, dropped: Counter[str]) -> tuple[Any, BatchIndex]:
    """A `pyarrow.RecordBatch`, and where its trajectories begin. `dropped` counts values that were left out, by key."""
    batch = numbered.batch
    steps, identities = batch.lengths, numbered.identities
    lengths = steps + 1
    ends = np.cumsum(lengths)
    rows, starts, last = int(ends[-1]), ends - lengths, ends - 1
    is_last = np.zeros(rows, bool)
    is_last[last] = True
    index = BatchIndex(
        rows=lengths,
        episode=numbered.numbers,
        env=np.maximum([-1 if each is None else each for each in identities.env_index], -1).astype(np.int64),
        start_step=np.array(identities.start_step, np.int64),
        ended=batch.terminated + 2 * batch.truncated.astype(np.int64),
    )
    env = np.repeat(index.env.astype(np.int32), lengths)
    arrays = {
        "episode": numbers(np.repeat(index.episode, lengths)),
        "step": numbers(np.arange(rows) + np.repeat(index.start_step - starts, lengths)),
        "env": numbers(env, env < 0 if (index.env < 0).any() else None),
        "terminated": _flags(batch.terminated, last - 1, is_last),
        "truncated": _flags(batch.truncated, last - 1, is_last),
    }
    layout = schema.layout
    for column, leaf in zip(layout.obs.columns, layout.obs.structure.flatten(batch.obs, "obs"), strict=True):
        arrays[column.name] = column.encode(np.asarray(leaf))
    acts, rews = _aligned(batch, is_last)
    by_row = [*zip(layout.acts.columns, layout.acts.structure.flatten(acts, "acts"), strict=True)]
    if layout.rews:
        by_row.append((layout.rews, rews))
    for column, leaf in by_row:
        # Rewards of one batch may come in several dtypes.
        leaf = np.asarray(leaf) if column.is_text else np.asarray(leaf).astype(column.dtype, copy=False)
        arrays[column.name] = column.encode(leaf, is_last)
    typed, texts = schema.infos.encode(batch.infos, steps, batch.obs, dropped)
    arrays.update({column.name: array for column, array in zip(schema.infos.columns, typed, strict=True)})
    arrays["info_json"] = sparse_text(rows, list(texts), list(texts.values())) if texts else pa.nulls(rows, pa.string())
    arrays["trajectory"] = _trajectories(numbered, index, rows, dropped)
    record_batch = pa.record_batch([arrays[name] for name in arrow_schema.names], schema=arrow_schema)
    return record_batch, index


def split(record_batch: Any, limit_bytes: int) -> list[Any]:
    """A record batch of a single large trajectory in pieces; any other record batch unchanged."""
    pieces = min(-(-record_batch.nbytes // limit_bytes), record_batch.num_rows // 2)
    if pieces < 2 or len(record_batch.column("trajectory").values) != 1:
        return [record_batch]
    # Each gets two rows at least: the last two belong together.
    bounds = [record_batch.num_rows * piece // pieces for piece in range(pieces + 1)]
    return [record_batch.slice(begin, end - begin) for begin, end in pairwise(bounds)]


def _aligned(batch: TrajectoryBatch, is_last: npt.NDArray[np.bool_]) -> tuple[Any, Any]:
    """Actions and rewards with a row of anything behind each trajectory."""
    columns = batch.columns
    acts = columns.aligned("acts")
    if acts is not None:
        return acts, columns.aligned("rews") if batch.has_rews else None
    step_rows = np.cumsum(~is_last) - 1
    acts = map_leaves(lambda leaf: Leaf(np.asarray(leaf)).take(step_rows), batch.acts)
    return acts, None if batch.rews is None else Leaf(batch.rews).take(step_rows)


def _flags(flags: npt.NDArray[np.bool_], rows: Array, is_last: npt.NDArray[np.bool_]) -> Any:
    column = np.zeros(len(is_last), bool)
    column[rows] = flags
    return numbers(column, is_last)


def _trajectories(numbered: Numbered, index: BatchIndex, rows: int, dropped: Counter[str]) -> Any:
    """The column with the identity of each trajectory in its first row."""
    identities = numbered.identities
    columns = {
        "recording": _values(identities.recording, pa.string()),
        "id": _values(identities.id, pa.int64()),
        "env_index": numbers(index.env.astype(np.int32), index.env < 0),
        "start_step": numbers(index.start_step),
        "seed": _values(_small(identities.seed), pa.int64()),
        "ended_by": _values(identities.ended_by, pa.string()),
        "steps": numbers(index.rows - 1),
        "has_infos": _values(numbered.has_infos, pa.bool_()),
        "extra": _values(_extras(numbered, dropped), pa.string()),
    }
    fields = [columns[field.name] for field in TRAJECTORY_FIELDS]
    entries = pa.StructArray.from_arrays(fields, fields=list(TRAJECTORY_FIELDS))
    offsets = np.zeros(rows + 1, np.int32)
    offsets[index.row + 1] = 1
    return pa.ListArray.from_arrays(numbers(np.cumsum(offsets, dtype=np.int32)), entries)


def _small(seeds: list[int | None]) -> list[int | None]:
    """Seeds that fit into the column; others become None."""
    if seeds.count(None) == len(seeds):
        return seeds
    return [None if seed is None or not -_INT64 <= seed < _INT64 else seed for seed in seeds]


def _values(values: list[Any], arrow_type: Any) -> Any:
    """Values or Nones; often the same for all trajectories."""
    if values[-1] == values[0] and values.count(values[0]) == len(values):
        return pa.repeat(pa.scalar(values[0], arrow_type), len(values))
    return pa.array(values, arrow_type)


def _extras(numbered: Numbered, dropped: Counter[str]) -> list[str | None]:
    """The column `extra`: further facts about each trajectory, as JSON."""
    identities, notes = numbered.identities, numbered.notes
    texts: list[str | None] = []
    for i, (info, seed) in enumerate(zip(identities.reset_info, identities.seed, strict=True)):
        extra = {} if notes is None else dict(notes[i])
        if seed is not None and not -_INT64 <= seed < _INT64:
            extra["seed"] = seed
        if not info and not extra:
            texts.append(None if info is None else NO_RESET_INFO)  # as most are
            continue
        if info is not None:
            extra["reset_info"] = packed_info(info, dropped)
        texts.append(dumps(extra))
    return texts
