"""Trajectories: T steps of one episode with T + 1 observations, and how the episode ended."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any, Protocol, TypeVar, overload

import numpy as np
import numpy.typing as npt

from vecrollout._typing import Array
from vecrollout.data.array_tree import described
from vecrollout.data.demonstrations import episodes, one_episode
from vecrollout.data.episode import EndedBy as EndedBy
from vecrollout.data.episode import Episode as Episode
from vecrollout.data.episode import ended_by as ended_by
from vecrollout.data.fields import as_batch, checked_rewards, info_array, infos_or_empty, rows, summary, trusted
from vecrollout.data.html import card
from vecrollout.data.trees import Observation, equal
from vecrollout.errors import FlagError, ShapeError

TrajectoryT = TypeVar("TrajectoryT", bound="Trajectory")


@dataclass(frozen=True, eq=False, repr=False)
class Trajectory:
    """A contiguous run of one episode's steps: the whole episode, or a fragment of it.

    `len(trajectory)` is T, the number of steps. Arrays are neither copied nor altered. Lists become arrays, dicts and
    tuples of arrays become `DictObs` and `TupleObs`.

    Examples:
        >>> trajectory = Trajectory(obs=np.zeros((3, 4)), acts=np.array([0, 1]), infos=None, terminal=True)
        >>> len(trajectory), trajectory.terminated, trajectory.truncated
        (2, True, False)

    Raises:
        ShapeError: If a field does not have one row a step (`obs`: one more), or there is no step.
        DtypeError: If `infos` is an array, but not of objects.
        ArgumentTypeError: If a field cannot become an array.
        FlagError: If `terminal` contradicts `terminated` and `truncated`.

    Source:
        Fields and their meaning as in `imitation.data.types.Trajectory` (imitation 1.0.1). The keyword-only fields are
        additions.
    """

    # Without it `array == trajectory` would compare element by element.
    __array_ufunc__ = None

    obs: Observation
    """Observations, shape `(T + 1, *obs_shape)`; `obs[t]` was seen before `acts[t]`, `obs[T]` after the last action."""

    acts: Array
    """Actions, shape `(T, *act_shape)`; `DictObs` or `TupleObs` for Dict and Tuple action spaces."""

    infos: npt.NDArray[np.object_] | None
    """Info dicts, shape `(T,)`, dtype object; `infos[t]` came from the step that took `acts[t]`. None: not recorded."""

    terminal: bool
    """Whether the episode ended with the last step, for either reason (termination or truncation)."""

    terminated: bool = field(default=None, kw_only=True)  # type: ignore[assignment]  # filled in by __post_init__
    """Whether the last step reached a terminal state of the MDP. Default: `terminal`."""

    truncated: bool = field(default=None, kw_only=True)  # type: ignore[assignment]
    """Whether the episode was cut short at the last step (time limit). May be true together with `terminated`. Default:
    False, or True if `terminal` is true and `terminated` is False."""

    episode: Episode = field(default=None, kw_only=True)  # type: ignore[assignment]
    """The episode's identity, which `==` ignores. Default: unknown, except how the episode ended."""

    def __post_init__(self) -> None:
        """Check that the fields fit together."""
        settle = object.__setattr__
        settle(self, "obs", as_batch("obs", self.obs))
        settle(self, "acts", as_batch("acts", self.acts))
        steps, observations = rows("acts", self.acts), rows("obs", self.obs)
        if observations != steps + 1:
            raise ShapeError(
                f"obs: expected one more observations than actions, {steps + 1} rows (acts has {steps} steps), "
                f"got {observations}"
            )
        if self.infos is not None:
            settle(self, "infos", info_array(self.infos))
            if self.infos.shape != (steps,):
                raise ShapeError(
                    f"infos: infos when present must be present for each action: expected shape ({steps},), "
                    f"got {self.infos.shape}"
                )
        if steps == 0:
            raise ShapeError("acts: Degenerate trajectory, expected at least one action, got none")
        self._settle_ending()

    def _settle_ending(self) -> None:
        settle = object.__setattr__
        terminated, truncated = self.terminated, self.truncated
        if terminated is None:
            terminated = bool(self.terminal) and not truncated
        if truncated is None:
            truncated = bool(self.terminal) and not terminated
        if bool(self.terminal) != (bool(terminated) or bool(truncated)):
            raise FlagError(
                f"terminal: expected {bool(terminated or truncated)} (terminated is {terminated}, truncated is "
                f"{truncated}), got {self.terminal}; pass terminated= and truncated= with it, or None to derive them"
            )
        if isinstance(self.terminal, np.bool_):
            settle(self, "terminal", bool(self.terminal))
        settle(self, "terminated", bool(terminated))
        settle(self, "truncated", bool(truncated))
        if self.episode is None:
            settle(self, "episode", Episode(ended_by=ended_by(self.terminated, self.truncated)))

    def __len__(self) -> int:
        """Number of steps, T."""
        return len(self.acts)

    def __eq__(self, other: object) -> bool:
        """Whether all data is equal, except the identity (`episode`); never raises.

        Infos of None equal T empty dicts. Arrays are equal if shapes and values are: dtypes may differ, and NaN differs
        from NaN.
        """
        if not isinstance(other, Trajectory) or len(self) != len(other):
            return False
        names = [each.name for each in fields(self)]
        if names != [each.name for each in fields(other)]:
            return False
        infos = infos_or_empty(self.infos, len(self)), infos_or_empty(other.infos, len(self))
        compared = set(names) - {"infos", "episode"}
        return all(equal(getattr(self, name), getattr(other, name)) for name in compared) and equal(*infos)

    __hash__ = None  # type: ignore[assignment]  # holds arrays, which are not hashable

    def __repr__(self) -> str:
        """One line: shapes, dtypes, and how the episode ended."""
        episode = "" if self.episode.id is None else f", episode {self.episode.id}"
        start = f" from step {self.episode.start_step}" if self.episode.start_step else ""
        return f"<{summary(self, ('obs', 'acts', 'rews'))}{episode}{start}, ended_by={self.episode.ended_by!r}>"

    def _repr_html_(self) -> str:
        """The same as a table, with the rewards as a curve, for notebooks."""
        rews, episode = getattr(self, "rews", None), self.episode
        values = {name: getattr(self, name, None) for name in ("obs", "acts", "rews")}
        rows: dict[str, Any] = {name: described(value) for name, value in values.items() if value is not None}
        rows |= {"ended by": episode.ended_by, "episode": episode.id, "environment": episode.env_index}
        curve = rews if rews is not None and rews.ndim == 1 else np.empty(0)
        rows["return"] = f"{curve.sum(dtype=np.float64):,.6g}" if len(curve) else None
        return card(f"{type(self).__name__} of {len(self):,} steps", rows, curve, "rewards")

    @overload
    @classmethod
    def from_arrays(
        cls,
        obs: Any,
        acts: Any,
        rews: None = None,
        infos: Any = None,
        *,
        terminated: bool = False,
        truncated: bool = False,
        final_obs: Any = None,
        drop_last: bool = False,
    ) -> Trajectory: ...

    @overload
    @classmethod
    def from_arrays(
        cls,
        obs: Any,
        acts: Any,
        rews: Any,
        infos: Any = None,
        *,
        terminated: bool = False,
        truncated: bool = False,
        final_obs: Any = None,
        drop_last: bool = False,
    ) -> TrajectoryWithRew: ...

    @classmethod
    def from_arrays(
        cls,
        obs: Any,
        acts: Any,
        rews: Any = None,
        infos: Any = None,
        *,
        terminated: bool = False,
        truncated: bool = False,
        final_obs: Any = None,
        drop_last: bool = False,
    ) -> Trajectory:
        """Make a trajectory from the arrays of a demonstration.

        Examples:
            >>> obs, acts = [[0.0], [0.1], [0.3]], [1, 1]
            >>> len(Trajectory.from_arrays(obs, acts, rews=[0, 1], terminated=True))
            2

        Args:
            obs: Observations, shape `(T + 1, *obs_shape)`: an array, a list, a dict or tuple of arrays, or a list of
                dicts. With only T observations, the last action has no successor: pass `final_obs` or `drop_last`.
            acts: Actions, shape `(T, *act_shape)`.
            rews: Rewards, shape `(T,)`; integers become float64. None: a trajectory without rewards.
            infos: T info dicts, or None.
            terminated: Whether the last step reached a terminal state.
            truncated: Whether the episode was cut short at the last step.
            final_obs: The observation after the last action, shape `obs_shape`, if `obs` has T rows.
            drop_last: If `obs` has T rows, leave out the last action, its reward and its info. The trajectory then does
                not reach the episode's end, so `terminated` and `truncated` become False. If `obs` has T + 1 rows,
                nothing is left out.

        Returns:
            A `TrajectoryWithRew` if `rews` is given, else a `Trajectory`. Its arrays are read-only, and may share
            memory with the given arrays, which stay writable.

        Raises:
            ShapeError: If the numbers of rows do not fit, or there are T observations and neither `final_obs` nor
                `drop_last`.
            DtypeError: If the dtype of `obs` cannot represent `final_obs`, or `rews` are no real numbers.
            ArgumentTypeError: If a field cannot become an array.
            StructureError: If `final_obs` has other entries than `obs`.
            OptionError: If `final_obs` and `drop_last` are both given.
        """
        kept = one_episode(obs, acts, rews, infos, terminated, truncated, final_obs, drop_last)
        return TrajectoryWithRew(**kept) if "rews" in kept else Trajectory(**kept)

    @classmethod
    def from_flat(
        cls,
        obs: Any,
        acts: Any,
        rews: Any,
        terminals: Any,
        timeouts: Any = None,
        *,
        next_obs: Any = None,
        infos: Any = None,
        drop_last: bool = False,
    ) -> list[TrajectoryWithRew]:
        """Make trajectories from the flat arrays of an offline dataset: one row a step, episode after episode.

        Examples:
            >>> obs, acts, rews = np.arange(5.0), np.zeros(5), np.ones(5)
            >>> terminals, timeouts = [0, 1, 0, 0, 0], [0, 0, 0, 0, 1]
            >>> [len(each) for each in Trajectory.from_flat(obs, acts, rews, terminals, timeouts, next_obs=obs + 1)]
            [2, 3]

        Args:
            obs: Observations, shape `(N, *obs_shape)`; `obs[i]` was seen before `acts[i]`.
            acts: Actions, shape `(N, *act_shape)`.
            rews: Rewards, shape `(N,)`; integers become float64.
            terminals: Whether step i reached a terminal state, shape `(N,)`, bool, or 0 and 1.
            timeouts: Whether the episode was cut short at step i, shape `(N,)`, bool, or 0 and 1. None: never.
            next_obs: The observation after each action, shape `(N, *obs_shape)`.
            infos: N info dicts, or None.
            drop_last: Without `next_obs`, leave out each episode's last step, because its successor is not in the data.
                The trajectories then do not reach their episodes' ends, and episodes of one step vanish.

        Returns:
            One trajectory an episode, in order. Rows after the last episode's end make a last, unfinished trajectory.
            `episode.id` is the number of the episode in the data. Arrays are read-only, and may share memory with the
            given arrays, which stay writable.

        Raises:
            ShapeError: If the arrays have different numbers of rows, or neither `next_obs` nor `drop_last` is given.
            DtypeError: If a flag is neither a bool nor 0 or 1, the dtypes of `next_obs` and `obs` differ, or `rews` are
                no real numbers.
            ArgumentTypeError: If a field cannot become an array.
            StructureError: If `next_obs` has other entries than `obs`.
            OptionError: If `next_obs` and `drop_last` are both given.
            StitchError: If `next_obs[i]` is not `obs[i + 1]` within an episode.

        Source:
            The layout of D4RL (Fu et al. 2020, arXiv:2004.07219): `observations`, `actions`, `rewards`, `terminals`,
            `timeouts`, and in some datasets `next_observations`.
        """
        found = episodes(obs, acts, rews, terminals, timeouts, next_obs, infos, drop_last)
        return [
            TrajectoryWithRew(
                **kept, episode=Episode(id=number, ended_by=ended_by(kept["terminated"], kept["truncated"]))
            )
            for number, kept in found
        ]


@dataclass(frozen=True, eq=False, repr=False)
class TrajectoryWithRew(Trajectory):
    """A `Trajectory` with rewards.

    Raises:
        ShapeError: If a field does not have one row a step (`obs`: one more), or there is no step.
        DtypeError: If the rewards are not floats, or `infos` is an array, but not of objects.
        ArgumentTypeError: If a field cannot become an array.
        FlagError: If `terminal` contradicts `terminated` and `truncated`.

    Source:
        `imitation.data.types.TrajectoryWithRew` (imitation 1.0.1).
    """

    rews: npt.NDArray[np.floating[Any]]
    """Rewards, shape `(T,)`, any float dtype; `rews[t]` came from the step that took `acts[t]`. Vectors (one entry an
    objective or agent) have shape `(T, K)`; functions that need numbers raise `ShapeError` for them."""

    def __post_init__(self) -> None:
        """Check the rewards too."""
        super().__post_init__()
        object.__setattr__(self, "rews", checked_rewards(self.rews, len(self)))


class Sink(Protocol):
    """A receiver of finished trajectories, such as a list or a `TraceWriter`.

    At the end of a step in which episodes ended, a recorder calls `extend(batch)` once with a `TrajectoryBatch`. A sink
    that has only `append` is called once a trajectory. A sink must not call its recorder.
    """

    def append(self, trajectory: TrajectoryWithRew, /) -> object:
        """Take one trajectory.

        Args:
            trajectory: A whole episode, or a fragment. The sink may keep it.
        """


def cut(trajectory: TrajectoryT, start: int, stop: int) -> TrajectoryT:
    """The steps `[start, stop)` of a trajectory as views, with the identity of that part of the episode."""
    if start == 0 and stop == len(trajectory):
        return trajectory
    fields = {**vars(trajectory), "obs": trajectory.obs[start : stop + 1]}
    for name in ("acts", "infos", "rews"):
        if fields.get(name) is not None:
            fields[name] = fields[name][start:stop]
    reaches_end = stop == len(trajectory)
    if not reaches_end:
        fields |= {"terminal": False, "terminated": False, "truncated": False}
    fields["episode"] = part_of_episode(trajectory.episode, start, reaches_end)
    return trusted(type(trajectory), fields)


def part_of_episode(episode: Episode, start: int, reaches_end: bool) -> Episode:
    """Identity of a trajectory's steps from `start` on."""
    if start == 0 and reaches_end:
        return episode
    ended_by = episode.ended_by if reaches_end else None
    return replace(episode, start_step=episode.start_step + start, ended_by=ended_by)
