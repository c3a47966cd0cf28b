"""Convert recordings in gym-recording's format to traces, and back."""

from __future__ import annotations

import os

from vecrollout.data.stitching import stitch
from vecrollout.data.trajectory import Trajectory
from vecrollout.errors import StitchError, StructureError
from vecrollout.interop.gym_recording.reader import GymRecordingReader
from vecrollout.interop.gym_recording.writer import GymRecordingWriter

# Import what needs pyarrow in the functions: recordings are read and written without it.


def from_gym_recording(recording: str | os.PathLike[str], directory: str | os.PathLike[str]) -> int:
    """Write a recording's episodes as traces.

    Args:
        recording: A directory that gym-recording, or a `GymRecordingWriter`, wrote.
        directory: Directory of the traces; it may contain some. If episodes differ in dtypes, shapes or structure, a
            further writer takes the ones that follow.

    Returns:
        Number of trajectories written. Episodes without a step are left out, as in `GymRecordingReader.trajectories`.

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
            except StructureError:
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
        directory: Directory of the recording; it may contain some.

    Returns:
        Number of episodes written, without their endings, infos and identities, which the format does not have.
        Fragments of one episode are joined. If steps are missing between them, each fragment counts as an episode.

    Raises:
        DamagedTraceError: If a trace cannot be read; the trajectories before it are written.
        TraceVersionError: If a newer version of the package wrote one of the files.
        ArgumentTypeError: If a trajectory has no rewards.
        DtypeError: If a trajectory has data that the format does not support.
        StructureError: If a dict has a key that is not text, or `"__type"`.
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
