"""`gym_recording.playback`: read recorded episodes one by one."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import numpy as np

from vecrollout.data.checks import check_function, whole_number
from vecrollout.data.trees import unwrap, wrap
from vecrollout.interop.gym_recording import GymRecordingReader, RecordedBatch, RecordedEpisode
from vecrollout.interop.gym_recording.directory import local_directory
from vecrollout.storage.files.names import is_of_trace

__all__ = ["TraceRecordingReader", "scan_recorded_traces"]


def scan_recorded_traces(
    directory: str | os.PathLike[str],
    episode_cb: Callable[[Any, Any, Any], object] | None = None,
    max_episodes: int | None = None,
) -> None:
    """Call a function with each recorded episode, in order: recordings in gym-recording's format first, then traces.

    Args:
        directory: Directory of recordings in either format, or in both.
        episode_cb: Called with observations (N + 1 rows; N if steps were left out of a trace), actions (N rows) and
            rewards (N rows; None if a trace has none). Each is an array, or a list with one entry a step if the steps
            are dicts or tuples, or differ in shape. None: read the episodes, and call nothing.
        max_episodes: Number of episodes after which to stop, 0 or more. None: read all.

    Raises:
        DamagedTraceError: If a recording cannot be read, or was altered.
        TraceVersionError: If a newer version of the package wrote a trace.
        MissingDependencyError: If there are traces, and pyarrow or xxhash is not installed.
        OptionError: If `max_episodes` is negative, or `directory` a URL.
        ArgumentTypeError: If `directory` is no path, `episode_cb` no function, or `max_episodes` no integer.

    Source:
        `gym_recording.playback.scan_recorded_traces` (OpenAI, gym-recording). It plays one episode even if
        `max_episodes` is 0, and passes arrays of one row for an episode without steps.
    """
    if episode_cb is not None:
        check_function("episode_cb", episode_cb, "observations, actions and rewards")
    if max_episodes is not None:
        max_episodes = whole_number("max_episodes", max_episodes, 0)
    reader, left = TraceRecordingReader(directory), max_episodes
    for batch in reader.get_recorded_batches():
        if left == 0:
            return
        for episode in reader.get_recorded_episodes(batch)[:left]:
            if episode_cb is not None:
                episode_cb(episode["observations"], episode["actions"], episode["rewards"])
            left = None if left is None else left - 1


class TraceRecordingReader:
    """Reads recordings batch by batch.

    Args:
        directory: Directory of recordings in either format, or in both.

    Raises:
        ArgumentTypeError: If `directory` is no path.
        OptionError: If it is a URL.

    Source:
        `gym_recording.playback.TraceRecordingReader` (OpenAI, gym-recording).
    """

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self.directory = local_directory(directory)

    def get_recorded_batches(self) -> list[dict[str, Any]]:
        """The batches: dicts of `first` (number of the first episode), `len` (number of episodes) and `fn`.

        `fn` is the name of the batch's file in gym-recording's format. It is None for a trace, where each episode is a
        batch.

        Raises:
            DamagedTraceError: If the directory does not exist, or a recording in it is damaged.
            TraceVersionError: If a newer version of the package wrote a trace.
            MissingDependencyError: If there are traces, and pyarrow or xxhash is not installed.
        """
        recorded = [batch._asdict() for batch in self._recordings.batches]
        return recorded + [{"first": number, "len": 1, "fn": None} for number in range(len(self._episodes))]

    def get_recorded_episodes(self, batch: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The episodes of a batch: dicts of `observations`, `actions` and `rewards`, as for `scan_recorded_traces`.

        Args:
            batch: One of `get_recorded_batches`.

        Raises:
            DamagedTraceError: If the batch cannot be read, or was altered.
        """
        if batch["fn"] is not None:
            episodes = self._recordings.episodes(RecordedBatch(**batch))
        else:
            # Import late: recordings in gym-recording's format are read without pyarrow.
            from vecrollout.storage.playback import episode_arrays

            episodes = [RecordedEpisode(*episode_arrays(self._traces, self._episodes[batch["first"]]))]
        return [{name: _played(rows) for name, rows in episode._asdict().items()} for episode in episodes]

    def close(self) -> None:
        """Close the files. Arrays that were read stay valid."""
        for name in ("_recordings", "_traces", "_episodes"):
            vars(self).pop(name, None)

    @cached_property
    def _recordings(self) -> GymRecordingReader:
        return GymRecordingReader(self.directory)

    @cached_property
    def _traces(self) -> Any:
        from vecrollout.storage.dataset import open_traces

        return open_traces(self.directory)

    @cached_property
    def _episodes(self) -> list[range]:
        """Numbers of the trajectories of each episode of the traces."""
        has_traces = any(is_of_trace(path.name) for path in self.directory.iterdir())
        return self._traces.episodes() if has_traces else []


def _played(rows: Any) -> Any:
    """Rows in the form that gym-recording's callbacks expect."""
    if rows is None or (isinstance(rows, np.ndarray) and rows.dtype != object):
        return rows
    return [unwrap(row) for row in wrap(rows)]
