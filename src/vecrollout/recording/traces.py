"""Recording a single environment to disk."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from vecrollout._typing import RecordInfos
from vecrollout.data.checks import directory_text
from vecrollout.recording.environments import SINGLE, check_kind
from vecrollout.recording.selection import Selection
from vecrollout.recording.single import BufferingEnvWrapper
from vecrollout.recording.writing import TraceSink, filtered, most_transitions, trace_writer


class TraceRecordingWrapper(BufferingEnvWrapper):
    """Writes every step of a single `gymnasium.Env` to disk, where `open_traces` and `scan_recorded_traces` find it.

    What `reset` and `step` return is the environment's own, unchanged. An episode is written when it ends, or when
    `reset` or `close` ends it early (`episode.ended_by` is `"reset_early"` or `"closed"`); that of a process that ends
    without `close`, at its end. An episode too long for the memory that it may take is written in several fragments.

    Filters leave steps out. What is left of an episode are then fragments (`episode.start_step` says where each
    begins), so that no two steps look like neighbours that are none. A filter is asked about an episode's steps when
    they are written, in order; it should say the same whenever it is asked.

    Args:
        env: The environment to wrap.
        directory: Where to: a directory, which is made where it does not exist and may hold traces already, or the URL
            of an object store. None: a fresh directory in the system's folder for temporary files, see `directory`.
        episode_filter: Takes an episode's index, which counts resets from 0; says whether the episode is kept.
        frame_filter: Takes a step's index in its episode, from 0; says whether the step is kept.
        reward_classes: Rewards, at least one: as many steps are kept of one class as of another. A reward counts to the
            class that it is nearest to. A step is kept with probability (how often the rarest class was seen) / (how
            often its own was seen), itself included; none is before each class was seen once. Steps that the other
            filters leave out do not count.
        seed: Seed of what `reward_classes` leaves to chance, or a generator.
        record_infos: Which infos to keep: `"all"`, `"none"`, or those of the named keys.
        max_transitions: Of how many steps an episode may consist before it is written in fragments; None: of as many as
            take up a gigabyte.
        **options: Of `TraceWriter`: `compression`, `max_shard_bytes`, `metadata`, `episode_metadata`, `queue_bytes`;
            `spaces` and `env_spec` in the place of the environment's.

    Raises:
        OptionError: If an option is outside what it may be.
        ArgumentTypeError: If `env` is no single environment, a filter no function, or an option none of these.
        ProtocolError: If it is recorded to the same directory already.
        TraceWriteError: If the directory cannot be made, or nothing can be written there.
        StoreError: If the object store cannot be used.
        MissingDependencyError: If pyarrow or xxhash is not installed, or what a URL needs besides.

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
        **options: Any,
    ) -> None:
        check_kind(env, SINGLE)
        spaces = env.observation_space, env.action_space
        selection = Selection(episode_filter, frame_filter, reward_classes, seed)
        self._writer_options = filtered(options) if selection.cuts_episodes else options
        self.env = env
        where = tempfile.mkdtemp(prefix="vecrollout-") if directory is None else directory_text(directory)
        self.directory = where if "://" in where else Path(where)
        """Where the traces are: a `Path`, or the URL of an object store."""
        self._writer = self._make_writer(self.directory)
        try:
            super().__init__(
                env,
                error_on_premature_reset=False,
                record_infos=record_infos,
                sink=selection.before(self._writer),
                max_transitions=most_transitions(spaces, 1) if max_transitions is None else max_transitions,
                on_full="hand_over",
            )
        except BaseException:
            self._writer.close()
            raise

    def _make_writer(self, directory: Path | str) -> TraceSink:
        """What writes the trajectories, in which steps are left out already."""
        spaces = self.env.observation_space, self.env.action_space
        return trace_writer(directory, self.env, spaces, **self._writer_options)

    def close(self) -> None:
        """End the running episode (`"closed"`), write everything, and close the environment.

        Raises:
            TraceWriteError: If writing failed.
        """
        with contextlib.closing(self._writer):
            super().close()
