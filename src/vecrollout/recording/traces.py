"""Recording a single environment to disk."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Literal

import gymnasium as gym
import numpy as np

from vecrollout._typing import RecordInfos
from vecrollout.buffer.options import check_options
from vecrollout.recording.environments import SINGLE, check_kind
from vecrollout.recording.selection import Selection
from vecrollout.recording.single import BufferingEnvWrapper
from vecrollout.recording.writing import filtered, most_transitions, trace_writer
from vecrollout.storage.files.folder import place_of
from vecrollout.storage.writing.writer import TraceWriter


class TraceRecordingWrapper(BufferingEnvWrapper):
    """Writes every step of a single `gymnasium.Env` to disk, for `open_traces` and `scan_recorded_traces`.

    `reset` and `step` return the environment's own values, unchanged. An episode is written when it ends, or when
    `reset` or `close` ends it early (`episode.ended_by` is `"reset_early"` or `"closed"`). If the process ends without
    `close`, the running episode is written at its exit. An episode that needs too much memory is written in several
    fragments.

    Filters leave steps out. The rest of an episode is then written as fragments, and `episode.start_step` says where
    each begins, so that steps with a gap between them never look like neighbors. A filter is called when steps are
    written, in order. It should always give the same answer.

    Args:
        env: The environment to wrap.
        directory: Where to write: a directory, which is made if it does not exist and may hold traces already, or the
            URL of an object store. None: a new directory in the system's folder for temporary files; see `directory`.
        episode_filter: Takes an episode's index, which counts resets from 0; says whether to keep the episode.
        frame_filter: Takes a step's index in its episode, from 0; says whether to keep the step.
        reward_classes: Rewards, at least one, to keep about as many steps of each class. A reward belongs to the
            nearest class. A step is kept with probability (how often the rarest class was seen) / (how often its own
            was seen), itself included. No step is kept before each class was seen once. Steps that other filters leave
            out do not count.
        seed: Seed of the random choices of `reward_classes`, or a generator.
        record_infos: Infos to keep: `"all"`, `"none"`, or a list of keys.
        max_transitions: Number of steps after which an episode is written in fragments; None: as many as take a
            gigabyte.
        cast: `"space"` casts observations and actions to the dtypes of their spaces. None: they keep their dtypes, and
            are widened without loss where they vary.
        **options: Options of `TraceWriter`: `compression`, `max_shard_bytes`, `metadata`, `episode_metadata`,
            `queue_bytes`, `flush_every_s`, `mix_spaces`, `overwrite`; `spaces` and `env_spec` replace the
            environment's.

    Raises:
        OptionError: If an option has another value than described.
        ArgumentTypeError: If `env` is no single environment, a filter is no function, or an option does not exist.
        ProtocolError: If the environment is recorded to the same directory already.
        TraceWriteError: If the directory cannot be made, or nothing can be written there.
        StoreError: If the object store cannot be used.
        MissingDependencyError: If pyarrow, xxhash, or a package that the URL needs is not installed.

    Examples:
        >>> from vecrollout import scan_recorded_traces
        >>> env = TraceRecordingWrapper(gym.make("CartPole-v1"))
        >>> obs, info = env.reset(seed=0)
        >>> returned = [env.step(0) for _ in range(5)]
        >>> env.close()
        >>> scan_recorded_traces(env.directory, lambda obs, acts, rews: print(obs.shape, acts.shape, rews.shape))
        (6, 4) (5,) (5,)

    Source:
        `gym_recording.wrappers.TraceRecordingWrapper` (OpenAI, gym-recording), which leaves steps out without a trace.
    """

    def __init__(
        self,
        env: gym.Env[Any, Any],
        directory: str | os.PathLike[str] | None = None,
        episode_filter: Callable[[int], object] | None = None,
        frame_filter: Callable[[int], object] | None = None,
        reward_classes: Sequence[float] | None = None,
        *,
        seed: int | np.random.Generator | None = None,
        record_infos: RecordInfos = "all",
        max_transitions: int | None = None,
        cast: Literal["space"] | None = None,
        **options: Any,
    ) -> None:
        check_kind(env, SINGLE)
        spaces = env.observation_space, env.action_space
        selection = Selection(episode_filter, frame_filter, reward_classes, seed)
        self._writer_options = filtered(options) if selection.cuts_episodes else options
        self.env = env
        location = place_of(tempfile.mkdtemp(prefix="vecrollout-") if directory is None else directory)
        with self._writing(location) as writer:
            super().__init__(
                env,
                error_on_premature_reset=False,
                record_infos=record_infos,
                sink=selection.before(writer),
                max_transitions=most_transitions(spaces, 1) if max_transitions is None else max_transitions,
                on_full="flush",
                cast=cast,
            )
        self.own(writer, location)

    def _writing(self, directory: Path | str) -> AbstractContextManager[Any]:
        """The writer of the trajectories, after the filters. The body of the `with` statement makes the recorder."""
        check_options(self._writer_options, type(self), TraceWriter)
        spaces = self.env.observation_space, self.env.action_space
        return trace_writer(directory, self.env, spaces, **self._writer_options)
