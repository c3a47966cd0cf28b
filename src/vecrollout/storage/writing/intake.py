"""Checks trajectories before they are handed over to a writer's thread."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from vecrollout._typing import Array
from vecrollout.data.batch import TrajectoryBatch
from vecrollout.data.columns import ArrayColumns, joined_columns
from vecrollout.data.dtypes import dtype_to_json
from vecrollout.data.kinds import Kind
from vecrollout.data.trajectory import Trajectory
from vecrollout.storage.codec.identities import check_episode
from vecrollout.storage.codec.layout import Layout, Spaces

BATCH_ROWS = 8192
"""A record batch has at most this many rows,"""

BATCH_BYTES = 8 << 20
"""and this many bytes before compression. A larger trajectory has a record batch of its own."""

_TRAJECTORY_BYTES = 1000
"""A guess at the memory of a trajectory beside its arrays."""

Notes = dict[str, Any]


class Handed(NamedTuple):
    """Trajectories of one layout on their way to the disk."""

    batch: TrajectoryBatch
    layout: Layout
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


class _Checked(NamedTuple):
    """A trajectory that can be written."""

    trajectory: Trajectory
    leaves: list[Array]
    layout: Layout
    steps: int
    note: Notes


class Intake:
    """The layouts of a writer's trajectories. All have the structure of the first. Several threads may call it."""

    def __init__(self, spaces: Spaces | None) -> None:
        self._spaces = spaces
        self._lock = threading.RLock()
        self._layouts: list[Layout] = []
        # A recorder's batches share their kind. Arrays of a known kind without text or objects need no further check.
        self._kinds: deque[tuple[Kind, Layout]] = deque(maxlen=8)

    @property
    def has_begun(self) -> bool:
        """Whether any trajectory was checked."""
        return bool(self._layouts)

    def of_batch(self, batch: TrajectoryBatch, notes: list[Notes] | None, info_bytes: int) -> Handed:
        """A batch that can be written."""
        count, kind, layout = len(batch), batch.kind, None
        for known, its_layout in self._kinds:
            if kind is known:
                layout = its_layout
        if not batch.is_recorded:
            for episode, length in zip(batch.episodes, batch.lengths.tolist(), strict=True):
                check_episode(episode, length)
        if layout is None:
            with self._lock:
                layout, leaves = self._layout_of(batch.obs, batch.acts, batch.rews)
                if layout.is_plain:
                    self._kinds.append((kind, layout))
            if layout.has_text:
                dtypes = _text_dtypes(leaves, layout)
                notes = [{**dtypes, **note} for note in notes or [{}] * count]
        rows = batch.total_steps + count
        row_bytes = layout.row_bytes + info_bytes if batch.has_infos else layout.row_bytes
        return Handed(batch, layout, rows, rows * row_bytes + count * _TRAJECTORY_BYTES, notes)

    def of_list(self, trajectories: Sequence[Trajectory], notes: Sequence[Notes], info_bytes: int) -> Iterator[Handed]:
        """Trajectories that can be written, joined to batches, with copies of writable arrays."""
        checked: list[_Checked] = []
        with self._lock:
            for trajectory, note in zip(trajectories, notes, strict=True):
                steps = len(trajectory)
                check_episode(trajectory.episode, steps)
                rews = getattr(trajectory, "rews", None)
                layout, leaves = self._layout_of(trajectory.obs, trajectory.acts, rews)
                if layout.has_text:
                    note = {**_text_dtypes(leaves, layout), **note}
                checked.append(_Checked(trajectory, leaves, layout, steps, note))
        return _batches(checked, info_bytes)

    def _layout_of(self, obs: Any, acts: Any, rews: Array | None) -> tuple[Layout, list[Array]]:
        """The layout of some arrays, and the arrays by column. Another dtype or shape makes another layout."""
        if self._layouts:
            layout = self._layouts[-1]
            if layout.has_plain(obs, acts, rews):
                return layout, [obs, acts, rews]
            leaves = layout.leaves(obs, acts, rews)
            for layout in reversed(self._layouts):
                if layout.has(leaves):
                    return layout, leaves
        layout = Layout.of(obs, acts, rews, self._spaces)
        leaves = layout.leaves(obs, acts, rews)
        self._layouts.append(layout)
        return layout, leaves


def _batches(checked: list[_Checked], info_bytes: int) -> Iterator[Handed]:
    """Join neighbors of one layout, up to the size of a record batch."""
    group: list[_Checked] = []
    rows = nbytes = 0
    for each in checked:
        has_infos = each.trajectory.infos is not None
        own_rows = each.steps + 1
        own_bytes = own_rows * (each.layout.row_bytes + info_bytes * has_infos) + _TRAJECTORY_BYTES
        if group and (
            each.layout is not group[0].layout
            or has_infos != (group[0].trajectory.infos is not None)
            or rows + own_rows > BATCH_ROWS
            or nbytes + own_bytes > BATCH_BYTES
        ):
            yield _handed(group, rows, nbytes)
            group, rows, nbytes = [], 0, 0
        group.append(each)
        rows, nbytes = rows + own_rows, nbytes + own_bytes
    if group:
        yield _handed(group, rows, nbytes)


def _handed(group: list[_Checked], rows: int, nbytes: int) -> Handed:
    columns = joined_columns([each.trajectory for each in group]) if len(group) > 1 else _columns_of(group[0])
    notes = [each.note for each in group]
    return Handed(TrajectoryBatch(columns), group[0].layout, rows, nbytes, notes if any(notes) else None)


def _columns_of(checked: _Checked) -> ArrayColumns:
    """One trajectory as columns. Read-only arrays are not copied: a trajectory may be as large as memory allows."""
    trajectory, leaves, layout = checked.trajectory, checked.leaves, checked.layout
    obs, acts, rews = trajectory.obs, trajectory.acts, getattr(trajectory, "rews", None)
    if any(leaf.flags.writeable for leaf in leaves):
        leaves = [leaf.copy() if leaf.flags.writeable else leaf for leaf in leaves]
        count = len(layout.obs.columns)
        obs, acts = layout.obs.structure.unflatten(leaves[:count]), layout.acts.structure.unflatten(leaves[count:])
        rews = None if layout.rews is None else leaves[-1]
    flags = np.array([trajectory.terminated]), np.array([trajectory.truncated])
    lengths = np.array([checked.steps], np.int64)
    return ArrayColumns(obs, acts, rews, trajectory.infos, lengths, *flags, [trajectory.episode])


def _text_dtypes(leaves: list[Array], layout: Layout) -> Notes:
    """The dtypes of text. Each array is as wide as its longest text, which the columns do not tell."""
    pairs = zip(layout.columns, leaves, strict=True)
    return {"dtypes": {column.name: dtype_to_json(leaf.dtype) for column, leaf in pairs if column.is_text}}
