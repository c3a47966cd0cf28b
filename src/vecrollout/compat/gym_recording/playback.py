"""`gym_recording.playback`: recorded episodes, one by one."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import numpy as np

from vecrollout.data.checks import check_function, local_directory, whole_number
from vecrollout.data.trees import unwrap, wrap
from vecrollout.interop.gym_recording import GymRecordingReader, RecordedBatch, RecordedEpisode
from vecrollout.storage.files.names import is_of_trace

__all__ = ["TraceRecordingReader", "scan_recorded_traces"]


def scan_recorded_traces(
    directory: str | os.PathLike[str],
    episode_cb: Callable[[Any, Any, Any], object] | None = None,
    max_episodes: int | None = None,
) -> None:
    """Call a function with each recorded episode, in order: those in gym-recording's format first, then traces.

    Args:
        directory: The directory of recordings in either format, or in both.
        episode_cb: Called with observations (N + 1 rows; N where steps were left out of a trace), actions (N rows) and
            rewards (N rows; None where a trace has none): arrays, and lists with an entry a step where there was a dict
            or a tuple at each, or steps are not alike. None: the episodes are only read.
        max_episodes: After how many to stop; None: none.

    Raises:
        DamagedTraceError: If a recording cannot be read, or is not what was written.
        TraceVersionError: If a newer version of the package wrote it.
        MissingDependencyError: If there are traces, and pyarrow or xxhash is not installed.
        OptionError: If `max_episodes` is negative, or `directory` a URL.
        ArgumentTypeError: If `directory` is no path, `episode_cb` no function, or `max_episodes` no integer.

    Source:
        `gym_recording.playback.scan_recorded_traces` (OpenAI, gym-recording), which plays one episode also where
        `max_episodes` is 0, and gives an episode without steps arrays of one row.
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
        directory: The directory of recordings in either format, or in both.

    Raises:
        ArgumentTypeError: If `directory` is no path.
        OptionError: If it is a URL.

    Source:
        `gym_recording.playback.TraceRecordingReader` (OpenAI, gym-recording).
    """

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self.directory = local_directory(directory)

    def get_recorded_batches(self) -> list[dict[str, Any]]:
        """What is there: `first`, the number of a batch's first episode, `len`, of how many there are, and `fn`.

        `fn` is the batch's file in gym-recording's format; it is None for traces, of which each episode is a batch.

        Raises:
            DamagedTraceError: If there is no such directory, or what is in it is damaged.
            TraceVersionError: If a newer version of the package wrote it.
            MissingDependencyError: If there are traces, and pyarrow or xxhash is not installed.
        """
        recorded = [batch._asdict() for batch in self._recordings.batches]
        return recorded + [{"first": number, "len": 1, "fn": None} for number in range(len(self._episodes))]

    def get_recorded_episodes(self, batch: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The episodes of a batch: dicts of `observations`, `actions` and `rewards`, as for `scan_recorded_traces`.

        Args:
            batch: One of `get_recorded_batches`.

        Raises:
            DamagedTraceError: If the batch cannot be read, or is not what was written.
        """
        if batch["fn"] is not None:
            episodes = self._recordings.episodes(RecordedBatch(**batch))
        else:
            # Late: recordings in gym-recording's format are read without pyarrow.
            from vecrollout.storage.playback import episode_arrays

            episodes = [RecordedEpisode(*episode_arrays(self._traces, self._episodes[batch["first"]]))]
        return [{name: _played(rows) for name, rows in episode._asdict().items()} for episode in episodes]

    def close(self) -> None:
        """Let go of the files; arrays that were read stay."""
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
        """Which of the traces belong to which episode."""
        has_traces = any(is_of_trace(path.name) for path in self.directory.iterdir())
        return self._traces.episodes() if has_traces else []


def _played(rows: Any) -> Any:
    """Rows as gym-recording's callbacks know them."""
    if rows is None or (isinstance(rows, np.ndarray) and rows.dtype != object):
        return rows
    return [unwrap(row) for row in wrap(rows)]
