"""From runs of rows to trajectories and transitions."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import numpy as np

from vecrollout._typing import Array
from vecrollout.buffer.arena import Layout
from vecrollout.buffer.blocks import Column, Piece
from vecrollout.buffer.runs import Run
from vecrollout.data.fields import infos_or_empty, trusted
from vecrollout.data.structures import unflatten
from vecrollout.data.trajectory import TrajectoryWithRew
from vecrollout.data.transitions import TransitionsWithRew

# From this item size on, copying a slice a run is faster than gathering item by item.
_SLICED_ITEM_BYTES = 1024


def to_trajectory(run: Run, layout: Layout) -> TrajectoryWithRew:
    """The run as a trajectory: read-only views where it lies in one piece, else copies."""
    width = layout.obs_width
    pieces = run.pieces
    if len(pieces) == 1:
        piece = pieces[0]
        start, stop = piece.row, piece.row + piece.steps
        columns = piece.block.columns
        obs = [column.frozen[start : stop + 1] for column in columns[:width]]
        rest = [column.frozen[start:stop] for column in columns[width:]]
    else:
        obs = [joined(pieces, i, 1) for i in range(width)]
        rest = [joined(pieces, i, 0) for i in range(width, len(pieces[0].block.columns))]
    return trusted(
        TrajectoryWithRew,
        {
            "obs": obs[0] if layout.obs is None else unflatten(layout.obs, obs),
            "acts": rest[0] if layout.acts is None else unflatten(layout.acts, rest[:-1]),
            "infos": infos_of(pieces) if layout.keeps_infos else None,
            "terminal": run.terminal,
            "terminated": run.terminated,
            "truncated": run.truncated,
            "episode": run.episode(),
            "rews": rest[-1],
        },
    )


def to_transitions(runs: Sequence[Run], layout: Layout) -> TransitionsWithRew:
    """The steps of all runs, run after run, as copies."""
    ends = np.cumsum([run.steps for run in runs])
    total = int(ends[-1])
    flags = np.zeros((3, total), dtype=bool)
    last = ends - 1
    for flag, name in zip(flags, ("terminal", "terminated", "truncated"), strict=True):
        flag[last] = [getattr(run, name) for run in runs]
    pieces = [piece for run in runs for piece in run.pieces]
    groups = [list(group) for _, group in groupby(pieces, key=lambda piece: id(piece.block))]
    width = layout.obs_width
    columns = range(len(pieces[0].block.columns))
    obs = [_gathered(groups, i, 0, total) for i in columns[:width]]
    next_obs = [_gathered(groups, i, 1, total) for i in columns[:width]]
    rest = [_gathered(groups, i, 0, total) for i in columns[width:]]
    return trusted(
        TransitionsWithRew,
        {
            "obs": unflatten(layout.obs, obs),
            "acts": unflatten(layout.acts, rest[:-1]),
            "infos": infos_of(pieces) if layout.keeps_infos else infos_or_empty(None, total),
            "next_obs": unflatten(layout.obs, next_obs),
            "dones": flags[0],
            "terminated": flags[1],
            "truncated": flags[2],
            "rews": rest[-1],
        },
    )


def joined(pieces: Sequence[Piece], column: int, extra: int) -> Array:
    """One column of all pieces; with `extra` 1, the last observation too."""
    slices = [piece.block.columns[column].rows[piece.row : piece.row + piece.steps] for piece in pieces]
    if extra:
        last = pieces[-1]
        slices.append(last.block.columns[column].rows[last.row + last.steps :][:1])
    return np.concatenate(slices)


def infos_of(pieces: Sequence[Piece]) -> Any:
    """Infos of all steps, as an array of objects of their own."""
    return pieces[0].infos().copy() if len(pieces) == 1 else np.concatenate([piece.infos() for piece in pieces])


def _gathered(groups: Sequence[list[Piece]], column: int, shift: int, total: int) -> Array:
    """One column of all steps; `shift` 1 gives the observations after the steps."""
    out: Array | None = None
    at = 0
    for pieces in groups:
        source = pieces[0].block.columns[column]
        if out is None:
            dtypes = {pieces[0].block.columns[column].dtype for pieces in groups}
            out = np.empty((total, *source.spec.shape), dtypes.pop() if len(dtypes) == 1 else np.result_type(*dtypes))
        if source.spec.item_bytes >= _SLICED_ITEM_BYTES or source.dtype.hasobject or source.dtype != out.dtype:
            for piece in pieces:
                start = piece.row + shift
                out[at : at + piece.steps] = source.rows[start : start + piece.steps]
                at += piece.steps
        else:
            index = _rows(pieces, shift)
            _take(source, index, out[at : at + len(index)])
            at += len(index)
    return out  # type: ignore[return-value]  # there is at least one piece


def _rows(pieces: Sequence[Piece], shift: int) -> Array:
    """Row numbers of all steps of pieces in one block."""
    starts = np.array([piece.row for piece in pieces])
    steps = np.array([piece.steps for piece in pieces])
    skipped = starts + shift - (np.cumsum(steps) - steps)
    index: Array = np.arange(steps.sum()) + np.repeat(skipped, steps)
    return index


def _take(source: Column, index: Array, out: Array) -> None:
    if source.lane_dtype is not None:
        out = out.reshape(-1).view(source.lane_dtype)
    # mode="clip" writes straight into `out`; the default mode goes through a buffer.
    source.lane.take(index, axis=0, out=out, mode="clip")
