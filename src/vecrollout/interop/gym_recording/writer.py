"""The sink that writes trajectories in gym-recording's format."""

from __future__ import annotations

import json
import os
from contextlib import ExitStack

from vecrollout.data.checks import local_directory, whole_number
from vecrollout.data.trajectory import Trajectory, TrajectoryWithRew
from vecrollout.errors import ArgumentTypeError, TraceWriteError
from vecrollout.interop.gym_recording.arrays import ArrayFile
from vecrollout.storage import closing
from vecrollout.storage.files.names import new_writer_name
from vecrollout.storage.files.whole import make_directory, write_whole
from vecrollout.storage.writing_sink import WritingSink


class GymRecordingWriter(WritingSink):
    """Writes trajectories into a directory, so that OpenAI's `gym_recording.playback` reads them.

    A sink: recorders take it as `sink=`. Any number of writers may write into a directory at the same time. What was
    appended is on disk after the next `flush` or `close`, or once its batch is full; until then it is held in memory,
    encoded. A writer that nobody closed is closed at the process's end, as `TraceWriter` is.

    The format keeps observations, actions and rewards, dtypes included. How a trajectory ended, infos and `episode` are
    left out, and a fragment looks like an episode.

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
        directory: Where to; made where it does not exist. May hold recordings already.
        batch_bytes: Size after which a batch is written and the next one begun, in bytes.

    Raises:
        OptionError: If `batch_bytes` is less than 1, or `directory` a URL.
        ArgumentTypeError: If `directory` is no path, or `batch_bytes` no integer.
        TraceWriteError: If the directory cannot be made, or nothing can be written there.

    Source:
        `gym_recording.recording.TraceRecording` (OpenAI, gym-recording). Its files are named by the process's id, and
        overwrite each other where two processes (in containers) have the same; ours have names of their own.
    """

    def __init__(self, directory: str | os.PathLike[str], *, batch_bytes: int = 5_000_000) -> None:
        super().__init__()
        batch_bytes = whole_number("batch_bytes", batch_bytes, 1)
        self.directory = local_directory(directory)
        make_directory(self.directory)
        self._prefix = f"openaigym.trace.{new_writer_name()}"
        self._batch_bytes = batch_bytes
        self._batches: list[dict[str, int | str]] = []
        self._first = 0
        self._has_closed = False
        self._begin_batch()
        closing.opened(self)

    def append(self, trajectory: Trajectory, /) -> None:
        """Add a trajectory, and write the batch where that is full.

        A trajectory that is refused leaves the writer as it was. After a `TraceWriteError` the trajectory is held.

        Args:
            trajectory: With rewards; of arrays with any dtype that has a name (no structured ones), or of objects that
                are plain data and arrays.

        Raises:
            ArgumentTypeError: If it has no rewards.
            DtypeError: If there is anything in it that the format cannot hold.
            StructureError: If a dict has keys that JSON cannot hold, or `"__type"`.
            ProtocolError: If the writer is closed, or was made in another process.
            TraceWriteError: If the batch could not be written; nothing is lost, and the next call tries again.
        """
        self._check_usable()
        if not isinstance(trajectory, TrajectoryWithRew):
            raise ArgumentTypeError(
                f"trajectory: expected one with rewards, which the format cannot do without, got a "
                f"{type(trajectory).__name__}"
            )
        size = len(self._arrays.content)
        try:
            episode = {
                "actions": self._arrays.encode(trajectory.acts, "acts"),
                "observations": self._arrays.encode(trajectory.obs, "obs"),
                "rewards": self._arrays.encode(trajectory.rews, "rews"),
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
        """Write everything that was appended, and make it durable. Blocks until that is done.

        Raises:
            ProtocolError: If the writer is closed, or was made in another process.
            TraceWriteError: If the batch could not be written; nothing is lost, and the next call tries again.
        """
        self._check_usable()
        for callback in [*self._before_flush]:
            callback()
        self._write_batch()

    def close(self) -> None:
        """Write everything, and stop. A second call does nothing.

        Raises:
            TraceWriteError: If the batch could not be written; nothing is lost, and the next call tries again.
        """
        if self._has_closed or os.getpid() != self._process:
            return
        with ExitStack() as stack:
            # From the last to the first, also where one of them raises.
            stack.callback(self._write_batch)
            for callback in [*self._before_close][::-1]:
                stack.callback(callback)
        self._has_closed = True
        closing.closed(self)

    def _is_closed(self) -> bool:
        return self._has_closed

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
            # Last, so that what it lists is there.
            f"{self._prefix}.manifest.json": json.dumps({"batches": [*self._batches, batch]}).encode(),
        }
        try:
            for name, content in files.items():
                write_whole(self.directory / name, content)
        except OSError as error:
            raise TraceWriteError(
                f"{self.directory}: could not write {len(self._episodes)} episodes, which are held in memory: {error}"
            ) from error
        self._batches.append(batch)
        self._first += len(self._episodes)
        self._begin_batch()
