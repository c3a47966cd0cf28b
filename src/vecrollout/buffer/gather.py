"""From rows of the log to columns, trajectories and transitions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from itertools import chain
from operator import attrgetter
from typing import Any

import numpy as np
import numpy.typing as npt

from vecrollout._typing import Array
from vecrollout.buffer.episodes import Ending, Run
from vecrollout.buffer.layout import Layout
from vecrollout.buffer.rows import Rows, TablePart, Tables
from vecrollout.buffer.table import INFOS, LEAVES, REWS, Table
from vecrollout.data.columns import trajectory_of, transitions_of
from vecrollout.data.episode import ended_by
from vecrollout.data.fields import infos_or_empty
from vecrollout.data.identities import Identities
from vecrollout.data.kinds import Item, Part
from vecrollout.data.trajectory import Episode, Trajectory
from vecrollout.data.transitions import Transitions

_ROWS, _STEPS = 1, 2  # of `TablePart`

_steps_of = attrgetter("steps")

_ENDED_BY = np.array([ended_by(bool(flags & 1), flags >= 2) for flags in range(4)], object)


class LogColumns:
    """Fragments in a log, at least one, as the columns of a batch. A column is gathered when it is asked for.

    Args:
        runs: The fragments.
        layout: Of the newest of them; the others differ in dtypes at most, which are narrower.
        keeps_infos: Whether the log has infos.
    """

    def __init__(self, runs: Sequence[Run], layout: Layout, keeps_infos: bool) -> None:
        self.runs = runs
        """What the trajectories are made of, in their order."""
        self.layout = layout
        """What the log's rows are made of."""
        self.has_infos = keeps_infos
        """Whether infos were kept."""
        self.kind = layout.kind
        """Structures, dtypes and shapes."""
        self.total_steps = sum(map(_steps_of, runs))
        """Steps of all trajectories together."""

    def __len__(self) -> int:
        return len(self.runs)

    @cached_property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Steps of each trajectory."""
        return np.fromiter([run.steps for run in self.runs], np.int64, len(self))

    @cached_property
    def terminated(self) -> npt.NDArray[np.bool_]:
        """Whether each reached a terminal state."""
        return np.array([ending is not None and ending.terminated for ending in self._endings], bool)

    @cached_property
    def truncated(self) -> npt.NDArray[np.bool_]:
        """Whether each was cut short."""
        return np.array([ending is not None and ending.truncated for ending in self._endings], bool)

    is_recorded = True
    """A recorder gave the episodes their identities."""

    @property
    def episodes(self) -> Sequence[Episode]:
        """Identity of each."""
        return [run.episode for run in self.runs]

    @property
    def identities(self) -> Identities:
        """The same, field by field."""
        spans = [run.span for run in self.runs]
        by_env = _ENDED_BY[self.terminated + 2 * self.truncated].tolist()
        return Identities(
            [span.recording for span in spans],
            [span.id for span in spans],
            [span.env for span in spans],
            [span.start_step for span in spans],
            [span.seed for span in spans],
            [name or run.closed_by for name, run in zip(by_env, self.runs, strict=True)],
            [span.reset_info for span in spans],
        )

    def share(self) -> None:
        """Say that the rows may be looked at later, so that no lanes are written again."""
        if self.layout.large:
            for run in self.runs:
                for piece in run.pieces:
                    if piece.chunk.lanes is not None:
                        piece.chunk.lanes.is_shared = True

    def column(self, name: str) -> Any:
        """One of `COLUMNS`, read-only but for infos. It is gathered at each call; a batch keeps it."""
        if name == "infos":
            return self._infos() if self.has_infos else None
        if name == "acts":
            return _frozen(self._acts())
        if name == "rews":
            return _frozen(self._rews())
        leaves = [self._obs_rows(leaf, 0, 1) for leaf in range(len(self.layout.obs.items))]
        return self.layout.obs.structure.unflatten(list(map(_frozen, leaves)))

    def trajectory(self, i: int) -> Trajectory:
        """One trajectory: observations in lanes as views, small rows as copies."""
        return self._cut(self.runs[i : i + 1])[0]

    def trajectories(self) -> list[Trajectory]:
        """All trajectories."""
        return self._cut(self.runs)

    def _cut(self, runs: Sequence[Run]) -> list[Trajectory]:
        """Some trajectories, one column after another."""
        obs_part, acts_part = self.layout.obs, self.layout.kind.acts
        parts = list(map(self._tables.parts_of, runs))
        first = LEAVES + len(obs_part.items)
        obs = [self._obs_of(runs, parts, leaf, item) for leaf, item in enumerate(obs_part.items)]
        acts = [self._taken(parts, _STEPS, first + leaf, item) for leaf, item in enumerate(acts_part.items)]
        rews = self._taken(parts, _STEPS, REWS, self.layout.items[0])
        for rows in chain(*obs, *acts, rews):
            rows.setflags(False)  # by position, which takes half the time
        infos = self._infos_of(runs, parts) if self.has_infos else [None] * len(runs)
        trajectories: list[Trajectory] = []
        columns = runs, _trees(obs_part, obs, len(runs)), _trees(acts_part, acts, len(runs)), rews, infos
        for run, its_obs, its_acts, its_rews, its_infos in zip(*columns, strict=True):
            ending = run.ending
            terminated, truncated = (False, False) if ending is None else (ending.terminated, ending.truncated)
            episode = run.span.episode(run.closed_by if ending is None else ended_by(terminated, truncated))
            trajectories.append(trajectory_of(its_obs, its_acts, its_rews, its_infos, terminated, truncated, episode))
        return trajectories

    def transitions(self) -> Transitions:
        """The steps of all, as copies."""
        obs: list[Array] = []
        next_obs: list[Array] = []
        for leaf in range(len(self.layout.obs.items)):
            obs.append(self._obs_rows(leaf, 0, 0))
            next_obs.append(self._obs_rows(leaf, 1, 0))
        structure = self.layout.obs.structure
        infos = self._infos() if self.has_infos else infos_or_empty(None, self.total_steps)
        return transitions_of(
            structure.unflatten(obs), self._acts(), infos, structure.unflatten(next_obs), self._rews(), self
        )

    def aligned(self, name: str) -> Any:
        """Actions or rewards with a row for each observation."""
        return self._acts(1) if name == "acts" else self._rews(1)

    def part(self, begin: int, end: int) -> LogColumns:
        """Some of the fragments."""
        return LogColumns(self.runs[begin:end], self.layout, self.has_infos)

    def joined(self, others: Sequence[Any]) -> LogColumns | None:
        """These and other fragments as one."""
        parts: list[LogColumns] = [self, *others]
        layout = self.layout
        for part in parts:
            if part.layout is layout:
                continue
            same = part.layout.obs == layout.obs and part.layout.acts == layout.acts
            if not same or part.layout.rew_shape != layout.rew_shape or part.has_infos != self.has_infos:
                return None
            rews = np.result_type(layout.rews, part.layout.rews)
            layout = part.layout if rews == part.layout.rews else layout.with_dtype_of_rewards(rews)
        return LogColumns([run for part in parts for run in part.runs], layout, self.has_infos)

    @cached_property
    def _endings(self) -> list[Ending | None]:
        return [run.ending for run in self.runs]

    @cached_property
    def _tables(self) -> Tables:
        return Tables(self.runs, self.layout)

    @cached_property
    def _rows(self) -> Rows:
        return Rows(self.runs, self._tables)

    def _obs_rows(self, leaf: int, shift: int, extra: int) -> Array:
        """A leaf of observations before each step, or with `shift` behind it; with `extra` the last ones too."""
        item = self.layout.obs.items[leaf]
        out = np.empty((self.total_steps + extra * len(self), *item.shape), item.dtype)
        if leaf in self.layout.large:
            self._copy_lanes(leaf, out, shift, extra)
        else:
            self._rows.put(out, LEAVES + leaf, item, shift=shift, extra=extra)
            if shift or extra:
                self._put_finals(leaf, out, self._rows.ends(extra) - 1)
        return out

    def _obs_of(self, runs: Sequence[Run], parts: Sequence[Sequence[TablePart]], leaf: int, item: Item) -> list[Any]:
        """Each fragment's observations of a leaf."""
        if leaf in self.layout.large:
            return [_lane_rows_of(self.layout, leaf, run) for run in runs]
        taken = self._taken(parts, _ROWS, LEAVES + leaf, item)
        for run, rows in zip(runs, taken, strict=True):
            final = run.final
            if final is not None:
                rows[-1, ...] = final[leaf]
        return taken

    def _infos_of(self, runs: Sequence[Run], parts: Sequence[Sequence[TablePart]]) -> list[npt.NDArray[np.object_]]:
        """Each fragment's infos."""
        taken = self._taken(parts, _STEPS, INFOS, None)
        for run, infos in zip(runs, taken, strict=True):
            if run.ending is not None and run.ending.info is not None:
                infos[-1] = run.ending.info
        return taken

    def _taken(self, parts: Sequence[Sequence[TablePart]], where: int, leaf: int, item: Item | None) -> list[Any]:
        """Copies of each fragment's rows of a column; without an `item`, of infos."""
        taken = []
        known: Table | None = None
        column: Any = None
        for each in parts:
            if len(each) > 1 or self._tables.is_narrow:
                taken.append(_joined(each, where, leaf, item))
                continue
            table, at = each[0][0], each[0][where]
            if table is not known:
                known, column = table, table.column(leaf)
            rows = column[at].copy()
            taken.append(rows if item is None else item.opened(rows))
        return taken

    def _acts(self, extra: int = 0) -> Any:
        part, first = self.layout.kind.acts, LEAVES + len(self.layout.obs.items)
        return part.structure.unflatten([self._steps(first + i, item, extra) for i, item in enumerate(part.items)])

    def _rews(self, extra: int = 0) -> Array:
        return self._steps(REWS, self.layout.items[0], extra)

    def _steps(self, leaf: int, item: Item, extra: int) -> Array:
        """A column of the steps; with `extra` 1, with a row of anything behind each fragment."""
        out = np.empty((self.total_steps + extra * len(self), *item.shape), item.dtype)
        self._rows.put(out, leaf, item, are_steps=True, extra=extra)
        return out

    def _infos(self) -> npt.NDArray[np.object_]:
        out = np.empty(self.total_steps, object)
        self._rows.put(out, INFOS, None, are_steps=True)
        for ending, end in zip(self._endings, self._rows.ends(0).tolist(), strict=True):
            if ending is not None and ending.info is not None:
                out[end - 1] = ending.info
        return out

    def _put_finals(self, leaf: int, out: Array, at: Array) -> None:
        """Put last observations in their places, which hold the next episodes' first ones so far."""
        rows = [None if ending is None else ending.final_obs for ending in self._endings]
        finals = [row[leaf] for row in rows if row is not None]
        if len(finals) < len(rows):
            at = at[[row is not None for row in rows]]
        item = self.layout.obs.items[leaf]
        if item.is_bytes and not [final for final in finals if final.dtype is not item.dtype]:
            item.closed(out)[at] = np.frombuffer(b"".join([final.tobytes() for final in finals]), item.void)
        else:
            for place, final in zip(at.tolist(), finals, strict=True):
                out[place, ...] = final

    def _copy_lanes(self, leaf: int, out: Array, shift: int, extra: int) -> None:
        at = 0
        for run in self.runs:
            for j, piece in enumerate(run.pieces):
                source, begin = _lane_rows(run, j, leaf)
                steps = piece.steps + (extra if j == len(run.pieces) - 1 else 0)
                out[at : at + steps] = source[begin + shift : begin + shift + steps]
                at += steps


def _joined(parts: Sequence[TablePart], where: int, leaf: int, item: Item | None) -> Any:
    """Rows of a column that lie in several chunks. They are widened as the column was since."""
    rows: list[Any] = [part[0].column(leaf)[part[where]] for part in parts]  # type: ignore[index]
    if item is None:
        return np.concatenate(rows)
    narrow = [part[0].layout.item(leaf - LEAVES) for part in parts]
    opened = [theirs.opened(each.copy()) for theirs, each in zip(narrow, rows, strict=True)]
    return np.concatenate(opened, dtype=item.dtype)


def _trees(part: Part, leaves: Sequence[Sequence[Any]], count: int) -> Iterable[Any]:
    """`count` values of a part of the layout, from a list for each of its leaves. An empty dict has no leaves."""
    if part.structure.is_leaf:
        return leaves[0]
    return map(part.structure.unflatten, zip(*leaves, strict=True) if leaves else [()] * count)


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
    piece = run.pieces[number]
    chunk, begin, count = piece.chunk, piece.row, piece.steps + 1
    table = chunk.table(begin, begin + count)
    rows: Array = chunk.layout.obs.items[leaf].opened(
        table.column(LEAVES + leaf)[table.rows(piece.env, begin, count)].copy()
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
