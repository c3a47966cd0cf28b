"""Join the fragments of one episode."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, TypeVar

from vecrollout.data.structures import same_bits
from vecrollout.data.trajectory import Trajectory
from vecrollout.data.trees import DictObs, TupleObs, concatenate
from vecrollout.errors import StitchError

TrajectoryT = TypeVar("TrajectoryT", bound=Trajectory)


def stitch(fragments: Iterable[TrajectoryT]) -> TrajectoryT:
    """Join the fragments of one episode into one trajectory.

    Args:
        fragments: Trajectories of one episode, in any order, without gaps between them. They need not reach the
            episode's start or end.

    Returns:
        One trajectory, with the first fragment's identity and the last fragment's end. Its arrays are copies. A single
        fragment is returned itself.

    Raises:
        StitchError: If there is no fragment; if a fragment has no `episode.id`, belongs to another episode, or differs
            in class, structure, shapes or dtypes; if two fragments leave a gap, overlap, or differ in the observation
            where they meet; or if a fragment follows the episode's end.
    """
    parts = sorted(fragments, key=lambda part: part.episode.start_step)
    if not parts:
        raise StitchError("fragments: expected at least one, got none")
    if len(parts) == 1:
        return parts[0]
    first, last = parts[0], parts[-1]
    for part in parts:
        _check_episode(first, part)
        _check_kind(first, part)
    for left, right in pairwise(parts):
        _check_seam(left, right)
    joined: dict[str, Any] = {"obs": concatenate([*(part.obs[:-1] for part in parts[:-1]), last.obs], "obs")}
    for name in _columns(first):
        joined[name] = concatenate([getattr(part, name) for part in parts], name)
    return dataclasses.replace(
        first,
        **joined,
        terminal=last.terminal,
        terminated=last.terminated,
        truncated=last.truncated,
        episode=dataclasses.replace(first.episode, ended_by=last.episode.ended_by),
    )


def _check_episode(first: Trajectory, part: Trajectory) -> None:
    if part.episode.id is None:
        raise StitchError(f"{_place(part)}: expected an episode.id, got None: its origin is unknown")
    if part.episode.recording != first.episode.recording:
        raise StitchError(f"{_place(part)}: expected one of the same recording, got one of another recorder's")
    if (part.episode.id, part.episode.env_index) != (first.episode.id, first.episode.env_index):
        raise StitchError(
            f"{_place(part)}: expected episode {first.episode.id} of environment {first.episode.env_index}, "
            f"got a foreign one, episode {part.episode.id} of environment {part.episode.env_index}"
        )


def _check_kind(first: Trajectory, part: Trajectory) -> None:
    def with_infos(trajectory: Trajectory) -> str:
        return f"{type(trajectory).__name__} {'without' if trajectory.infos is None else 'with'} infos"

    if with_infos(part) != with_infos(first) or type(part) is not type(first):
        raise StitchError(f"{_place(part)}: expected a {with_infos(first)} as the first one, got a {with_infos(part)}")
    for name in ("obs", *_columns(first)):
        expected, got = _kind(getattr(first, name)), _kind(getattr(part, name))
        if got != expected:
            raise StitchError(f"{_place(part)}: {name}: expected {expected} as in the first one, got {got}")


def _check_seam(left: Trajectory, right: Trajectory) -> None:
    stop, start = left.episode.start_step + len(left), right.episode.start_step
    if stop != start:
        kind = "a gap" if start > stop else "an overlap"
        raise StitchError(f"{_place(right)}: expected to start at step {stop}, where the one before ends: {kind}")
    if left.terminal or left.episode.ended_by is not None:
        raise StitchError(f"{_place(right)}: expected nothing after step {stop - 1}, with which the episode ended")
    if not same_bits(left.obs[-1], right.obs[0]):
        raise StitchError(f"{_place(right)}: obs: expected its first one to be the last one of the fragment before")


def _columns(trajectory: Trajectory) -> Sequence[str]:
    """Names of the fields with one row a step."""
    return [name for name in ("acts", "infos", "rews") if getattr(trajectory, name, None) is not None]


def _kind(batch: Any) -> Any:
    """Entries, and dtype and shape of a row; batches of one kind can be joined unchanged."""
    if isinstance(batch, DictObs | TupleObs):
        return {key: _kind(entry) for key, entry in batch.items()}
    return str(batch.dtype), batch.shape[1:]


def _place(part: Trajectory) -> str:
    return f"fragment from step {part.episode.start_step}"
