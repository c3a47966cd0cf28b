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
    num_envs = arena.num_envs
    acts, rews, obs, infos, changed, lasts = zip(*steps, strict=True)
    # Each step takes a row, and one more for a last observation.
    rows = np.ones((len(steps) + 1) * num_envs, dtype=np.int64)
    rows[:num_envs] = arena.row
    at: list[int] = []
    spliced: list[int] = []
    last_obs: list[bytes] = []
    for i, changes in enumerate(changed):
        for change, last in zip(changes, lasts[i], strict=True) if changes else ():
            k = (i + 1) * num_envs + change.at
            at.append(k)
            if last is not None:
                rows[k] = 2
                spliced.append(k)
                last_obs.append(last)
    table = rows.reshape(-1, num_envs)
    np.add.accumulate(table, out=table)
    before = rows[:-num_envs]
    _scatter(arena.act_columns[0], before, acts)
    _scatter(arena.rew_column, before, rews)
    _scatter(arena.obs_columns[0], rows[num_envs:], obs)
    if spliced:
        _scatter(arena.obs_columns[0], rows.take(spliced) - 1, last_obs)
    if arena.layout.keeps_infos:
        arena.block.infos.write(before, infos)
    return table[-1], [*zip(chain.from_iterable(changed), rows.take(at).tolist(), strict=True)] if at else []


def write_acts(arena: Arena, acts: bytes) -> None:
    """Write staged actions to the current rows."""
    _scatter(arena.act_columns[0], arena.row, [acts])


def _scatter(column: Column | None, rows: Array, items: Sequence[bytes]) -> None:
    if column is not None:
        dtype: Any = column.dtype if column.lane_dtype is None else column.lane_dtype
        column.lane[rows] = np.frombuffer(b"".join(items), dtype)
