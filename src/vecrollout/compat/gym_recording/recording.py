"""`gym_recording.recording`: record episodes step by step."""

from __future__ import annotations

import copy
import os
import tempfile
from typing import Any, Literal, TypeAlias

import numpy as np

from vecrollout import exits
from vecrollout.data.fields import as_rewards
from vecrollout.data.trajectory import Episode, TrajectoryWithRew, ended_by
from vecrollout.data.trees import stack
from vecrollout.errors import OptionError, ProtocolError, ShapeError, TraceWriteError
from vecrollout.interop.gym_recording import GymRecordingWriter
from vecrollout.interop.gym_recording.stacking import as_objects
from vecrollout.storage.writing.writer import TraceWriter

__all__ = ["FileFormat", "TraceRecording"]

FileFormat: TypeAlias = Literal["vecrollout", "gym_recording"]
"""Format of a recording's files: traces of this package, or files that OpenAI's `gym_recording.playback` reads."""


class TraceRecording:
    """Writes episodes that are passed step by step.

    Everything is copied on entry. An episode stays in memory until it ends. Closing the recording ends the running
    episode and writes it. If nobody closes the recording, the end of the process does. A reset without a step after it
    records nothing.

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
        directory: A directory, which is made if it does not exist, or for traces the URL of an object store. None: a
            new directory in the system's folder for temporary files.
        file_format: `"vecrollout"`, or `"gym_recording"`, which has only observations, actions and rewards.

    Raises:
        OptionError: If `file_format` has another value, or `directory` is a URL that cannot be used.
        ArgumentTypeError: If `directory` is neither a path nor a URL.
        TraceWriteError: If the directory cannot be made or written to.

    Source:
        `gym_recording.recording.TraceRecording` (OpenAI, gym-recording). It keeps references, and loses a batch with a
        reward that is no Python number.
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
        """Directory or URL of the files."""
        self._number = -1
        self._begin()
        exits.close_at_exit(self)

    def add_reset(self, observation: Any) -> None:
        """Record a reset: end the running episode, and begin a new one.

        Args:
            observation: The first observation of the new episode.

        Raises:
            ProtocolError: If the recording is closed.
            ShapeError, DtypeError, StructureError: See `end_episode`.
            TraceWriteError: See `end_episode`.
        """
        self._check_open()
        self.end_episode()
        self._observations.append(copy.deepcopy(observation))

    def add_step(
        self, action: Any, observation: Any, reward: Any, *, terminated: bool = False, truncated: bool = False
    ) -> None:
        """Record a step. The episode goes on until `add_reset`, `end_episode` or `close`.

        Args:
            action: The action taken.
            observation: The observation after the action.
            reward: The reward: a number, or an array of one number.
            terminated: Whether the step reached a terminal state.
            truncated: Whether the step cut the episode short.

        Raises:
            ProtocolError: If the recording is closed, or `add_reset` was never called.
            ShapeError: If `reward` is more than one number.
            DtypeError: If `reward` is no number.
        """
        self._check_open()
        if not self._observations:
            raise ProtocolError("recording: expected add_reset() before add_step()")
        rewards = as_rewards(np.asarray(reward).reshape(-1))
        if rewards.shape != (1,):
            raise ShapeError(f"reward: expected one number, got {len(rewards)}")
        # Copy everything before keeping anything: an error must not leave half a step behind.
        action, observation = copy.deepcopy((action, observation))
        self._actions.append(action)
        self._observations.append(observation)
        self._rewards.append(rewards[0])
        self._ended = bool(terminated), bool(truncated)

    def end_episode(self) -> None:
        """Write the running episode, if there is one.

        Raises:
            ShapeError, DtypeError, StructureError: If the shapes, dtypes or structure differ from those of earlier
                episodes, which only gym-recording's format allows. The episode goes on.
            TraceWriteError: If the episode could not be written. In gym-recording's format, `close` tries again.
        """
        if self._rewards:
            try:
                self._writer.append(self._trajectory())
            except TraceWriteError:
                self._begin()  # the writer has the episode
                raise
        if self._observations:
            self._begin()

    def save_complete(self) -> None:
        """Write all ended episodes, and make them durable.

        Raises:
            ProtocolError: If the recording is closed.
            TraceWriteError: If writing failed.
        """
        self._check_open()
        self._writer.flush()

    def close(self) -> None:
        """End the running episode, write everything, and close the recording. A second call does nothing.

        Raises:
            ShapeError, DtypeError, StructureError: See `end_episode`.
            TraceWriteError: If not everything could be written.
        """
        if self.closed:
            return
        try:
            self.end_episode()
        finally:
            self._writer.close()
        self.closed = True
        exits.closed(self)

    def _check_open(self) -> None:
        if self.closed:
            raise ProtocolError("recording: expected one that is open, got one that is closed")

    def _begin(self) -> None:
        self._number += 1
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
            episode=Episode(id=self._number, ended_by=ended_by(terminated, truncated)),
        )


def check_file_format(file_format: object) -> None:
    """Refuse anything that is no `FileFormat`."""
    if file_format not in ("vecrollout", "gym_recording"):
        raise OptionError(f"file_format: expected 'vecrollout' or 'gym_recording', got {file_format!r}")


def _stacked(items: list[Any]) -> Any:
    try:
        return stack(items)
    except (ValueError, TypeError):  # they are not alike
        return as_objects(items)
