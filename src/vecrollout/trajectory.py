"""Trajectories: T steps of one episode with T + 1 observations, how it ended, and which episode it was."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from vecrollout.errors import DtypeError, FlagError, ShapeError, StitchError
from vecrollout.trees import Array, Observation, concatenate, equal, flatten, structure_of, unflatten, wrap

EndedBy: TypeAlias = Literal["terminated", "truncated", "reset_early", "closed"]
TrajectoryT = TypeVar("TrajectoryT", bound="Trajectory")


@dataclass(frozen=True)
class Episode:
    """Which episode a trajectory belongs to, and which part of it the trajectory is.

    Recorders fill it in; it does not take part in the equality of trajectories.
    """

    id: int | None = None
    """Number of the episode, unique in its recording and counted in the order of the episodes' starts; None: unknown."""

    env_index: int | None = None
    """Index of the environment in the vector environment, in `[0, E)`; None: unknown."""

    start_step: int = 0
    """Index in the episode of the trajectory's first step: 0 unless the trajectory misses the episode's start."""

    seed: int | None = None
    """Seed given to the reset that began the episode; None where none was given (autoreset) or it is unknown."""

    reset_info: Mapping[str, Any] | None = None
    """Info returned by the reset that began the episode; None where it is unknown."""

    ended_by: EndedBy | None = None
    """What ended the episode at the trajectory's last step: the environment (`"terminated"`, also when it was truncated
    in the same step, or `"truncated"`), an early `reset` (`"reset_early"`), the closing of the recorder (`"closed"`);
    None where the episode goes on after the trajectory."""


@dataclass(frozen=True, eq=False)
class Trajectory:
    """A contiguous run of one episode's steps: the whole episode, or a fragment of it.

    `len(trajectory)` is T, the number of steps. Arrays handed in are kept as they are: neither copied nor altered.

    >>> Trajectory(obs=np.zeros((3, 4)), acts=np.array([0, 1]), infos=None, terminal=True).terminated
    True

    Source:
        Fields and their meaning as in `imitation.data.types.Trajectory` (imitation 1.0.1); what stands behind the star
        of the constructor is ours.
    """

    obs: Observation
    """Observations, shape `(T + 1, *obs_shape)`; `obs[t]` was seen before `acts[t]`, `obs[T]` after the last action."""

    acts: Array
    """Actions, shape `(T, *act_shape)`."""

    infos: npt.NDArray[np.object_] | None
    """Info dicts, shape `(T,)`, dtype object; `infos[t]` came back from the step that took `acts[t]`. None: not kept."""

    terminal: bool
    """Whether the episode ended with the last step, for either reason (termination or truncation)."""

    terminated: bool = field(default=None, kw_only=True)  # type: ignore[assignment]  # filled in by __post_init__
    """Whether the last step reached a terminal state of the MDP; follows `terminal` where not given."""

    truncated: bool = field(default=None, kw_only=True)  # type: ignore[assignment]
    """Whether the episode was cut short at the last step (time limit). May be true beside `terminated`. Where not
    given: False, unless `terminal` is true and `terminated` was given as False."""

    episode: Episode = field(default=Episode(), kw_only=True)
    """The fragment's identity; not compared by `==`."""

    def __post_init__(self) -> None:
        """Check that the fields fit together.

        Raises:
            ShapeError: If a field has not one row a step (`obs`: one more), or there is no step.
            FlagError: If `terminal` contradicts `terminated` and `truncated`.
        """
        settle = object.__setattr__
        settle(self, "obs", wrap(self.obs))
        if self.infos is not None:
            settle(self, "infos", info_array(self.infos))
        steps = rows("acts", self.acts)
        if rows("obs", self.obs) != steps + 1:
            raise ShapeError(
                f"obs: expected one more observations than actions, {steps + 1} rows as acts has {steps}, "
                f"got {len(self.obs)}"
            )
        if self.infos is not None and len(self.infos) != steps:
            raise ShapeError(
                f"infos when present must be present for each action: expected {steps}, got {len(self.infos)}"
            )
        if steps == 0:
            raise ShapeError("acts: Degenerate trajectory, expected at least one action, got none")
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
        settle(self, "terminated", bool(terminated))
        settle(self, "truncated", bool(truncated))

    def __len__(self) -> int:
        """Number of steps, T."""
        return len(self.acts)

    def __eq__(self, other: object) -> bool:
        """Whether all data is equal, identity (`episode`) aside; infos of None equal T empty dicts."""
        if not isinstance(other, Trajectory) or vars(self).keys() != vars(other).keys() or len(self) != len(other):
            return False
        return all(
            _infos_equal(self.infos, other.infos) if name == "infos" else equal(value, getattr(other, name))
            for name, value in vars(self).items()
            if name != "episode"
        )

    __hash__ = None  # type: ignore[assignment]  # holds arrays, which are not hashable

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
    ) -> Trajectory | TrajectoryWithRew:
        """A trajectory from a demonstration's own arrays.

        Args:
            obs: Observations, shape `(T + 1, *obs_shape)`, an array, a list, or a dict or tuple of arrays. With only T
                observations the last action has no successor: say what to do by `final_obs` or `drop_last`.
            acts: Actions, shape `(T, *act_shape)`.
            rews: Rewards, shape `(T,)`; integers become float64. None: a trajectory without rewards.
            infos: T info dicts, or None.
            terminated: Whether the last step reached a terminal state.
            truncated: Whether the episode was cut short at the last step.
            final_obs: The observation after the last action, shape `obs_shape`, where `obs` has T rows.
            drop_last: Where `obs` has T rows, leave out the last action, its reward and its info. What is left does not
                reach the episode's end, so `terminated` and `truncated` become False.

        Returns:
            A `TrajectoryWithRew` where `rews` is given, else a `Trajectory`.

        Raises:
            ShapeError: If the numbers of rows do not fit, or there are T observations and neither `final_obs` nor
                `drop_last` says what to do.
        """
        obs, acts = _as_arrays(obs), np.asarray(acts)
        steps = rows("acts", acts)
        if final_obs is not None:
            structure = structure_of(obs)
            pairs = zip(flatten(obs, structure), flatten(final_obs, structure, "final_obs"), strict=True)
            obs = unflatten(structure, [np.concatenate([leaf, np.asarray(last, leaf.dtype)[None]]) for leaf, last in pairs])
        elif rows("obs", obs) == steps:
            if not drop_last:
                raise ShapeError(
                    f"obs: expected {steps + 1} rows (acts has {steps} steps), got {steps}: the last action has no "
                    "successor; pass final_obs= (the observation after it), or drop_last=True to leave it out"
                )
            acts, infos = acts[:-1], None if infos is None else infos[:-1]
            rews = None if rews is None else rews[:-1]
            terminated = truncated = False
        kept: dict[str, Any] = dict(
            obs=obs,
            acts=acts,
            infos=infos,
            terminal=terminated or truncated,
            terminated=terminated,
            truncated=truncated,
        )
        return Trajectory(**kept) if rews is None else TrajectoryWithRew(**kept, rews=as_rewards(rews))

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
        """Trajectories from the flat arrays of an offline data set, one row a step, episode after episode.

        Args:
            obs: Observations, shape `(N, *obs_shape)`; `obs[i]` was seen before `acts[i]`.
            acts: Actions, shape `(N, *act_shape)`.
            rews: Rewards, shape `(N,)`; integers become float64.
            terminals: Whether step i reached a terminal state, shape `(N,)`, bool.
            timeouts: Whether the episode was cut short at step i, shape `(N,)`, bool. None: never.
            next_obs: The observation after each action, shape `(N, *obs_shape)`.
            infos: N info dicts, or None.
            drop_last: Without `next_obs`, leave out each episode's last step, whose successor is not in the data. The
                trajectories then do not reach their episodes' ends, and episodes of one step vanish.

        Returns:
            One trajectory an episode, in order; rows behind the last episode's end make a last, unfinished one.

        Raises:
            ShapeError: If the arrays have different numbers of rows, or neither `next_obs` nor `drop_last` says what
                follows an episode's last step.
            StitchError: If `next_obs[i]` is not `obs[i + 1]` within an episode.

        Source:
            The layout of D4RL (Fu et al. 2020, arXiv:2004.07219): `observations`, `actions`, `rewards`, `terminals`,
            `timeouts`, and in some data sets `next_observations`.
        """
        obs, acts, rews = _as_arrays(obs), np.asarray(acts), as_rewards(rews)
        total = rows("acts", acts)
        ends_mdp = _flags("terminals", terminals, total)
        ends_time = np.zeros(total, bool) if timeouts is None else _flags("timeouts", timeouts, total)
        if next_obs is not None:
            next_obs = _as_arrays(next_obs)
        elif not drop_last:
            raise ShapeError(
                "next_obs: expected the observation after each action, got None: an episode's last action has no "
                "successor in obs; pass next_obs=, or drop_last=True to leave the last step of each episode out"
            )
        for name, value in {"obs": obs, "rews": rews, "next_obs": next_obs, "infos": infos}.items():
            if value is not None and rows(name, value) != total:
                raise ShapeError(f"{name}: expected {total} rows (acts has {total} steps), got {len(value)}")
        stops = np.flatnonzero(ends_mdp | ends_time) + 1
        bounds = [0, *stops.tolist()]
        if bounds[-1] != total:
            bounds.append(total)
        trajectories = []
        for start, stop in zip(bounds[:-1], bounds[1:], strict=True):
            span = slice(start, stop)
            if next_obs is None:
                if stop - start == 1:
                    continue
                successors: dict[str, Any] = {"drop_last": True}
            else:
                if not equal(next_obs[start : stop - 1], obs[start + 1 : stop]):
                    raise StitchError(
                        f"next_obs: expected next_obs[i] == obs[i + 1] within the episode in rows [{start}, {stop}), "
                        "got other values: are an end of an episode missing in terminals or timeouts?"
                    )
                final = next_obs[stop - 1]
                successors = {"final_obs": final.unwrap() if hasattr(final, "unwrap") else final}
            part = Trajectory.from_arrays(
                obs[span],
                acts[span],
                rews[span],
                None if infos is None else infos[span],
                terminated=bool(ends_mdp[stop - 1]),
                truncated=bool(ends_time[stop - 1]),
                **successors,
            )
            trajectories.append(dataclasses.replace(part, episode=Episode(id=len(trajectories))))
        return trajectories  # type: ignore[return-value]  # rews were given, so each has them


@dataclass(frozen=True, eq=False)
class TrajectoryWithRew(Trajectory):
    """A `Trajectory` with rewards.

    Source:
        `imitation.data.types.TrajectoryWithRew` (imitation 1.0.1).
    """

    rews: npt.NDArray[np.floating[Any]]
    """Rewards, shape `(T,)`, any float dtype; `rews[t]` was paid for `acts[t]`."""

    def __post_init__(self) -> None:
        """Check the rewards too.

        Raises:
            ShapeError: If a field has not one row a step.
            DtypeError: If the rewards are not floats.
        """
        super().__post_init__()
        check_rewards(self.rews, len(self.acts))


class Sink(Protocol):
    """Where finished trajectories go: a list is one, a trace on disk another."""

    def append(self, trajectory: TrajectoryWithRew, /) -> object:
        """Take one trajectory."""


def stitch(fragments: Iterable[TrajectoryT]) -> TrajectoryT:
    """Join the fragments of one episode into one trajectory.

    Args:
        fragments: Trajectories with the same `episode.id`, in any order, that follow on each other without a gap. They
            need not reach the episode's start or end.

    Returns:
        One trajectory, with the first fragment's identity and the last one's end. Its arrays are copies, unless there
        is only one fragment.

    Raises:
        StitchError: If there is no fragment, one is of another episode or of unknown origin, steps are missing between
            two of them or stand in both, or the observation where two meet differs.
    """
    parts = sorted(fragments, key=lambda part: part.episode.start_step)
    if not parts:
        raise StitchError("fragments: expected at least one, got none")
    first = parts[0]
    for i, part in enumerate(parts):
        if part.episode.id is None and len(parts) > 1:
            raise StitchError(f"fragment {i}: expected an episode.id, got None: its origin is not known")
        if (part.episode.id, part.episode.env_index) != (first.episode.id, first.episode.env_index):
            raise StitchError(
                f"fragment {i}: expected episode {first.episode.id} of environment {first.episode.env_index}, "
                f"got a foreign one, episode {part.episode.id} of environment {part.episode.env_index}"
            )
        if type(part) is not type(first) or (part.infos is None) != (first.infos is None):
            raise StitchError(
                f"fragment {i}: expected a {type(first).__name__} {'without' if first.infos is None else 'with'} infos "
                f"as fragment 0, got a {type(part).__name__} {'without' if part.infos is None else 'with'}"
            )
    for i, (left, right) in enumerate(zip(parts[:-1], parts[1:], strict=True)):
        stop, start = left.episode.start_step + len(left), right.episode.start_step
        if stop != start:
            kind = "a gap" if start > stop else "an overlap"
            raise StitchError(f"fragment {i + 1}: expected to start at step {stop}, got step {start}: {kind}")
        if left.terminal:
            raise StitchError(f"fragment {i + 1}: starts at step {start}, where fragment {i} ended the episode")
        if not _same_bits(left.obs[-1], right.obs[0]):
            raise StitchError(f"fragment {i + 1}: its first observation is not the last one of fragment {i}")
    if len(parts) == 1:
        return first
    last = parts[-1]
    joined: dict[str, Any] = {"obs": concatenate([*(part.obs[:-1] for part in parts[:-1]), last.obs])}
    for name in ("acts", "rews", "infos"):
        if getattr(first, name, None) is not None:
            joined[name] = np.concatenate([getattr(part, name) for part in parts])
    return dataclasses.replace(
        first,
        **joined,
        terminal=last.terminal,
        terminated=last.terminated,
        truncated=last.truncated,
        episode=dataclasses.replace(first.episode, ended_by=last.episode.ended_by),
    )


def trusted(cls: type[TrajectoryT], fields: dict[str, Any]) -> TrajectoryT:
    """An instance from fields that are known to fit: all of them, in final form, unchecked.

    A recorder has checked its data on entry; checking again would cost more than the views that it hands out.
    """
    instance = object.__new__(cls)
    vars(instance).update(fields)
    return instance


def rows(name: str, value: Any) -> int:
    """Length of a field's first dimension.

    Raises:
        ShapeError: If it has none.
    """
    try:
        return len(value)
    except (TypeError, RuntimeError) as error:
        raise ShapeError(f"{name}: expected one row a step, got {type(value).__name__} without a length") from error


def check_rewards(rews: Any, steps: int) -> None:
    """Check the shape and dtype of rewards.

    Raises:
        ShapeError: If their shape is not `(steps,)`.
        DtypeError: If they are not floats.
    """
    if np.shape(rews) != (steps,):
        raise ShapeError(f"rews: rewards must be 1D array, one for each action: expected ({steps},), got {np.shape(rews)}")
    if not np.issubdtype(rews.dtype, np.floating):
        raise DtypeError(f"rews: rewards dtype {rews.dtype} not a float; convert with rews.astype(np.float64)")


def as_rewards(rews: Any) -> npt.NDArray[np.floating[Any]]:
    """Rewards as an array; integers and bools, which have no float of their own, as float64."""
    array = np.asarray(rews)
    return array if np.issubdtype(array.dtype, np.floating) else array.astype(np.float64)


def info_array(infos: Sequence[Any] | Array) -> npt.NDArray[np.object_]:
    """Info dicts as an object array of shape `(T,)`; such an array comes back as it is."""
    if isinstance(infos, np.ndarray):
        return infos
    # np.array would look into the dicts' elements; filling an array of objects does not.
    array = np.empty(len(infos), dtype=object)
    array[:] = infos
    return array


def infos_or_empty(infos: npt.NDArray[np.object_] | None, steps: int) -> npt.NDArray[np.object_]:
    """Infos where they were kept, else as many empty dicts as there are steps."""
    return info_array([{}] * steps) if infos is None else infos


def same_payload(a: Any, b: Any) -> bool:
    """Whether two infos, or parts of them, are equal; never raises, whatever they hold."""
    if a is b:
        return True
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(same_payload(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(same_payload(x, y) for x, y in zip(a, b, strict=True))
    try:
        if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
            return bool(np.array_equal(a, b))
        return bool(a == b)
    except (ValueError, TypeError, RuntimeError):  # a payload's own `==` may do anything
        return False


def _infos_equal(a: npt.NDArray[np.object_] | None, b: npt.NDArray[np.object_] | None) -> bool:
    if a is None and b is None:
        return True
    a, b = infos_or_empty(a, 0 if b is None else len(b)), infos_or_empty(b, 0 if a is None else len(a))
    return len(a) == len(b) and all(same_payload(x, y) for x, y in zip(a, b, strict=True))


def _flags(name: str, flags: Any, total: int) -> npt.NDArray[np.bool_]:
    array = np.asarray(flags)
    if array.shape != (total,):
        raise ShapeError(f"{name}: expected shape ({total},) (acts has {total} steps), got {array.shape}")
    return array.astype(bool)


def _as_arrays(obs: Any) -> Any:
    wrapped = wrap(obs)
    return wrapped.map_arrays(np.asarray) if hasattr(wrapped, "map_arrays") else np.asarray(wrapped)


def _same_bits(a: Any, b: Any) -> bool:
    structure = structure_of(a)
    if structure_of(b) != structure:
        return False
    # Bytes, and not `==`, so that a NaN is the same as itself; objects (text) have no bytes of their own.
    pairs = zip(map(np.asarray, flatten(a, structure)), map(np.asarray, flatten(b, structure)), strict=True)
    return all(
        x.dtype == y.dtype and x.shape == y.shape and (equal(x, y) if x.dtype == object else x.tobytes() == y.tobytes())
        for x, y in pairs
    )
