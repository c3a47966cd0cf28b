"""Steps that wait to be written to the arena: many at once cost a fraction of what each costs alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any, TypeAlias

import numpy as np

from vecrollout._typing import Array, Info
from vecrollout.buffer.arena import Arena
from vecrollout.buffer.blocks import Column
from vecrollout.buffer.endings import Ending, Restart

Change: TypeAlias = Restart | Ending

StagedStep: TypeAlias = tuple[bytes, bytes, bytes, Iterable[Info], Sequence[Change], Sequence[bytes | None]]
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
    acts, rews, obs, infos, changed, lasts = zip(*steps, strict=True)
    changes = [*chain.from_iterable(changed)]
    # Each step takes a row, and one more for a last observation.
    taken = np.ones((len(steps) + 1, arena.num_envs), dtype=np.int64)
    taken[0] = arena.row
    if changes:
        at = np.arange(1, len(steps) + 1).repeat([*map(len, changed)]), np.array([change.at for change in changes])
        last_obs = [*chain.from_iterable(lasts)]
        is_spliced = np.array([last is not None for last in last_obs])
        taken[at] += is_spliced
    rows: Array = np.add.accumulate(taken)
    before = rows[:-1].ravel()
    _scatter(arena.act_columns[0], before, acts)
    _scatter(arena.rew_column, before, rews)
    _scatter(arena.obs_columns[0], rows[1:].ravel(), obs)
    if arena.layout.keeps_infos:
        arena.block.infos.write(before, infos)
    if not changes:
        return rows[-1], []
    now = rows[at]
    _scatter(arena.obs_columns[0], now[is_spliced] - 1, [last for last in last_obs if last is not None])
    return rows[-1], [*zip(changes, now.tolist(), strict=True)]


def write_acts(arena: Arena, acts: bytes) -> None:
    """Write staged actions to the current rows."""
    _scatter(arena.act_columns[0], arena.row, [acts])


def _scatter(column: Column | None, rows: Array, items: Sequence[bytes]) -> None:
    if column is not None:
        dtype: Any = column.dtype if column.lane_dtype is None else column.lane_dtype
        column.lane[rows] = np.frombuffer(b"".join(items), dtype)
