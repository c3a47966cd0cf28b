"""Trajectories, or some of their steps, out of one record batch or several."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

from vecrollout._typing import Array
from vecrollout.data.columns import trajectory_of
from vecrollout.data.structures import Structure
from vecrollout.data.trajectory import Trajectory, part_of_episode
from vecrollout.storage.codec.decode import DecodedBatch
from vecrollout.storage.codec.schema import FIELDS

Piece: TypeAlias = tuple[DecodedBatch, int, int]
"""A batch, its first row, and the row behind the last."""

_LEAF = Structure(None)


def fragment(first: DecodedBatch, i: int, pieces: Sequence[Piece], start: int, stop: int) -> Trajectory:
    """Steps [start, stop) of trajectory i of `first`; the pieces have its rows [start, stop]."""
    begin, end, terminated, truncated, _, episode = first.entries.entry(i)
    reaches_end = stop == end - begin
    episode = part_of_episode(episode, start, reaches_end)
    obs, acts, rews, infos = (field(first, i, pieces, name) for name in FIELDS)
    return trajectory_of(obs, acts, rews, infos, reaches_end and terminated, reaches_end and truncated, episode)


def field(first: DecodedBatch, i: int, pieces: Sequence[Piece], name: str) -> Any:
    """One of `FIELDS` of a fragment."""
    if name == "infos" and not first.entries.entry(i)[4]:
        return None
    if name != "obs":
        pieces = _without_last(pieces)
    parts = [batch.field(name, begin, end, first.text_dtype(i)) for batch, begin, end in pieces]
    if len(parts) == 1 or parts[0] is None:
        return parts[0]
    layout = first.schema.layout
    structure = layout.obs.structure if name == "obs" else layout.acts.structure if name == "acts" else _LEAF
    columns = zip(*(structure.flatten(part) for part in parts), strict=True)
    return structure.unflatten([_joined(arrays, is_read_only=name != "infos") for arrays in columns])


def _without_last(pieces: Sequence[Piece]) -> Sequence[Piece]:
    """The pieces without the row of the last observation."""
    *before, (batch, begin, end) = pieces
    return [*before, (batch, begin, end - 1)] if end - 1 > begin else before


def _joined(arrays: Sequence[Array], *, is_read_only: bool) -> Array:
    # Without a dtype NumPy would make the other byte order its own.
    joined: Array = np.concatenate(arrays, dtype=arrays[0].dtype)
    joined.flags.writeable = not is_read_only
    return joined
