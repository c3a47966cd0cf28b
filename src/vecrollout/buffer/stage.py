"""Steps that wait to be written to the arena: many at once cost a fraction of what each costs alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

from vecrollout._typing import Array, Info
from vecrollout.buffer.arena import Arena
from vecrollout.buffer.blocks import Column
from vecrollout.buffer.endings import Ending
from vecrollout.buffer.infos import BatchedInfos

StagedStep: TypeAlias = tuple[
    bytes, bytes, bytes, tuple[Info, ...] | BatchedInfos | None, Sequence[Ending], Sequence[bytes]
]
"""Actions, rewards and observations of all environments; infos, if they are kept; the episodes that ended, and the last
observation of each. The observations of environments whose episode ended are the next episode's first."""


def write_staged(arena: Arena, steps: Sequence[StagedStep]) -> Array:
    """Write steps to the rows behind the current ones.

    Args:
        arena: Where to; its current rows stay as they are.
        steps: The steps, in order.

    Returns:
        Before each step, and after the last, the rows of the environments' current observations, shape
        `(len(steps) + 1, E)`. Where an episode ended, its last observation is in the row before.
    """
    acts, rews, obs, infos, endings, finals = zip(*steps, strict=True)
    ended = [(i + 1, ending.at) for i, each in enumerate(endings) for ending in each]
    # Each step takes a row, and one more where an episode ends: its last observation has a row of its own.
    taken = np.ones((len(steps) + 1, arena.num_envs), dtype=np.int64)
    taken[0] = arena.row
    at = tuple(np.array(ended).T) if ended else ()
    if ended:
        taken[at] = 2
    rows: Array = np.cumsum(taken, axis=0)
    _scatter(arena.act_columns[0], rows[:-1].ravel(), acts)
    _scatter(arena.rew_column, rows[:-1].ravel(), rews)
    _scatter(arena.obs_columns[0], rows[1:].ravel(), obs)
    if ended:
        _scatter(arena.obs_columns[0], rows[at] - 1, [last for each in finals for last in each])
    if arena.layout.keeps_infos:
        arena.block.infos.recent.extend(infos)
        arena.block.infos.recent_rows.extend(rows[:-1])
    return rows


def write_acts(arena: Arena, acts: bytes) -> None:
    """Write staged actions to the current rows."""
    _scatter(arena.act_columns[0], arena.row, [acts])


def _scatter(column: Column | None, rows: Array, items: Sequence[bytes]) -> None:
    if column is not None:
        dtype: Any = column.dtype if column.lane_dtype is None else column.lane_dtype
        column.lane[rows] = np.frombuffer(b"".join(items), dtype)
