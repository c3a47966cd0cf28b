"""From recordings in gym-recording's format to traces, and back."""

from __future__ import annotations

import os

from vecrollout.data.stitching import stitch
from vecrollout.data.trajectory import Trajectory
from vecrollout.errors import DtypeError, ShapeError, StitchError, StructureError
from vecrollout.interop.gym_recording.reader import GymRecordingReader
from vecrollout.interop.gym_recording.writer import GymRecordingWriter

# What needs pyarrow is imported by the calls that need it: recordings are read and written without.


def from_gym_recording(recording: str | os.PathLike[str], directory: str | os.PathLike[str]) -> int:
    """Write a recording's episodes as traces.

    Args:
        recording: A directory that gym-recording, or a `GymRecordingWriter`, wrote.
        directory: Where the traces go; may hold some already. Where the episodes change in dtypes, shapes or structure,
            a further writer takes those that follow.

    Returns:
        How many trajectories were written: episodes without a step are left out, as `GymRecordingReader.trajectories`
        says.

    Raises:
        DamagedTraceError: If the recording is damaged; the episodes before the damage are written.
        TraceWriteError: If the traces could not be written.
        OSError: If the directory cannot be made.
        MissingDependencyError: If pyarrow or xxhash is not installed.
    """
    from vecrollout.storage.writing.writer import TraceWriter

    written = 0
    trajectories = GymRecordingReader(recording).trajectories()
    writer = TraceWriter(directory)
    try:
        for trajectory in trajectories:
            try:
                writer.append(trajectory)
            except (ShapeError, DtypeError, StructureError):
                writer.close()
                writer = TraceWriter(directory)
                writer.append(trajectory)
            written += 1
    finally:
        writer.close()
    return written


def to_gym_recording(traces: str | os.PathLike[str], directory: str | os.PathLike[str]) -> int:
    """Write traces as a recording that OpenAI's `gym_recording.playback` reads.

    Args:
        traces: A directory of traces.
        directory: Where the recording goes; may hold some already.

    Returns:
        How many episodes were written. What the format cannot hold is left out: how they ended, infos, identity. The
        fragments of an episode are joined; where steps are missing between them, each counts as an episode.

    Raises:
        DamagedTraceError: If a trace cannot be read; the trajectories before it are written.
        TraceVersionError: If a newer version of the package wrote one of the files.
        ArgumentTypeError: If a trajectory has no rewards.
        DtypeError: If there is anything in it that the format cannot hold.
        StructureError: If a dict has keys that JSON cannot hold, or `"__type"`.
        TraceWriteError: If the recording could not be written.
        OSError: If the directory cannot be made.
        MissingDependencyError: If pyarrow or xxhash is not installed.
    """
    from vecrollout.storage.dataset import open_traces

    written = 0
    recorded = open_traces(traces)
    with GymRecordingWriter(directory) as writer:
        for numbers in recorded.episodes():
            for trajectory in _joined([recorded[number] for number in numbers]):
                writer.append(trajectory)
                written += 1
    return written


def _joined(fragments: list[Trajectory]) -> list[Trajectory]:
    try:
        return [stitch(fragments)]
    except StitchError:
        return fragments
