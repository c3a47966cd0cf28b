"""`gym_recording.wrappers`: the recorder around an environment."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import gymnasium as gym

from vecrollout.buffer.options import check_options
from vecrollout.compat.gym_recording.recording import FileFormat, check_file_format
from vecrollout.interop.gym_recording import GymRecordingWriter
from vecrollout.recording import traces
from vecrollout.recording.writing import closed_on_error

__all__ = ["TraceRecordingWrapper"]


class TraceRecordingWrapper(traces.TraceRecordingWrapper):
    """`vecrollout.TraceRecordingWrapper` that can write gym-recording's format too.

    That format has only observations, actions and rewards. If filters leave steps out, or an episode is too long for
    the memory limit, each fragment looks like an episode.

    Args:
        env: The environment to record.
        directory: A directory, which is made if it does not exist. None: a new directory in the system's folder for
            temporary files; see `directory`.
        *filters: `episode_filter`, `frame_filter` and `reward_classes` of `vecrollout.TraceRecordingWrapper`.
        file_format: `"vecrollout"`, or `"gym_recording"` for files that OpenAI's `gym_recording.playback` reads.
        **options: Further options of `vecrollout.TraceRecordingWrapper`. With `"gym_recording"`, options of
            `GymRecordingWriter` instead of options of `TraceWriter`.

    Raises:
        OptionError: If an option is outside what it may be.
        ArgumentTypeError: If `env` is no single environment, or an option is unknown.

    Source:
        `gym_recording.wrappers.TraceRecordingWrapper` (OpenAI, gym-recording). Its first version ignores the given
        directory, and its `close` does not close the environment.
    """

    def __init__(
        self,
        env: gym.Env[Any, Any],
        directory: str | os.PathLike[str] | None = None,
        *filters: Any,
        file_format: FileFormat = "vecrollout",
        **options: Any,
    ) -> None:
        check_file_format(file_format)
        self._file_format = file_format
        if file_format == "gym_recording":
            options.setdefault("record_infos", "none")  # the format has no infos
        super().__init__(env, directory, *filters, **options)

    def _writing(self, directory: Path | str) -> AbstractContextManager[Any]:
        """The sink behind the filters; within, the recorder is made."""
        if self._file_format == "vecrollout":
            return super()._writing(directory)
        options = {name: value for name, value in self._writer_options.items() if name != "metadata"}
        check_options(options, type(self), GymRecordingWriter)
        return closed_on_error(GymRecordingWriter(directory, **options))
