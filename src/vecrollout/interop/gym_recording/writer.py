"""The sink that writes trajectories in gym-recording's format."""

from __future__ import annotations

import json
import os
from types import TracebackType
from typing import Any, TypeVar

from vecrollout import exits
from vecrollout.data.checks import whole_number
from vecrollout.data.fields import scalar_rewards
from vecrollout.data.trajectory import Trajectory, TrajectoryWithRew
from vecrollout.errors import ArgumentTypeError, ProtocolError, TraceWriteError
from vecrollout.interop.gym_recording.arrays import ArrayFile
from vecrollout.interop.gym_recording.directory import local_directory
from vecrollout.storage.files.names import new_writer_name
from vecrollout.storage.files.whole import make_directory, write_whole

_Self = TypeVar("_Self", bound="GymRecordingWriter")


class GymRecordingWriter:
    """Writes trajectories into a directory, so that OpenAI's `gym_recording.playback` reads them.

    It is a sink: recorders take it as `sink=`. Any number of writers may write into one directory at the same time. A
    trajectory is on disk after the next `flush` or `close`, or when its batch is full. Until then it stays encoded in
    memory. A writer that nobody closed is closed when the process ends, after recorders that were made later.

    The format keeps observations, actions and rewards with their dtypes. It drops infos, `episode`, and how a
    trajectory ended. A fragment looks like an episode.

    Examples:
        >>> import tempfile
        >>> import numpy as np
        >>> trajectory = TrajectoryWithRew(np.zeros((3, 4)), np.array([0, 1]), None, False, rews=np.ones(2))
        >>> from vecrollout.interop.gym_recording import GymRecordingReader
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     with GymRecordingWriter(directory) as writer:
        ...         writer.append(trajectory)
        ...     list(GymRecordingReader(directory).trajectories()) == [trajectory]
        True

    Args:
        directory: Local directory; it is made if it does not exist, and may contain recordings.
        batch_bytes: Size of a batch in bytes, 1 or more. A batch of that size is written, and the next one begins.

    Raises:
        OptionError: If `batch_bytes` is less than 1, or `directory` a URL.
        ArgumentTypeError: If `directory` is no path, or `batch_bytes` no integer.
        TraceWriteError: If the directory cannot be made or written to.

    Source:
        `gym_recording.recording.TraceRecording` (OpenAI, gym-recording). Its file names use the process id, so
        two processes with the same id (in containers) overwrite each other. Ours are unique.
    """

    def __init__(self, directory: str | os.PathLike[str], *, batch_bytes: int = 5_000_000) -> None:
        batch_bytes = whole_number("batch_bytes", batch_bytes, 1)
        self.directory = local_directory(directory)
        make_directory(self.directory)
        self._prefix = f"openaigym.trace.{new_writer_name()}"
        self._batch_bytes = batch_bytes
        self._batches: list[dict[str, int | str]] = []
        self._first = 0
        self._is_closed = False
        self._process = os.getpid()
        self._begin_batch()
        exits.close_at_exit(self)

    def append(self, trajectory: Trajectory, /) -> None:
        """Add a trajectory, and write the batch if it is full.

        An error about the trajectory leaves the writer unchanged. After a `TraceWriteError` the writer keeps the
        trajectory.

        Args:
            trajectory: A trajectory with rewards. Its arrays may have any dtype that is not structured. Objects must be
                plain data and arrays.

        Raises:
            ArgumentTypeError: If it has no rewards.
            DtypeError: If it has data that the format does not support.
            StructureError: If a dict has a key that is not text, or `"__type"`.
            ProtocolError: If the writer is closed, or was made in another process.
            TraceWriteError: If the batch could not be written; nothing is lost, and the next call tries again.
        """
        self._check_usable()
        if not isinstance(trajectory, TrajectoryWithRew):
            raise ArgumentTypeError(
                f"trajectory: expected one with rewards, as the format requires them, got a {type(trajectory).__name__}"
            )
        size = len(self._arrays.content)
        try:
            episode = {
                "actions": self._arrays.encode(trajectory.acts, "acts"),
                "observations": self._arrays.encode(trajectory.obs, "obs"),
                "rewards": self._arrays.encode(scalar_rewards(trajectory.rews, "gym-recording"), "rews"),
            }
            text = json.dumps(episode)
        except BaseException:
            del self._arrays.content[size:]
            raise
        self._episodes.append(text)
        self._text_bytes += len(text)
        if self._text_bytes + len(self._arrays.content) >= self._batch_bytes:
            self._write_batch()

    def flush(self) -> None:
        """Write all appended trajectories, and make them durable. Blocks until that is done.

        Raises:
            ProtocolError: If the writer is closed, or was made in another process.
            TraceWriteError: If the batch could not be written; nothing is lost, and the next call tries again.
        """
        self._check_usable()
        self._write_batch()

    def close(self) -> None:
        """Write all appended trajectories, and close the writer. A second call does nothing.

        Raises:
            TraceWriteError: If the batch could not be written; nothing is lost, and the next call tries again.
        """
        if self._is_closed or os.getpid() != self._process:
            return
        self._write_batch()
        self._is_closed = True
        exits.closed(self)

    def __reduce__(self) -> Any:
        raise ProtocolError(
            f"{type(self).__name__}: expected one owner, as a writer cannot be copied or pickled; open another one for "
            "the same directory, also in another process"
        )

    def __enter__(self: _Self) -> _Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _check_usable(self) -> None:
        if os.getpid() != self._process:
            raise ProtocolError("writer: expected a call from the process that made it; make one in each process")
        if self._is_closed:
            raise ProtocolError("writer: expected one that is open, got one that is closed")

    def _begin_batch(self) -> None:
        self._name = f"{self._prefix}.ep{self._first:09}"
        self._arrays = ArrayFile(f"{self._name}.bin")
        self._episodes: list[str] = []
        self._text_bytes = 0

    def _write_batch(self) -> None:
        if not self._episodes:
            return
        batch: dict[str, int | str] = {"first": self._first, "len": len(self._episodes), "fn": f"{self._name}.json"}
        files = {
            self._arrays.name: bytes(self._arrays.content),
            f"{self._name}.json": f'{{"episodes": [{", ".join(self._episodes)}]}}'.encode(),
            # Last, so that the files it lists exist.
            f"{self._prefix}.manifest.json": json.dumps({"batches": [*self._batches, batch]}).encode(),
        }
        try:
            for name, content in files.items():
                write_whole(self.directory / name, content)
        except OSError as error:
            raise TraceWriteError(
                f"{self.directory}: could not write {len(self._episodes)} episodes, which stay in memory: {error}"
            ) from error
        self._batches.append(batch)
        self._first += len(self._episodes)
        self._begin_batch()
