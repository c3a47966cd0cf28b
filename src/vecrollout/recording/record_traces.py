"""Recording environments of any kind to disk."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, Literal, overload

import gymnasium as gym
import numpy as np
from stable_baselines3.common.vec_env import VecEnv

from vecrollout._typing import Info, RecordInfos
from vecrollout.buffer.options import check_options
from vecrollout.recording.around import recorder_around
from vecrollout.recording.environments import SINGLE, AnyEnv, checked_kind, num_envs_of, spaces_of
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
    cast: Literal["space"] | None = None,
    autoreset_mode: str | Any | None = None,
    missing_final_obs: MissingFinalObs | None = None,
    final_obs_fn: Callable[[Info], Any] | None = None,
    **options: Any,
) -> BufferingWrapper | VectorBufferingWrapper | TraceRecordingWrapper:
    """Write every step of environments to disk, for `open_traces` and `scan_recorded_traces`.

    The environments' own values pass through unchanged. Each episode is written when it ends, or when a reset or
    `close` ends it early. If the process ends without `close`, running episodes are written at its exit. Episodes that
    need too much memory are written in several fragments.

    Args:
        env: The environments: an SB3 `VecEnv`, a Gymnasium `VectorEnv`, or a single `gymnasium.Env`.
        directory: Where to write: a directory, which is made if it does not exist and may hold traces already, or the
            URL of an object store.
        episode_filter: Takes an episode's index, counted by the time of start over all environments; says whether to
            keep the episode.
        frame_filter: Takes a step's index in its episode; says whether to keep the step.
        reward_classes: Rewards, to keep about as many steps of each class. `TraceRecordingWrapper` describes the
            filters.
        seed: Seed of the random choices of `reward_classes`, or a generator.
        record_infos: Infos to keep: `"all"`, `"none"`, or a list of keys.
        max_transitions: Number of transitions of running episodes, of all environments together, after which these are
            written in fragments; None: as many as take a gigabyte.
        cast: `"space"` casts observations and actions to the dtypes of their spaces. None: they keep their dtypes, and
            are widened without loss where they vary.
        autoreset_mode: For a `VectorEnv` that does not state its autoreset rule. `VectorBufferingWrapper` describes
            this and the following two options; None stands for its default.
        missing_final_obs: What to do if a `VectorEnv` or `VecEnv` does not give an episode's last observation.
        final_obs_fn: For a `VectorEnv` that keeps last observations elsewhere.
        **options: Options of `TraceWriter`: `compression`, `max_shard_bytes`, `metadata`, `episode_metadata`,
            `queue_bytes`, `flush_every_s`, `mix_spaces`, `overwrite`; `spaces` and `env_spec` replace the
            environments'.

    Returns:
        A wrapper around the environments: a `BufferingWrapper`, a `VectorBufferingWrapper` or a
        `TraceRecordingWrapper`. Its `directory` is where it writes. Its `flush` makes the episodes so far durable.
        Closing it closes the environments and the writer.

    Raises:
        OptionError: If an option has another value than described, or is not for environments of this kind.
        ArgumentTypeError: If `env` is not an environment, a filter is not a function, or an option does not exist.
        ProtocolError: If the environments are recorded to the same directory already.
        TraceWriteError: If the directory cannot be made, or nothing can be written there.
        StoreError: If the object store cannot be used.
        MissingDependencyError: If pyarrow, xxhash, or a package that the URL needs is not installed.

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
    kind = checked_kind("env", env, {name: option for name, option in named.items() if option is not None})
    check_options(options, record_traces, TraceWriter)
    filters = episode_filter, frame_filter, reward_classes
    if kind == SINGLE:
        options |= {"seed": seed, "record_infos": record_infos, "max_transitions": max_transitions, "cast": cast}
        return TraceRecordingWrapper(env, directory, *filters, **options)  # type: ignore[arg-type]
    selection = Selection(*filters, seed)
    if selection.cuts_episodes:
        options = filtered(options)
    spaces, num_envs = spaces_of(env), num_envs_of(env)
    with trace_writer(directory, env, spaces, **options) as writer:
        recording: dict[str, Any] = {
            "error_on_premature_reset": False,
            "record_infos": record_infos,
            "sink": selection.before(writer),
            "max_transitions": most_transitions(spaces, num_envs) if max_transitions is None else max_transitions,
            "on_full": "flush",
            "cast": cast,
        }
        recorder: Any = recorder_around(env, recording, named)
    recorder.own(writer, writer.directory)
    return recorder  # type: ignore[no-any-return]
