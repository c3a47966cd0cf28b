"""Steps that wait to be written to the arena: many at once cost a fraction of what each costs alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

from vecrollout._typing import Array, Info
from vecrollout.buffer.arena import Arena
from vecrollout.buffer.blocks import Column
from vecrollout.buffer.endings import Ending, Restart
from vecrollout.buffer.infos import BatchedInfos

Change: TypeAlias = Restart | Ending

StagedStep: TypeAlias = tuple[
    bytes, bytes, bytes, tuple[Info, ...] | BatchedInfos | None, Sequence[Change], Sequence[bytes | None]
]
"""Actions, rewards and observations of all environments; infos, if they are kept; the episodes that began and ended,
and for each the last observation, where the step's own observation of the environment is the next episode's first."""


def write_staged(arena: Arena, steps: Sequence[StagedStep]) -> tuple[Array, list[tuple[Change, int]]]:
    """Write steps to the rows behind the current ones.

    Args:
        arena: Where to; its current rows stay as they are.
        steps: The steps, in order.

    Returns:
        The rows of the current observations after the last step; and the episodes that began and ended, in order, each
        with the row of the environment's observation. Where an episode ended and another began, the last observation
        of the one is in the row before the first of the other.
    """
    acts, rews, obs, infos, changes, lasts = zip(*steps, strict=True)
    # Each step takes a row, and one more for a last observation.
    taken = np.ones((len(steps) + 1, arena.num_envs), dtype=np.int64)
    taken[0] = arena.row
    changed = [(i, *pair) for i, each in enumerate(changes, 1) if each for pair in zip(each, lasts[i - 1], strict=True)]
    spliced = tuple(zip(*[(i, change.at) for i, change, last in changed if last is not None], strict=True))
    if spliced:
        taken[spliced] = 2
    rows: Array = np.cumsum(taken, axis=0)
    _scatter(arena.act_columns[0], rows[:-1].ravel(), acts)
    _scatter(arena.rew_column, rows[:-1].ravel(), rews)
    _scatter(arena.obs_columns[0], rows[1:].ravel(), obs)
    if spliced:
        _scatter(arena.obs_columns[0], rows[spliced] - 1, [last for _, _, last in changed if last is not None])
    if arena.layout.keeps_infos:
        arena.block.infos.recent.extend(infos)
        arena.block.infos.recent_rows.extend(rows[:-1])
    if not changed:
        return rows[-1], []
    at = rows[[i for i, _, _ in changed], [change.at for _, change, _ in changed]]
    return rows[-1], list(zip([change for _, change, _ in changed], at.tolist(), strict=True))


def write_acts(arena: Arena, acts: bytes) -> None:
    """Write staged actions to the current rows."""
    _scatter(arena.act_columns[0], arena.row, [acts])


def _scatter(column: Column | None, rows: Array, items: Sequence[bytes]) -> None:
    if column is not None:
        dtype: Any = column.dtype if column.lane_dtype is None else column.lane_dtype
        column.lane[rows] = np.frombuffer(b"".join(items), dtype)
