"""Checks trajectories before they are handed over to a writer's thread."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from typing import Any

from vecrollout._typing import Array
from vecrollout.data.batch import TrajectoryBatch
from vecrollout.data.dtypes import dtype_to_json
from vecrollout.data.fields import trusted
from vecrollout.data.kinds import Kind
from vecrollout.data.trajectory import Trajectory
from vecrollout.storage.codec.identities import check_episode
from vecrollout.storage.codec.layout import Layout, Spaces
from vecrollout.storage.writing.encoding import Handed

_TRAJECTORY_BYTES = 1000
"""A guess at the memory of a trajectory beside its arrays."""

Notes = dict[str, Any]


class Intake:
    """The layouts of a writer's trajectories. All have the structure of the first. Several threads may bring them."""

    def __init__(self, spaces: Spaces | None) -> None:
        self._spaces = spaces
        self._lock = threading.RLock()
        self._layouts: list[Layout] = []
        # Plain batches of a known kind need no look at their arrays.
        self._kinds: deque[tuple[Kind, Layout]] = deque(maxlen=8)

    @property
    def has_begun(self) -> bool:
        """Whether any trajectory was checked."""
        return bool(self._layouts)

    def of_batch(self, batch: TrajectoryBatch, notes: list[Notes] | None, info_bytes: int) -> Handed:
        """A batch whose data can be written; `notes` are those of each of its trajectories."""
        kind, layout = batch.kind, None
        for known, its_layout in self._kinds:
            if kind is known:
                layout = its_layout
        steps = batch.lengths.tolist()
        if not batch.is_recorded:
            for episode, length in zip(batch.episodes, steps, strict=True):
                check_episode(episode, length)
        if layout is None:
            with self._lock:
                layout, leaves = self._layout_of(batch.obs, batch.acts, batch.rews)
                if layout.is_plain:
                    self._kinds.append((kind, layout))
            if layout.has_text:
                dtypes = _text_dtypes(leaves, layout)
                notes = [{**dtypes, **note} for note in notes or [{}] * len(steps)]
        rows = sum(steps) + len(steps)
        has_infos = batch.has_infos
        nbytes = rows * (layout.row_bytes + has_infos * info_bytes) + len(steps) * _TRAJECTORY_BYTES
        return Handed(batch, layout, rows, nbytes, has_infos, notes)

    def of_list(self, trajectories: list[Trajectory], notes: Sequence[Notes], info_bytes: int) -> list[Handed]:
        """Trajectories whose data can be written, with copies of writable arrays: those of one layout together."""
        found: list[Handed] = []
        group: list[tuple[Trajectory, int, Notes]] = []
        last: Layout | None = None
        with self._lock:
            for trajectory, note in zip(trajectories, notes, strict=True):
                steps = len(trajectory)
                check_episode(trajectory.episode, steps)
                rews = getattr(trajectory, "rews", None)
                layout, leaves = self._layout_of(trajectory.obs, trajectory.acts, rews)
                if layout.has_text:
                    note = {**_text_dtypes(leaves, layout), **note}
                if layout is not last and last is not None:
                    found.append(_handed(group, last, info_bytes))
                    group = []
                last = layout
                group.append((_owned(trajectory, leaves, layout), steps, note))
        return [*found, _handed(group, last, info_bytes)] if last is not None else []

    def _layout_of(self, obs: Any, acts: Any, rews: Array | None) -> tuple[Layout, list[Array]]:
        """The layout of some arrays, and the arrays as it has them. Another dtype or shape makes another layout."""
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


def _handed(group: list[tuple[Trajectory, int, Notes]], layout: Layout, info_bytes: int) -> Handed:
    trajectories, steps, notes = map(list, zip(*group, strict=True))
    has_infos = [each.infos is not None for each in trajectories]
    rows = sum(steps) + len(steps)
    nbytes = rows * (layout.row_bytes + info_bytes * any(has_infos)) + len(steps) * _TRAJECTORY_BYTES
    return Handed(trajectories, layout, rows, nbytes, has_infos, notes if any(notes) else None)


def _owned(trajectory: Trajectory, leaves: list[Array], layout: Layout) -> Trajectory:
    """The trajectory with arrays that nobody else can write to."""
    for leaf in leaves:
        if leaf.flags.writeable:
            break
    else:
        return trajectory
    leaves = [leaf.copy() if leaf.flags.writeable else leaf for leaf in leaves]
    count = len(layout.obs.columns)
    fields = {
        **vars(trajectory),
        "obs": layout.obs.structure.unflatten(leaves[:count]),
        "acts": layout.acts.structure.unflatten(leaves[count:]),
    }
    if layout.rews is not None:
        fields["rews"] = leaves[-1]
    return trusted(type(trajectory), fields)


def _text_dtypes(leaves: list[Array], layout: Layout) -> Notes:
    """The dtypes of text: each array is as wide as its longest, and columns do not tell."""
    pairs = zip(layout.columns, leaves, strict=True)
    return {"dtypes": {column.name: dtype_to_json(leaf.dtype) for column, leaf in pairs if column.is_text}}
