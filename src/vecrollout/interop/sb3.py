"""Fill replay buffers of Stable-Baselines3 with trajectories, and read them back.

model = SAC("MlpPolicy", env, learning_starts=0)
to_replay_buffer(open_traces("demonstrations"), model.replay_buffer)
model.learn(10_000)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from stable_baselines3 import HerReplayBuffer
from stable_baselines3.common.buffers import ReplayBuffer

from vecrollout._typing import Array
from vecrollout.data.batch import TrajectoryBatch
from vecrollout.data.episode import Episode, ended_by
from vecrollout.data.trajectory import Trajectory
from vecrollout.data.trees import DictObs
from vecrollout.errors import ArgumentTypeError, OptionError, ShapeError, StructureError
from vecrollout.interop.conversion.report import ConversionReport, fragments
from vecrollout.interop.conversion.source import Source, rewards_of
from vecrollout.progress import Progress


def to_replay_buffer(
    trajectories: Iterable[Trajectory], buffer: ReplayBuffer, *, progress: Progress | None = None
) -> ConversionReport:
    """Add the transitions of trajectories to a replay buffer of Stable-Baselines3.

    The buffer holds what an off-policy algorithm of SB3 would have stored. Box actions are scaled to `[-1, 1]`. Images
    are stored channels first, where the buffer's space says so. A truncated episode's last step counts as done and as a
    timeout, so that SB3 bootstraps from its last observation. The last step of a fragment is stored in the same way.

    SB3 stores raw observations and rewards under `VecNormalize`, and normalizes what it samples. Record below
    `VecNormalize`, not above it.

    A full buffer overwrites its oldest transitions. In a buffer for several environments some trajectories continue in
    the next environment's column, and up to `n_envs - 1` last transitions are left out.

    Args:
        trajectories: A data set, a batch or an iterable of trajectories, with rewards. An iterator is used up.
        buffer: A `ReplayBuffer`, `DictReplayBuffer` or `HerReplayBuffer`, such as `model.replay_buffer`.
        progress: Whether to show a progress bar on a terminal, and whose: `"tqdm"` (as True) or `"rich"`. None:
            the bar of a package that is installed.

    Returns:
        What was added, and what the buffer does not hold: the second flag of an episode that terminated and was
        truncated in one step, infos (a `HerReplayBuffer` made with `copy_info_dict=True` keeps them), dtypes that the
        buffer changes.

    Raises:
        ArgumentTypeError: If `buffer` is no `ReplayBuffer`, or a trajectory has no rewards.
        ShapeError: If observations or actions do not have the shape of the buffer's spaces.
        StructureError: If observations do not have the entries of the buffer's space.
        OptionError: If an action has no finite bounds, or a buffer for several environments was made with
            `handle_timeout_termination=False`.

    Source:
        `OffPolicyAlgorithm._store_transition`, `BasePolicy.scale_action` (Stable-Baselines3 2.9.2).
    """
    filling = _Filling(_checked_buffer(buffer))
    for batch in Source(trajectories, progress=progress).batches():
        filling.extend(batch)
    return filling.report()


def from_replay_buffer(buffer: ReplayBuffer) -> TrajectoryBatch:
    """The transitions of a replay buffer of Stable-Baselines3 as trajectories.

    Args:
        buffer: A `ReplayBuffer`, `DictReplayBuffer` or `HerReplayBuffer`.

    Returns:
        One trajectory for each run of transitions that follow one another, environment by environment, oldest first.
        Actions have the unit of the action space. Observations have the shape of the buffer's observation space, images
        channels first. An episode that runs on, or that was cut because the buffer was full, is a fragment.

    Raises:
        ArgumentTypeError: If `buffer` is no `ReplayBuffer`.
        ShapeError: If the buffer is empty.
        OptionError: If the buffer was made with `optimize_memory_usage=True`: it does not hold last observations.

    Source:
        `stable_baselines3.common.buffers` (Stable-Baselines3 2.9.2).
    """
    buffer = _checked_buffer(buffer)
    if buffer.optimize_memory_usage:
        raise OptionError(
            "buffer: expected one with next observations, got one with optimize_memory_usage=True, which overwrites an "
            "episode's last observation"
        )
    rows = (np.arange(buffer.size()) + (buffer.pos if buffer.full else 0)) % buffer.buffer_size
    if not len(rows):
        raise ShapeError("buffer: expected at least one transition, got an empty buffer")
    # One environment behind another, in the order of time.
    at = np.tile(rows, buffer.n_envs), np.repeat(np.arange(buffer.n_envs), len(rows))
    obs, following = (_rows_of(stored, at) for stored in (buffer.observations, buffer.next_observations))
    dones, timeouts = (stored[at].astype(bool) for stored in (buffer.dones, buffer.timeouts))
    is_last = dones | ~_followed(obs, following)
    is_last[len(rows) - 1 :: len(rows)] = True
    last = np.flatnonzero(is_last)
    lengths = np.diff(last, prepend=-1)
    terminated, truncated = (dones & ~timeouts)[last], (dones & timeouts)[last]
    environments = at[1][last].tolist()
    flags = zip(environments, terminated.tolist(), truncated.tolist(), strict=True)
    joined = {key: _with_last(obs[key], following[key], last, lengths) for key in obs}
    space = buffer.observation_space
    return TrajectoryBatch.from_arrays(
        DictObs({key: _in_space(joined[key], space[key]) for key in joined})
        if isinstance(space, spaces.Dict)
        else _in_space(joined[""], space),
        _unscaled(buffer.actions[at], buffer.action_space),
        buffer.rewards[at],
        _infos_of(buffer, at),
        lengths=lengths,
        terminated=terminated,
        truncated=truncated,
        episodes=[
            Episode(id=i, env_index=environment, ended_by=ended_by(*flags))
            for i, (environment, *flags) in enumerate(flags)
        ],
    )


class _Filling:
    """Adds rows of transitions, one a column of the buffer, and counts them."""

    def __init__(self, buffer: ReplayBuffer) -> None:
        if buffer.n_envs > 1 and not buffer.handle_timeout_termination:
            raise OptionError(
                f"buffer: expected n_envs=1 with handle_timeout_termination=False, got n_envs={buffer.n_envs}: a "
                "trajectory that continues in the next column would count as terminated"
            )
        self._buffer = buffer
        self._rest: dict[str, Any] = {}
        self._episodes = self._steps = self._fragments = self._both_flags = self._infos = self._as_terminated = 0
        self._dtypes: dict[str, str] = {}

    def extend(self, batch: TrajectoryBatch) -> None:
        columns = self._columns(batch)
        self._count(batch)
        if self._rest:
            columns = {key: np.concatenate([self._rest[key], column]) for key, column in columns.items()}
        count = len(columns["done"])
        rows = count // self._buffer.n_envs
        self._rest = {key: column[rows * self._buffer.n_envs :] for key, column in columns.items()}
        self._add(columns, rows)

    def report(self) -> ConversionReport:
        left_out = len(self._rest.get("done", ()))
        capacity = self._buffer.buffer_size * self._buffer.n_envs
        space = self._buffer.action_space
        return ConversionReport(
            "replay buffer",
            None,
            self._episodes,
            self._steps - left_out,
            fragments=self._fragments,
            both_flags=self._both_flags,
            infos=0 if _keeps_infos(self._buffer) else self._infos,
            dtypes=self._dtypes | ({"acts": "scaled to [-1, 1]"} if isinstance(space, spaces.Box) else {}),
            others={
                "transitions left out": left_out,
                "transitions overwritten": max(0, self._steps - left_out - capacity),
                "truncations, which count as terminations": self._as_terminated,
            },
        )

    def _columns(self, batch: TrajectoryBatch) -> dict[str, Any]:
        """A row a transition, in the buffer's shapes."""
        rews = rewards_of(batch, "a replay buffer")
        lengths = batch.lengths
        steps = int(lengths.sum())
        at = np.arange(steps) + np.repeat(np.arange(len(lengths)), lengths)
        columns: dict[str, Any] = {}
        for key, leaf in self._observations(batch.obs).items():
            columns[f"obs {key}"], columns[f"next {key}"] = leaf[at], leaf[at + 1]
        columns["acts"] = _scaled(_checked_actions(batch.acts, self._buffer.action_space), self._buffer)
        with np.errstate(over="ignore"):
            columns["rews"] = rews.astype(self._buffer.rewards.dtype)
        columns["done"] = np.zeros(steps, bool)
        columns["done"][np.cumsum(lengths) - 1] = True
        columns["terminated"] = np.zeros(steps, bool)
        columns["terminated"][np.cumsum(lengths) - 1] = batch.terminated
        columns["infos"] = np.full(steps, None) if batch.infos is None else batch.infos
        for name, found, stored in (
            ("rews", rews.dtype, self._buffer.rewards.dtype),
            ("acts", batch.acts.dtype, self._buffer.actions.dtype),
        ):
            self._note_dtype(name, found, stored)
        return columns

    def _observations(self, obs: Any) -> dict[str, Array]:
        space, stored = self._buffer.observation_space, self._buffer.observations
        if not isinstance(space, spaces.Dict):
            if isinstance(obs, DictObs) or not isinstance(obs, np.ndarray):
                raise StructureError(f"obs: expected arrays of the buffer's space {space}, got {type(obs).__name__}")
            self._note_dtype("obs", obs.dtype, stored.dtype)
            return {"": _fitted("obs", obs, space, stored)}
        keys = sorted(obs.keys()) if isinstance(obs, DictObs) else type(obs).__name__
        if keys != sorted(space.keys()):
            raise StructureError(f"obs: expected the entries {sorted(space.keys())} of the buffer's space, got {keys}")
        found = {}
        for key in space:
            name = f"obs[{key!r}]"
            if not isinstance(obs.get(key), np.ndarray):
                raise StructureError(f"{name}: expected an array, as SB3 supports no nesting, got a tree")
            self._note_dtype(name, obs.get(key).dtype, stored[key].dtype)
            found[key] = _fitted(name, obs.get(key), space[key], stored[key])
        return found

    def _add(self, columns: dict[str, Any], rows: int) -> None:
        buffer, n_envs = self._buffer, self._buffer.n_envs
        # Column e has rows [e * rows, (e + 1) * rows): trajectories stay in one piece but for those at the borders.
        whole = {
            key: column[: rows * n_envs].reshape(n_envs, rows, *column.shape[1:]) for key, column in columns.items()
        }
        if rows:
            self._fragments += int((~whole["done"][:, -1]).sum())
            whole["done"] = whole["done"].copy()
            whole["done"][:, -1] = True
        is_dict = isinstance(buffer.observation_space, spaces.Dict)
        keys = [key.removeprefix("obs ") for key in columns if key.startswith("obs ")]
        for row in range(rows):
            obs, following = ({key: whole[f"{name} {key}"][:, row] for key in keys} for name in ("obs", "next"))
            done, terminated = whole["done"][:, row], whole["terminated"][:, row]
            infos = [
                {**(info or {}), "TimeLimit.truncated": bool(end and not terminal)}
                for info, end, terminal in zip(whole["infos"][:, row], done, terminated, strict=True)
            ]
            buffer.add(
                obs if is_dict else obs[""],  # type: ignore[arg-type]  # DictReplayBuffer takes dicts
                following if is_dict else following[""],  # type: ignore[arg-type]
                whole["acts"][:, row],
                whole["rews"][:, row],
                done,
                infos,
            )

    def _count(self, batch: TrajectoryBatch) -> None:
        self._episodes += len(batch)
        self._steps += batch.total_steps
        self._fragments += fragments(batch)
        self._both_flags += int((batch.terminated & batch.truncated).sum())
        self._infos += (
            0 if batch.infos is None else sum(bool(set(info) - {"TimeLimit.truncated"}) for info in batch.infos)
        )
        if not self._buffer.handle_timeout_termination:
            self._as_terminated += int((~batch.terminated).sum())

    def _note_dtype(self, name: str, found: np.dtype[Any], stored: np.dtype[Any]) -> None:
        if found != stored:
            self._dtypes[name] = f"{found} -> {stored}"


def _checked_buffer(buffer: Any) -> Any:
    if not isinstance(buffer, ReplayBuffer):
        raise ArgumentTypeError(
            f"buffer: expected a ReplayBuffer of Stable-Baselines3, such as model.replay_buffer, got "
            f"{type(buffer).__name__}"
        )
    return buffer


def _keeps_infos(buffer: Any) -> bool:
    """Whether a buffer has infos: one for hindsight can."""
    return isinstance(buffer, HerReplayBuffer) and buffer.copy_info_dict


def _fitted(name: str, leaf: Array, space: spaces.Space[Any], stored: Array) -> Array:
    """Observations in the buffer's shape, images channels first."""
    shape = leaf.shape[1:]
    if shape != space.shape:
        if leaf.ndim == 4 and (shape[2], *shape[:2]) == space.shape:
            leaf = np.moveaxis(leaf, 3, 1)
        else:
            raise ShapeError(f"{name}: expected rows of shape {space.shape}, that of the buffer's space, got {shape}")
    return leaf.reshape(len(leaf), *stored.shape[2:])


def _checked_actions(acts: Any, space: spaces.Space[Any]) -> Array:
    if not isinstance(acts, np.ndarray):
        raise StructureError(f"acts: expected arrays of the buffer's space {space}, got {type(acts).__name__}")
    if acts.shape[1:] != space.shape:
        raise ShapeError(
            f"acts: expected rows of shape {space.shape}, that of the buffer's space, got {acts.shape[1:]}"
        )
    return acts


def _scaled(acts: Array, buffer: ReplayBuffer) -> Array:
    """Box actions in [-1, 1], as SB3 stores them."""
    space = buffer.action_space
    if isinstance(space, spaces.Box):
        if not space.is_bounded():
            raise OptionError(
                f"buffer: expected an action space with finite bounds, as SB3 scales by them, got {space}"
            )
        acts = 2.0 * ((acts - space.low) / (space.high - space.low)) - 1.0
    return acts.reshape(len(acts), buffer.action_dim)


def _unscaled(acts: Array, space: spaces.Space[Any]) -> Array:
    acts = acts.reshape(len(acts), *(space.shape or ()))
    if isinstance(space, spaces.Box):
        acts = space.low + 0.5 * (acts + 1.0) * (space.high - space.low)
    return acts.astype(space.dtype, copy=False)


def _infos_of(buffer: Any, at: tuple[Array, Array]) -> Any:
    return buffer.infos[at] if _keeps_infos(buffer) else None


def _rows_of(stored: Any, at: tuple[Array, Array]) -> dict[str, Array]:
    """Rows of observations by key; the key is empty where there is one array."""
    return {key: leaf[at] for key, leaf in (stored if isinstance(stored, Mapping) else {"": stored}).items()}


def _followed(obs: Mapping[str, Array], following: Mapping[str, Array]) -> npt.NDArray[np.bool_]:
    """Whether each row's next observation is the observation of the next row, to the bit."""
    steps = len(next(iter(obs.values())))
    is_followed = np.ones(steps, bool)
    for key, leaf in obs.items():
        ours, theirs = (np.ascontiguousarray(each).reshape(steps, -1).view(np.uint8) for each in (leaf, following[key]))
        is_followed[:-1] &= (theirs[:-1] == ours[1:]).all(axis=1)
    return is_followed


def _with_last(obs: Array, following: Array, last: Array, lengths: Array) -> Array:
    """Observations with the last one of each trajectory behind its own."""
    joined = np.empty((len(obs) + len(last), *obs.shape[1:]), obs.dtype)
    joined[np.arange(len(obs)) + np.repeat(np.arange(len(last)), lengths)] = obs
    joined[last + 1 + np.arange(len(last))] = following[last]
    return joined


def _in_space(rows: Array, space: spaces.Space[Any]) -> Array:
    """Rows in the shape of the space; SB3 gives a number one dimension."""
    return rows.reshape(len(rows), *(space.shape or ()))
