"""Checks that trajectories fit a trace, before they are handed over to its thread."""

from __future__ import annotations

import threading
from collections import deque
from typing import Any

from vecrollout._typing import Array
from vecrollout.data.batch import TrajectoryBatch
from vecrollout.data.dtypes import dtype_to_json
from vecrollout.data.fields import trusted
from vecrollout.data.kinds import Kind
from vecrollout.data.trajectory import Trajectory
from vecrollout.storage.codec.layout import Layout, Spaces
from vecrollout.storage.writing.encoding import Handed

TRAJECTORY_BYTES = 1000
"""A guess at the memory of what there is to a trajectory beside its arrays."""


class Intake:
    """What all trajectories of a trace look like; the first ones decide. Several threads may bring them."""

    def __init__(self, spaces: Spaces | None) -> None:
        self._spaces = spaces
        self._lock = threading.RLock()
        self._layout: Layout | None = None
        # Kinds of batches that are known to fit.
        self._kinds: deque[Kind] = deque(maxlen=8)

    def check_batch(self, batch: TrajectoryBatch) -> tuple[int, dict[str, Any]]:
        """Bytes of a step of a batch that fits, and what else is kept of each of its trajectories."""
        layout, kind = self._layout, batch.kind
        if layout is not None and layout.is_plain:
            for known in self._kinds:
                if kind is known:
                    return layout.row_bytes, {}
        with self._lock:
            layout = self._layout or Layout.of(batch.obs, batch.acts, batch.rews, self._spaces)
            leaves = layout.leaves(batch.obs, batch.acts, batch.rews)
            self._layout = layout
            self._kinds.append(kind)
        return layout.row_bytes, _text_dtypes(leaves, layout)

    def take(self, trajectories: list[Trajectory], notes: list[dict[str, Any]], info_bytes: int) -> Handed:
        """Trajectories that fit, with copies of the arrays that can be written to."""
        nbytes = len(trajectories) * TRAJECTORY_BYTES
        own = []
        with self._lock:
            layout = self._layout
            for i, trajectory in enumerate(trajectories):
                rews = getattr(trajectory, "rews", None)
                if layout is None:
                    layout = Layout.of(trajectory.obs, trajectory.acts, rews, self._spaces)
                leaves = layout.leaves(trajectory.obs, trajectory.acts, rews)
                own.append(_owned(trajectory, leaves, layout))
                if layout.has_text:
                    notes[i] = {**_text_dtypes(leaves, layout), **notes[i]}
                for leaf in leaves:
                    nbytes += leaf.nbytes
                if trajectory.infos is not None:
                    nbytes += len(trajectory.infos) * info_bytes
            self._layout = layout
        return Handed(own, list(map(len, own)), nbytes, notes if any(notes) else None)


def _owned(trajectory: Trajectory, leaves: list[Array], layout: Layout) -> Trajectory:
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


def _text_dtypes(leaves: list[Array], layout: Layout) -> dict[str, Any]:
    """Which dtypes text has: each array is as wide as its longest, and columns do not tell."""
    if not layout.has_text:
        return {}
    pairs = zip(layout.columns, leaves, strict=True)
    return {"dtypes": {column.name: dtype_to_json(leaf.dtype) for column, leaf in pairs if column.is_text}}
