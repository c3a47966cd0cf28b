"""`gym_recording.recording`: an episode's steps handed over one by one."""

from __future__ import annotations

import copy
import os
import tempfile
from typing import Any, Literal, TypeAlias

import numpy as np

from vecrollout.data.fields import as_rewards
from vecrollout.data.trajectory import Episode, TrajectoryWithRew
from vecrollout.data.trees import stack
from vecrollout.errors import OptionError, ProtocolError, ShapeError
from vecrollout.interop.gym_recording import GymRecordingWriter
from vecrollout.interop.gym_recording.stacking import as_objects
from vecrollout.storage.writing.writer import TraceWriter

__all__ = ["FileFormat", "TraceRecording"]

FileFormat: TypeAlias = Literal["vecrollout", "gym_recording"]
"""What a recording's files are: traces of this package, or files that OpenAI's `gym_recording.playback` reads."""


class TraceRecording:
    """Writes episodes whose steps are handed over one by one.

    Everything is copied on entry. An episode is held until it ends. One that nobody ended is written when the recording
    is closed, which it is at the process's end at the latest; a reset with no step behind it leaves nothing behind.

    Examples:
        >>> import tempfile
        >>> from vecrollout import open_traces
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     recording = TraceRecording(directory)
        ...     recording.add_reset(np.zeros(4))
        ...     recording.add_step(1, np.ones(4), 0.5, terminated=True)
        ...     recording.close()
        ...     open_traces(directory)[0].episode.ended_by
        'terminated'

    Args:
        directory: Where to: a directory, which is made where it does not exist, or, for traces, the URL of an object
            store. None: a fresh one in the system's folder for temporary files.
        file_format: `"vecrollout"`, or `"gym_recording"`, which keeps observations, actions and rewards only.

    Raises:
        OptionError: If `file_format` is neither, or `directory` a URL that cannot be used.
        ArgumentTypeError: If `directory` is neither a path nor a URL.
        TraceWriteError: If the directory cannot be made, or nothing can be written there.

    Source:
        `gym_recording.recording.TraceRecording` (OpenAI, gym-recording), which keeps references, and loses a batch with
        a reward that is no Python number.
    """

    def __init__(
        self, directory: str | os.PathLike[str] | None = None, *, file_format: FileFormat = "vecrollout"
    ) -> None:
        check_file_format(file_format)
        where = tempfile.mkdtemp(prefix="vecrollout-") if directory is None else directory
        self.closed = False
        """Whether the recording was closed."""
        self._writer = (TraceWriter if file_format == "vecrollout" else GymRecordingWriter)(where)
        self.directory = self._writer.directory
        """Where the files are."""
        self._writer.before_close(self.end_episode)
        self._number = 0
        self._begin()

    def add_reset(self, observation: Any) -> None:
        """The environment was reset: end the running episode, and begin one.

        Args:
            observation: The first observation.

        Raises:
            ProtocolError: If the recording is closed.
            ShapeError, DtypeError, StructureError: As `end_episode`.
            TraceWriteError: As `end_episode`.
        """
        self._check_open()
        self.end_episode()
        self._observations.append(copy.deepcopy(observation))

    def add_step(
        self, action: Any, observation: Any, reward: Any, *, terminated: bool = False, truncated: bool = False
    ) -> None:
        """The environment took a step. The episode goes on until `add_reset`, `end_episode` or `close`.

        Args:
            action: What was done.
            observation: What came of it.
            reward: What was paid for it: a number, or an array of one.
            terminated: Whether it reached a terminal state.
            truncated: Whether the episode was cut short.

        Raises:
            ProtocolError: If the recording is closed, or there was no `add_reset`.
            ShapeError: If `reward` is more than one number.
            DtypeError: If `reward` is no number.
        """
        self._check_open()
        if not self._observations:
            raise ProtocolError("recording: expected add_reset() before add_step()")
        rewards = as_rewards(np.asarray(reward).reshape(-1))
        if rewards.shape != (1,):
            raise ShapeError(f"reward: expected one number, got {len(rewards)}")
        # Before anything is kept: what cannot be copied must not leave half a step behind.
        action, observation = copy.deepcopy((action, observation))
        self._actions.append(action)
        self._observations.append(observation)
        self._rewards.append(rewards[0])
        self._ended = bool(terminated), bool(truncated)

    def end_episode(self) -> None:
        """Write the running episode, if there is one. Where that fails, it is held.

        Raises:
            ShapeError, DtypeError, StructureError: If its steps are not like those of the episodes before, as traces
                have to be (recordings in gym-recording's format do not).
            TraceWriteError: If it could not be written.
        """
        if self._rewards:
            self._writer.append(self._trajectory())
        if self._observations:
            self._number += 1
            self._begin()

    def save_complete(self) -> None:
        """Write all episodes that have ended, and make them durable.

        Raises:
            ProtocolError: If the recording is closed.
            TraceWriteError: If that failed.
        """
        self._check_open()
        self._writer.flush()

    def close(self) -> None:
        """End the running episode, write everything, and stop. A second call does nothing.

        Raises:
            ShapeError, DtypeError, StructureError: As `end_episode`.
            TraceWriteError: If not everything could be written.
        """
        self._writer.close()
        self.closed = True

    def _check_open(self) -> None:
        if self.closed:
            raise ProtocolError("recording: expected one that is open, got one that is closed")

    def _begin(self) -> None:
        self._observations: list[Any] = []
        self._actions: list[Any] = []
        self._rewards: list[Any] = []
        self._ended = False, False

    def _trajectory(self) -> TrajectoryWithRew:
        terminated, truncated = self._ended
        return TrajectoryWithRew(
            obs=_stacked(self._observations),
            acts=_stacked(self._actions),
            infos=None,
            terminal=terminated or truncated,
            terminated=terminated,
            truncated=truncated,
            rews=np.array(self._rewards),
            episode=Episode(
                id=self._number, ended_by="terminated" if terminated else "truncated" if truncated else None
            ),
        )


def check_file_format(file_format: object) -> None:
    """Refuse anything that is no `FileFormat`.

    Raises:
        OptionError: If it is none.
    """
    if file_format not in ("vecrollout", "gym_recording"):
        raise OptionError(f"file_format: expected 'vecrollout' or 'gym_recording', got {file_format!r}")


def _stacked(items: list[Any]) -> Any:
    try:
        return stack(items)
    except (ValueError, TypeError):  # they are not alike
        return as_objects(items)
