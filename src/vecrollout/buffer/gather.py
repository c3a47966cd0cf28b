"""From rows of the log to columns, trajectories and transitions."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from vecrollout._typing import Array
from vecrollout.buffer.episodes import Run
from vecrollout.buffer.layout import Layout
from vecrollout.buffer.rows import Part, Rows, Source
from vecrollout.buffer.table import INFOS, LEAVES, REWS
from vecrollout.data.columns import transitions_of
from vecrollout.data.fields import infos_or_empty, trusted
from vecrollout.data.kinds import Item, Kind
from vecrollout.data.trajectory import Episode, Trajectory, TrajectoryWithRew
from vecrollout.data.transitions import Transitions

_ROWS, _STEPS = 1, 2  # of a `Part`


class LogColumns:
    """Fragments in a log, at least one, as the columns of a batch. A column is gathered when it is first asked for.

    Args:
        runs: The fragments.
        layout: Of the newest of them; the others differ in dtypes at most, which are narrower.
        keeps_infos: Whether the log has infos.
    """

    def __init__(self, runs: Sequence[Run], layout: Layout, keeps_infos: bool) -> None:
        self._runs = runs
        self._layout = layout
        self._keeps_infos = keeps_infos
        self._gathered: dict[str, Any] = {}
        self._known_rows: dict[int, Rows] = {}

    def __len__(self) -> int:
        return len(self._runs)

    @cached_property
    def _source(self) -> Source:
        return Source(self._runs, self._layout)

    @property
    def total_steps(self) -> int:
        """Steps of all trajectories together."""
        return sum([run.steps for run in self._runs])

    @cached_property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Steps of each trajectory."""
        return np.array([run.steps for run in self._runs], np.int64)

    @cached_property
    def terminated(self) -> npt.NDArray[np.bool_]:
        """Whether each reached a terminal state."""
        return np.array([run.terminated for run in self._runs], bool)

    @cached_property
    def truncated(self) -> npt.NDArray[np.bool_]:
        """Whether each was cut short."""
        return np.array([run.truncated for run in self._runs], bool)

    @property
    def has_infos(self) -> bool:
        """Whether infos were kept."""
        return self._keeps_infos

    is_recorded = True
    """A recorder gave the episodes their identities."""

    @property
    def episodes(self) -> Sequence[Episode]:
        """Identity of each."""
        return [run.episode for run in self._runs]

    @property
    def kind(self) -> Kind:
        """Structures, dtypes and shapes."""
        return self._layout.kind

    def share(self) -> None:
        """Say that the rows may be looked at later, so that no lanes are written again."""
        for run in self._runs if self._layout.large else ():
            for piece in run.pieces:
                if piece.chunk.lanes is not None:
                    piece.chunk.lanes.is_shared = True

    def column(self, name: str) -> Any:
        """One of `COLUMNS`, read-only but for infos."""
        if name not in self._gathered:
            self._gathered[name] = self._column(name)
        return self._gathered[name]

    def trajectory(self, i: int) -> Trajectory:
        """One trajectory: observations in lanes as views, small rows as copies."""
        run, layout = self._runs[i], self._layout
        parts = self._source.parts_of(run)
        obs_part, acts_part = layout.obs, layout.kind.acts
        obs = [self._obs_of(run, parts, leaf, item) for leaf, item in enumerate(obs_part.items)]
        first = LEAVES + len(obs)
        acts = [self._taken(parts, _STEPS, first + leaf, item) for leaf, item in enumerate(acts_part.items)]
        infos = None
        if self._keeps_infos:
            infos = _joined([table.column(INFOS)[at] for table, _, at in parts])
            if run.info is not None:
                infos[-1] = run.info
        fields = {
            "obs": _frozen(obs_part.structure.unflatten(obs)),
            "acts": _frozen(acts_part.structure.unflatten(acts)),
            "infos": infos,
            "terminal": run.terminated or run.truncated,
            "terminated": run.terminated,
            "truncated": run.truncated,
            "episode": run.episode,
            "rews": _frozen(self._taken(parts, _STEPS, REWS, layout.items[0])),
        }
        return trusted(TrajectoryWithRew, fields)

    def transitions(self) -> Transitions:
        """The steps of all, as copies."""
        rows = self._rows(0)
        obs: list[Array] = []
        next_obs: list[Array] = []
        for leaf, item in enumerate(self._layout.obs.items):
            for shift, leaves in ((0, obs), (1, next_obs)):
                out = np.empty((rows.total, *item.shape), item.dtype)
                if leaf in self._layout.large:
                    self._copy_lanes(leaf, out, rows, shift)
                else:
                    rows.put_obs(out, LEAVES + leaf, item, shift)
                    if shift:
                        self._put_finals(leaf, out, rows.ends - 1)
                leaves.append(out)
        structure = self._layout.obs.structure
        infos = self._infos(rows) if self._keeps_infos else infos_or_empty(None, rows.total)
        return transitions_of(
            structure.unflatten(obs), self._acts(rows), infos, structure.unflatten(next_obs), self._rews(rows), self
        )

    def part(self, begin: int, end: int) -> LogColumns:
        """Some of the fragments."""
        return LogColumns(self._runs[begin:end], self._layout, self._keeps_infos)

    def joined(self, others: Sequence[Any]) -> LogColumns | None:
        """These and other fragments as one."""
        parts: list[LogColumns] = [self, *others]
        layout = self._layout
        for part in parts:
            if part._layout is layout:
                continue
            same = part._layout.obs == layout.obs and part._layout.acts == layout.acts
            if not same or part._layout.rew_shape != layout.rew_shape or part._keeps_infos != self._keeps_infos:
                return None
            rews = np.result_type(layout.rews, part._layout.rews)
            layout = part._layout if rews == part._layout.rews else layout.with_dtype_of_rewards(rews)
        return LogColumns([run for part in parts for run in part._runs], layout, self._keeps_infos)

    def _rows(self, extra: int) -> Rows:
        """Where the rows are; with `extra` 1, those of the last observations too."""
        if extra not in self._known_rows:
            self._known_rows[extra] = Rows(self._runs, self._source, extra)
        return self._known_rows[extra]

    def _column(self, name: str) -> Any:
        rows = self._rows(0)
        if name == "infos":
            return self._infos(rows) if self._keeps_infos else None
        if name == "acts":
            return _frozen(self._acts(rows))
        if name == "rews":
            return _frozen(self._rews(rows))
        return self._layout.obs.structure.unflatten(
            [self._obs_leaf(leaf) for leaf in range(len(self._layout.obs.items))]
        )

    def _obs_leaf(self, leaf: int) -> Array:
        """A leaf of observations, of each fragment one row more than steps."""
        name = f"obs {leaf}"
        if name not in self._gathered:
            rows = self._rows(1)
            item = self._layout.obs.items[leaf]
            out = np.empty((rows.total, *item.shape), item.dtype)
            if leaf in self._layout.large:
                self._copy_lanes(leaf, out, rows, 0)
            else:
                rows.put_obs(out, LEAVES + leaf, item, 0)
                self._put_finals(leaf, out, rows.ends - 1)
            self._gathered[name] = _frozen(out)
        return self._gathered[name]  # type: ignore[no-any-return]

    def _obs_of(self, run: Run, parts: Sequence[Part], leaf: int, item: Item) -> Any:
        if leaf in self._layout.large:
            return _lane_rows_of(self._layout, leaf, run)
        rows = self._taken(parts, _ROWS, LEAVES + leaf, item)
        if run.final is not None:
            rows[-1, ...] = run.final[leaf]
        return rows

    def _taken(self, parts: Sequence[Part], where: int, leaf: int, item: Item) -> Any:
        """A copy of a fragment's rows of a column; where it was widened since, the rows are."""
        rows: list[Any] = [part[0].column(leaf)[part[where]] for part in parts]  # type: ignore[index]
        if not self._source.is_narrow:
            return item.opened(_joined(rows))
        pairs = zip(rows, parts, strict=True)
        return np.concatenate(
            [part[0].layout.item(leaf - LEAVES).opened(each.copy()) for each, part in pairs], dtype=item.dtype
        )

    def _acts(self, rows: Rows) -> Any:
        part = self._layout.kind.acts
        leaves = []
        for leaf, item in enumerate(part.items):
            out = np.empty((rows.total, *item.shape), item.dtype)
            rows.put_steps(out, LEAVES + len(self._layout.obs.items) + leaf, item)
            leaves.append(out)
        return part.structure.unflatten(leaves)

    def _rews(self, rows: Rows) -> Array:
        out = np.empty((rows.total, *self._layout.rew_shape), self._layout.rews)
        rows.put_steps(out, REWS, self._layout.items[0])
        return out

    def _infos(self, rows: Rows) -> npt.NDArray[np.object_]:
        out = np.empty(rows.total, object)
        rows.put_steps(out, INFOS)
        for run, end in zip(self._runs, rows.ends.tolist(), strict=True):
            if run.info is not None:
                out[end - 1] = run.info
        return out

    def _put_finals(self, leaf: int, out: Array, at: Array) -> None:
        """Put last observations in their places, which hold the next episodes' first ones so far."""
        with_finals = [i for i, run in enumerate(self._runs) if run.final is not None]
        for i, place in zip(with_finals, at[with_finals].tolist(), strict=True):
            out[place, ...] = self._runs[i].final[leaf]  # type: ignore[index]

    def _copy_lanes(self, leaf: int, out: Array, rows: Rows, shift: int) -> None:
        at = 0
        for run in self._runs:
            for j, piece in enumerate(run.pieces):
                source, begin = _lane_rows(run, j, leaf)
                steps = piece.steps + (rows.extra if j == len(run.pieces) - 1 else 0)
                out[at : at + steps] = source[begin + shift : begin + shift + steps]
                at += steps


def _joined(rows: list[Any]) -> Any:
    """A copy of rows, so that a trajectory keeps no other's memory."""
    return rows[0].copy() if len(rows) == 1 else np.concatenate(rows)


def _lane_rows(run: Run, number: int, leaf: int) -> tuple[Array, int]:
    """The rows that a piece of large observations lies in, and where it begins."""
    piece = run.pieces[number]
    chunk = piece.chunk
    layout = chunk.layout
    if leaf not in layout.large:
        return _small_rows(run, number, leaf), 0
    if chunk.lanes is not None:
        return chunk.lanes.rows[layout.large.index(leaf)], piece.lane
    # Copied out of their lanes, with a chunk of one environment of their own.
    return layout.obs.items[leaf].opened(chunk.table().column(LEAVES + leaf)), piece.row


def _small_rows(run: Run, number: int, leaf: int) -> Array:
    """The rows of a piece that was recorded before its column was widened, and became large."""
    chunk, env, row, steps, _ = run.pieces[number]
    table = chunk.table(row, row + steps + 1)
    rows: Array = chunk.layout.obs.items[leaf].opened(
        table.column(LEAVES + leaf)[table.rows(env, row, steps + 1)].copy()
    )
    if run.final is not None and number == len(run.pieces) - 1:
        rows[-1] = run.final[leaf]
    return rows


def _lane_rows_of(layout: Layout, leaf: int, run: Run) -> Any:
    """A fragment's rows of a large leaf: a view where they lie in one piece."""
    last = len(run.pieces) - 1
    parts = []
    for j, piece in enumerate(run.pieces):
        rows, begin = _lane_rows(run, j, leaf)
        parts.append(rows[begin : begin + piece.steps + (j == last)])
        if last == 0 and piece.chunk.lanes is not None:
            piece.chunk.lanes.is_shared = True
    whole = parts[0] if last == 0 else np.concatenate(parts)
    return _frozen(whole.astype(layout.obs.items[leaf].dtype, copy=False))


def _frozen(column: Any) -> Any:
    if type(column) is np.ndarray:
        column.setflags(write=False)
        return column
    return column.map_arrays(_frozen)
