"""Recording environments of any kind to disk."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from typing import Any, cast, overload

import gymnasium as gym
import numpy as np
from stable_baselines3.common.vec_env import VecEnv

from vecrollout._typing import Info, RecordInfos
from vecrollout.errors import ArgumentTypeError, OptionError
from vecrollout.recording.environments import SINGLE, VEC_ENV, VECTOR, AnyEnv, kind_of, spaces_of
from vecrollout.recording.final_obs import MissingFinalObs
from vecrollout.recording.sb3 import BufferingWrapper
from vecrollout.recording.selection import Selection
from vecrollout.recording.traces import TraceRecordingWrapper
from vecrollout.recording.vector import VectorBufferingWrapper
from vecrollout.recording.writing import filtered, most_transitions, trace_writer
from vecrollout.storage.writing.writer import TraceWriter


@overload
def record_traces(env: VecEnv, directory: str | os.PathLike[str], **options: Any) -> BufferingWrapper: ...


@overload
def record_traces(
    env: gym.Env[Any, Any], directory: str | os.PathLike[str], **options: Any
) -> TraceRecordingWrapper: ...


@overload
def record_traces(
    env: gym.vector.VectorEnv[Any, Any, Any], directory: str | os.PathLike[str], **options: Any
) -> VectorBufferingWrapper: ...


def record_traces(
    env: AnyEnv,
    directory: str | os.PathLike[str],
    *,
    episode_filter: Callable[[int], object] | None = None,
    frame_filter: Callable[[int], object] | None = None,
    reward_classes: Sequence[float] | None = None,
    seed: int | np.random.Generator | None = None,
    record_infos: RecordInfos = "all",
    max_transitions: int | None = None,
    autoreset_mode: str | Any | None = None,
    missing_final_obs: MissingFinalObs | None = None,
    final_obs_fn: Callable[[Info], Any] | None = None,
    **options: Any,
) -> BufferingWrapper | VectorBufferingWrapper | TraceRecordingWrapper:
    """Write every step of environments to disk, where `open_traces` and `scan_recorded_traces` find it.

    What the environments return passes through unchanged. Each episode is written when it ends, or when a reset or
    `close` ends it early; those of a process that ends without `close`, at its end. Episodes too long for the memory
    that they may take are written in several fragments.

    Args:
        env: What to record: an SB3 `VecEnv`, a Gymnasium `VectorEnv`, or a single `gymnasium.Env`.
        directory: Where to: a directory, which is made where it does not exist and may hold traces already, or the URL
            of an object store.
        episode_filter: Takes an episode's index, counted by the time of start over all environments; says whether the
            episode is kept.
        frame_filter: Takes a step's index in its episode; says whether the step is kept.
        reward_classes: Rewards, of whose classes as many steps are kept of one as of another. This and the other
            filters are described at `TraceRecordingWrapper`.
        seed: Seed of what `reward_classes` leaves to chance, or a generator.
        record_infos: Which infos to keep: `"all"`, `"none"`, or those of the named keys.
        max_transitions: How many transitions of running episodes, of all environments together, to hold before these
            are written in fragments; None: as many as take up a gigabyte.
        autoreset_mode: For a `VectorEnv` that does not say its autoreset rule; see `VectorBufferingWrapper`, whose
            defaults the Nones of this and the following options stand for.
        missing_final_obs: What to do where a `VectorEnv` does not give an episode's last observation, likewise.
        final_obs_fn: For a `VectorEnv` that keeps last observations elsewhere, likewise.
        **options: Of `TraceWriter`: `compression`, `max_shard_bytes`, `metadata`, `episode_metadata`, `queue_bytes`;
            `spaces` and `env_spec` in the place of the environments'.

    Returns:
        A wrapper around the environments: a `BufferingWrapper`, a `VectorBufferingWrapper` or a
        `TraceRecordingWrapper`. Closing it closes the environments and the writer.

    Raises:
        OptionError: If an option is outside what it may be, or not for environments of this kind.
        ArgumentTypeError: If `env` is no environment, a filter no function, or an option none of these.
        ProtocolError: If it is recorded to the same directory already.
        TraceWriteError: If the directory cannot be made, or nothing can be written there.
        StoreError: If the object store cannot be used.
        MissingDependencyError: If pyarrow or xxhash is not installed, or what a URL needs besides.

    Examples:
        >>> import tempfile
        >>> from stable_baselines3.common.env_util import make_vec_env
        >>> from vecrollout import open_traces
        >>> directory = tempfile.mkdtemp()
        >>> venv = record_traces(make_vec_env("CartPole-v1", n_envs=2), directory, compression=None)
        >>> obs = venv.reset()
        >>> returned = venv.step(np.array([0, 1]))
        >>> venv.close()
        >>> [each.episode.env_index for each in open_traces(directory)]
        [0, 1]
    """
    named = {"autoreset_mode": autoreset_mode, "missing_final_obs": missing_final_obs, "final_obs_fn": final_obs_fn}
    vector_options = {name: option for name, option in named.items() if option is not None}
    kind = kind_of(env)
    if kind != VECTOR and vector_options:
        raise OptionError(f"{', '.join(vector_options)}: only for a VectorEnv of Gymnasium, got a {type(env).__name__}")
    if kind == SINGLE:
        return TraceRecordingWrapper(
            cast("gym.Env[Any, Any]", env),
            directory,
            episode_filter=episode_filter,
            frame_filter=frame_filter,
            reward_classes=reward_classes,
            seed=seed,
            record_infos=record_infos,
            max_transitions=max_transitions,
            **options,
        )
    if kind is None:
        raise ArgumentTypeError(f"env: expected {VEC_ENV}, {VECTOR}, or {SINGLE}, got {type(env).__name__}")
    selection = Selection(episode_filter, frame_filter, reward_classes, seed)
    if selection.cuts_episodes:
        options = filtered(options)
    spaces, num_envs = spaces_of(env), env.num_envs  # type: ignore[union-attr]  # single ones went another way
    writer = trace_writer(directory, env, spaces, **options)
    try:
        recorder_options: dict[str, Any] = {
            "error_on_premature_reset": False,
            "record_infos": record_infos,
            "sink": selection.before(writer),
            "max_transitions": most_transitions(spaces, num_envs) if max_transitions is None else max_transitions,
            "on_full": "hand_over",
        }
        if isinstance(env, VecEnv):
            return _VecEnvTraces(writer, env, **recorder_options)
        return _VectorEnvTraces(writer, env, **recorder_options, **vector_options)
    except BaseException:
        writer.close()
        raise


class _VecEnvTraces(BufferingWrapper):
    """A recorder that closes its writer, too."""

    def __init__(self, writer: TraceWriter, venv: VecEnv, **options: Any) -> None:
        super().__init__(venv, **options)
        self._writer = writer
        self.directory = writer.directory

    def close(self) -> None:
        with contextlib.closing(self._writer):
            super().close()


class _VectorEnvTraces(VectorBufferingWrapper):
    """A recorder that closes its writer, too."""

    def __init__(self, writer: TraceWriter, env: Any, **options: Any) -> None:
        super().__init__(env, **options)
        self._writer = writer
        self.directory = writer.directory

    def close(self, **kwargs: Any) -> None:
        with contextlib.closing(self._writer):
            super().close(**kwargs)
