"""Checks trajectories before they are handed over to a writer's thread."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from vecrollout._typing import Array
from vecrollout.data.batch import TrajectoryBatch
from vecrollout.data.columns import ArrayColumns, joined_columns
from vecrollout.data.dtypes import dtype_to_json
from vecrollout.data.kinds import Kind
from vecrollout.data.trajectory import Trajectory
from vecrollout.storage.codec.identities import check_episode
from vecrollout.storage.codec.layout import ShardLayout, Spaces

BATCH_ROWS = 32768
"""A record batch has at most this many rows,"""

BATCH_BYTES = 8 << 20
"""and this many bytes before compression. A larger trajectory has a record batch of its own."""

_MOST_KINDS = 64

_TRAJECTORY_BYTES = 1000
"""A guess at the memory of a trajectory beside its arrays."""

Notes = dict[str, Any]


class Handed(NamedTuple):
    """Trajectories of one layout on their way to the disk."""

    batch: TrajectoryBatch
    layout: ShardLayout
    rows: int
    """Rows on disk: the steps, and one more for each trajectory."""
    nbytes: int
    """Memory of their arrays, and a guess at that of their infos."""
    notes: list[Notes] | None = None
    """Further facts about each trajectory; None: there are none."""

    def parts(self) -> Iterator[Handed]:
        """The trajectories in parts of at most a record batch each, unless one trajectory is larger."""
        ends = np.cumsum(self.batch.lengths + 1)
        most = max(1, min(BATCH_ROWS, BATCH_BYTES * self.rows // max(self.nbytes, 1)))
        begin = before = 0
        while begin < len(ends):
            end = max(int(np.searchsorted(ends, before + most, "right")), begin + 1)
            rows = int(ends[end - 1]) - before
            notes = self.notes and self.notes[begin:end]
            yield Handed(self.batch.part(begin, end), self.layout, rows, self.nbytes * rows // self.rows, notes)
            begin, before = end, before + rows


@dataclass
class _Group:
    """Trajectories that make a batch."""

    layout: ShardLayout
    has_infos: bool
    trajectories: list[Trajectory] = field(default_factory=list)
    notes: list[Notes] = field(default_factory=list)
    rows: int = 0
    nbytes: int = 0


class Intake:
    """The layouts of a writer's trajectories. All have the structure of the first. Several threads may call it."""

    def __init__(self, spaces: Spaces | None) -> None:
        self._spaces = spaces
        self._lock = threading.RLock()
        self._layouts: list[ShardLayout] = []
        # By identity: a recorder's batches share their kind. Those without text or objects need no further check.
        self._recorded: dict[int, tuple[Kind, ShardLayout]] = {}

    @property
    def has_begun(self) -> bool:
        """Whether any trajectory was checked."""
        return bool(self._layouts)

    def of_batch(self, batch: TrajectoryBatch, count: int, notes: list[Notes] | None, info_bytes: int) -> Handed:
        """A batch of so many trajectories that can be written."""
        # Not by way of the batch: a recorder's stepping thread is here.
        columns = batch.columns
        known = self._recorded.get(id(columns.kind))
        if known is not None:
            layout = known[1]
        else:
            layout, dtypes = self._checked(batch)
            if dtypes:
                notes = [{**dtypes, **note} for note in notes or [{}] * count]
        rows = columns.total_steps + count
        row_bytes = layout.row_bytes + info_bytes if columns.has_infos else layout.row_bytes
        return Handed(batch, layout, rows, rows * row_bytes + count * _TRAJECTORY_BYTES, notes)

    def _checked(self, batch: TrajectoryBatch) -> tuple[ShardLayout, Notes]:
        """The layout of a batch, whose values are looked at, and the dtypes of text."""
        if not batch.is_recorded:
            for episode, length in zip(batch.episodes, batch.lengths.tolist(), strict=True):
                check_episode(episode, length)
        with self._lock:
            layout, leaves = self._layout_of(batch.obs, batch.acts, batch.rews)
            if layout.is_plain and batch.is_recorded:
                if len(self._recorded) == _MOST_KINDS:
                    self._recorded.clear()
                self._recorded[id(batch.kind)] = batch.kind, layout
        return layout, _text_dtypes(leaves, layout) if layout.has_text else {}

    def of_list(
        self, trajectories: Sequence[Trajectory], notes: Sequence[Notes] | None, info_bytes: int
    ) -> Iterator[Handed]:
        """Trajectories that can be written, joined to batches of at most a record batch, with copies of their arrays.

        A single trajectory is not copied if its arrays are read-only. It may be as large as memory allows.
        """
        groups: list[_Group] = []
        group = None
        with self._lock:
            for i, trajectory in enumerate(trajectories):
                rows = len(trajectory) + 1
                check_episode(trajectory.episode, rows - 1)
                rews = getattr(trajectory, "rews", None)
                layout, leaves = self._layout_of(trajectory.obs, trajectory.acts, rews)
                note = notes[i] if notes else {}
                if layout.has_text:
                    note = {**_text_dtypes(leaves, layout), **note}
                has_infos = trajectory.infos is not None
                nbytes = rows * (layout.row_bytes + info_bytes * has_infos) + _TRAJECTORY_BYTES
                if (
                    group is None
                    or layout is not group.layout
                    or has_infos is not group.has_infos
                    or group.rows + rows > BATCH_ROWS
                    or group.nbytes + nbytes > BATCH_BYTES
                ):
                    group = _Group(layout, has_infos)
                    groups.append(group)
                group.trajectories.append(trajectory)
                group.notes.append(note)
                group.rows += rows
                group.nbytes += nbytes
        return map(_handed, groups)

    def _layout_of(self, obs: Any, acts: Any, rews: Array | None) -> tuple[ShardLayout, list[Array]]:
        """The layout of some arrays, and the arrays by column. Another dtype or shape makes another layout."""
        if self._layouts:
            layout = self._layouts[-1]
            if layout.has_plain(obs, acts, rews):
                return layout, [obs, acts, rews]
            leaves = layout.leaves(obs, acts, rews)
            for layout in reversed(self._layouts):
                if layout.has(leaves):
                    return layout, leaves
        layout = ShardLayout.of(obs, acts, rews, self._spaces)
        leaves = layout.leaves(obs, acts, rews)
        self._layouts.append(layout)
        return layout, leaves


def _handed(group: _Group) -> Handed:
    several = len(group.trajectories) > 1
    columns = joined_columns(group.trajectories) if several else _columns_of(group.trajectories[0], group.layout)
    notes = group.notes if any(group.notes) else None
    return Handed(TrajectoryBatch(columns), group.layout, group.rows, group.nbytes, notes)


def _columns_of(trajectory: Trajectory, layout: ShardLayout) -> ArrayColumns:
    """One trajectory as columns, with copies of writable arrays."""
    obs, acts, rews = trajectory.obs, trajectory.acts, getattr(trajectory, "rews", None)
    leaves = layout.flattened(obs, acts, rews)
    if any(leaf.flags.writeable for leaf in leaves):
        leaves = [leaf.copy() if leaf.flags.writeable else leaf for leaf in leaves]
        count = len(layout.obs.columns)
        rews = leaves.pop() if layout.rews is not None else None
        obs, acts = layout.obs.structure.unflatten(leaves[:count]), layout.acts.structure.unflatten(leaves[count:])
    flags = np.array([trajectory.terminated]), np.array([trajectory.truncated])
    lengths = np.array([len(trajectory)], np.int64)
    return ArrayColumns(obs, acts, rews, trajectory.infos, lengths, *flags, [trajectory.episode])


def _text_dtypes(leaves: list[Array], layout: ShardLayout) -> Notes:
    """The dtypes of text. Each array is as wide as its longest text, which the columns do not tell."""
    pairs = zip(layout.columns, leaves, strict=True)
    return {"dtypes": {column.name: dtype_to_json(leaf.dtype) for column, leaf in pairs if column.is_text}}
