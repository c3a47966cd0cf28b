"""Where the data of a batch of trajectories lies: the protocol, and columns of arrays in memory."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from vecrollout._typing import Array
from vecrollout.data.fields import (
    as_batch,
    checked_flags,
    checked_rewards,
    copied,
    info_array,
    infos_or_empty,
    read_only,
    rows,
    trusted,
)
from vecrollout.data.identities import Identities
from vecrollout.data.kinds import Kind
from vecrollout.data.trajectory import Episode, Trajectory, TrajectoryWithRew, ended_by
from vecrollout.data.transitions import Transitions, TransitionsWithRew
from vecrollout.data.trees import concatenate
from vecrollout.errors import ArgumentTypeError, ShapeError

COLUMNS = ("obs", "acts", "rews", "infos")
"""Columns of a batch with a row a step; `obs` has one more a trajectory."""


class Columns(Protocol):
    """Where the data of a batch lies. Rows do not change; they may be gathered when they are first asked for."""

    def __len__(self) -> int:
        """Number of trajectories, N."""

    @property
    def total_steps(self) -> int:
        """Steps of all trajectories together."""

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Steps of each trajectory, shape `(N,)`."""

    @property
    def terminated(self) -> npt.NDArray[np.bool_]:
        """Whether each reached a terminal state, shape `(N,)`."""

    @property
    def truncated(self) -> npt.NDArray[np.bool_]:
        """Whether each was cut short, shape `(N,)`."""

    @property
    def kind(self) -> Kind:
        """Structures, dtypes and shapes; two batches of one recorder have the same object."""

    @property
    def has_infos(self) -> bool:
        """Whether infos were kept; told without gathering them."""

    @property
    def is_recorded(self) -> bool:
        """Whether a recorder gave the episodes their identities."""

    @property
    def episodes(self) -> Sequence[Episode]:
        """Identity of each trajectory, N in all."""

    @property
    def identities(self) -> Identities:
        """The same, field by field; N is 1 or more."""

    def column(self, name: str) -> Any:
        """One of `COLUMNS`, all trajectories behind one another; None for rewards or infos that were not kept."""

    def aligned(self, name: str) -> Any:
        """Actions or rewards with a row for each observation; None where that gains nothing.

        Rows behind the last steps may hold anything.
        """

    def trajectory(self, i: int) -> Trajectory:
        """One trajectory."""

    def transitions(self) -> Transitions:
        """The steps of all trajectories, at least one, as arrays of their own."""

    def joined(self, others: Sequence[Any]) -> Columns | None:
        """These and others of the same class as one; None where that gains nothing."""

    def part(self, begin: int, end: int) -> Columns | None:
        """Some of the trajectories; None where that gains nothing."""


class PlainColumns:
    """What columns do that know no quicker way."""

    is_recorded = False
    """Anybody may have given the episodes their identities."""

    @property
    def total_steps(self: Columns) -> int:
        """Steps of all trajectories together."""
        return int(self.lengths.sum())

    @property
    def identities(self: Columns) -> Identities:
        """Identity of each trajectory, field by field."""
        return Identities.of(self.episodes)

    def aligned(self, name: str) -> Any:
        """Nothing is gained."""
        return None

    def joined(self, others: Sequence[Any]) -> Columns | None:
        """Nothing is gained."""
        return None

    def part(self, begin: int, end: int) -> Columns | None:
        """Nothing is gained."""
        return None


class ArrayColumns(PlainColumns):
    """Columns that lie in memory; trajectories are read-only views of them.

    Args:
        obs: Observations, of each trajectory one more than steps.
        acts: Actions.
        rews: Rewards, or None.
        infos: Info dicts, or None.
        lengths: Steps of each trajectory.
        terminated: Whether each reached a terminal state.
        truncated: Whether each was cut short.
        episodes: Identity of each.
    """

    def __init__(
        self,
        obs: Any,
        acts: Any,
        rews: Array | None,
        infos: npt.NDArray[np.object_] | None,
        lengths: npt.NDArray[np.int64],
        terminated: npt.NDArray[np.bool_],
        truncated: npt.NDArray[np.bool_],
        episodes: Sequence[Episode],
    ) -> None:
        self._columns = {"obs": obs, "acts": acts, "rews": rews, "infos": infos}
        self.lengths, self.terminated, self.truncated, self.episodes = lengths, terminated, truncated, episodes

    def __len__(self) -> int:
        return len(self.lengths)

    @cached_property
    def kind(self) -> Kind:
        """Structures, dtypes and shapes of the columns."""
        return Kind.of(*(self._columns[name] for name in ("obs", "acts", "rews")))

    @property
    def has_infos(self) -> bool:
        """Whether infos were kept."""
        return self._columns["infos"] is not None

    @cached_property
    def _views(self) -> dict[str, Any]:
        return {name: None if column is None else read_only(column) for name, column in self._columns.items()}

    @cached_property
    def _plain(self) -> tuple[list[int], list[bool], list[bool]]:
        """Where each trajectory begins, and how it ended, as Python's own numbers."""
        starts = np.concatenate([[0], np.cumsum(self.lengths)])
        return starts.tolist(), self.terminated.tolist(), self.truncated.tolist()

    def column(self, name: str) -> Any:
        """One of `COLUMNS`."""
        return self._views[name]

    def trajectory(self, i: int) -> Trajectory:
        """One trajectory, as views."""
        views = self._views
        starts, terminated, truncated = self._plain
        begin, end = starts[i], starts[i + 1]
        infos, rews = views["infos"], views["rews"]
        return trajectory_of(
            views["obs"][begin + i : end + i + 1],
            views["acts"][begin:end],
            None if rews is None else rews[begin:end],
            None if infos is None else infos[begin:end],
            terminated[i],
            truncated[i],
            self.episodes[i],
        )

    def transitions(self) -> Transitions:
        """The steps of all trajectories, as copies."""
        steps = self.total_steps
        # Observation i of the steps is row i + (number of trajectories before) of the column.
        at = np.arange(steps) + np.repeat(np.arange(len(self.lengths)), self.lengths)
        obs, acts, rews, infos = self._columns.values()
        return transitions_of(
            obs[at], copied(acts), infos_or_empty(infos, steps).copy(), obs[at + 1], copied(rews), self
        )

    def part(self, begin: int, end: int) -> Columns:
        """Some of the trajectories, as views."""
        first, last = self._plain[0][begin], self._plain[0][end]
        obs, acts, rews, infos = self._columns.values()
        return ArrayColumns(
            obs[first + begin : last + end],
            acts[first:last],
            None if rews is None else rews[first:last],
            None if infos is None else infos[first:last],
            self.lengths[begin:end],
            self.terminated[begin:end],
            self.truncated[begin:end],
            self.episodes[begin:end],
        )


def trajectory_of(
    obs: Any, acts: Any, rews: Any, infos: Any, terminated: bool, truncated: bool, episode: Episode
) -> Trajectory:
    """A trajectory of fields that fit together, in final form; rewards may be None."""
    fields = {
        "obs": obs,
        "acts": acts,
        "infos": infos,
        "terminal": terminated or truncated,
        "terminated": terminated,
        "truncated": truncated,
        "episode": episode,
    }
    if rews is None:
        return trusted(Trajectory, fields)
    fields["rews"] = rews
    return trusted(TrajectoryWithRew, fields)


def transitions_of(obs: Any, acts: Any, infos: Any, next_obs: Any, rews: Array | None, columns: Columns) -> Transitions:
    """Transitions with the flags of a batch; with rewards where there are any."""
    last = np.cumsum(columns.lengths) - 1
    flags = np.zeros((3, last[-1] + 1), bool)
    flags[0][last] = columns.terminated | columns.truncated
    flags[1][last], flags[2][last] = columns.terminated, columns.truncated
    names = "obs", "acts", "infos", "next_obs", "dones", "terminated", "truncated"
    fields = dict(zip(names, (obs, acts, infos, next_obs, *flags), strict=True))
    return trusted(Transitions, fields) if rews is None else trusted(TransitionsWithRew, {**fields, "rews": rews})


def checked_columns(
    obs: Any, acts: Any, rews: Any, infos: Any, lengths: Any, terminated: Any, truncated: Any, episodes: Any
) -> ArrayColumns:
    """Columns from a caller's arrays."""
    lengths = np.asarray(lengths)
    if lengths.ndim != 1 or (lengths.dtype.kind not in "iu" and lengths.size) or (lengths < 1).any():
        raise ShapeError(f"lengths: expected steps of each trajectory, 1 or more, in one dimension, got {lengths}")
    lengths = lengths.astype(np.int64)
    steps, count = int(lengths.sum()), len(lengths)
    obs, acts = as_batch("obs", obs), as_batch("acts", acts)
    for name, column, expected in (("obs", obs, steps + count), ("acts", acts, steps)):
        if rows(name, column) != expected:
            raise ShapeError(
                f"{name}: expected {expected} rows ({count} trajectories with {steps} steps), got {len(column)}"
            )
    rews = None if rews is None else checked_rewards(rews, steps)
    infos = None if infos is None else info_array(infos)
    if infos is not None and infos.shape != (steps,):
        raise ShapeError(f"infos: expected shape ({steps},), one a step, got {infos.shape}")
    flags: list[Any] = [
        np.zeros(count, bool) if given is None else checked_flags(name, given, count)
        for name, given in (("terminated", terminated), ("truncated", truncated))
    ]
    if episodes is None:
        pairs = zip(flags[0].tolist(), flags[1].tolist(), strict=True)
        episodes = [Episode(ended_by=ended_by(*pair)) for pair in pairs]
    if len(episodes) != count:
        raise ShapeError(f"episodes: expected {count}, one a trajectory, got {len(episodes)}")
    return ArrayColumns(obs, acts, rews, infos, lengths, flags[0], flags[1], list(episodes))


def concatenated(parts: Sequence[Columns]) -> ArrayColumns:
    """Copies of at least one part, one behind another."""
    if len({part.column("rews") is None for part in parts}) > 1:
        raise ArgumentTypeError("batches: expected all with rewards or all without, got some of both")
    columns: dict[str, Any] = {}
    for name in COLUMNS:
        found = [part.column(name) for part in parts]
        if name == "infos" and any(each is not None for each in found):
            found = [infos_or_empty(each, part.total_steps) for each, part in zip(found, parts, strict=True)]
        columns[name] = None if found[0] is None else concatenate(found, name)
    for name in ("lengths", "terminated", "truncated"):
        columns[name] = np.concatenate([getattr(part, name) for part in parts])
    return ArrayColumns(**columns, episodes=[episode for part in parts for episode in part.episodes])


def joined_columns(trajectories: Sequence[Trajectory], keeps_rews: bool = True) -> ArrayColumns:
    """Copies of trajectories, one behind another; their rewards may be left out."""
    if not trajectories:
        raise ShapeError("trajectories: expected at least one, got none")
    for i, each in enumerate(trajectories):
        if not isinstance(each, Trajectory):
            raise ArgumentTypeError(f"trajectory {i}: expected a Trajectory, got a {type(each).__name__}")
    with_rews = [keeps_rews and isinstance(each, TrajectoryWithRew) for each in trajectories]
    if len(set(with_rews)) > 1:
        odd = with_rews.index(not with_rews[0])
        raise ArgumentTypeError(
            f"trajectory {odd}: expected one {'with' if with_rews[0] else 'without'} rewards like trajectory 0, got a "
            f"{type(trajectories[odd]).__name__}"
        )
    has_infos = any(each.infos is not None for each in trajectories)
    return ArrayColumns(
        concatenate([each.obs for each in trajectories], "obs"),
        concatenate([each.acts for each in trajectories], "acts"),
        np.concatenate([each.rews for each in trajectories]) if with_rews[0] else None,  # type: ignore[attr-defined]
        np.concatenate([infos_or_empty(each.infos, len(each)) for each in trajectories]) if has_infos else None,
        np.array([len(each) for each in trajectories], np.int64),
        np.array([each.terminated for each in trajectories], bool),
        np.array([each.truncated for each in trajectories], bool),
        [each.episode for each in trajectories],
    )
