"""Runs laid into one block that holds nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from vecrollout._typing import Array, Info
from vecrollout.buffer.arena import Layout
from vecrollout.buffer.blocks import Block, ColumnSpec, Piece
from vecrollout.buffer.gather import infos_of, joined


class Contents(NamedTuple):
    """What one run consists of."""

    steps: int
    column: Callable[[int], Array]
    """Takes a column's index, returns its rows: one a step, and one more of observations."""
    infos: Iterable[Info] | None


def packed(runs: Sequence[Contents], specs: Sequence[ColumnSpec], obs_width: int) -> list[list[Piece]]:
    """Copies of the runs, each in one piece with its last observation behind it; none where a run has no steps.

    Args:
        runs: The runs.
        specs: Specs of their columns.
        obs_width: How many of the columns, from the first on, hold observations.
    """
    block = Block(1, sum(run.steps + 1 for run in runs if run.steps), specs)
    row = 0
    copies: list[list[Piece]] = []
    for run in runs:
        copies.append([Piece(block, row, run.steps)] if run.steps else [])
        if not run.steps:
            continue
        stop = row + run.steps
        for i, column in enumerate(block.columns):
            column.rows[row : stop + (i < obs_width)] = run.column(i)
        if run.infos is not None:
            block.infos.write(np.arange(row, stop), [tuple(run.infos)])
        row = stop + 1
    return copies


def repacked(runs: Sequence[Sequence[Piece]], layout: Layout) -> list[list[Piece]]:
    """Copies of runs that lie in pieces."""

    def contents(pieces: Sequence[Piece]) -> Contents:
        infos = infos_of(pieces) if layout.keeps_infos and pieces else None
        return Contents(
            sum(piece.steps for piece in pieces), lambda i: joined(pieces, i, int(i < layout.obs_width)), infos
        )

    specs = next(pieces for pieces in runs if pieces)[0].block.specs
    return packed([contents(pieces) for pieces in runs], specs, layout.obs_width)
