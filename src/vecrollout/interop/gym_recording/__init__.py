"""Recordings in the format of OpenAI's gym-recording: written, read, and converted to traces and back.

A directory holds a manifest for each recorder, `openaigym.trace.*.manifest.json`, which lists numbered batches of
episodes; a batch is a JSON file and, for its arrays, a binary one beside it. The format has observations, actions and
rewards, and nothing else: not how an episode ended, no infos, and no identity.
"""

from vecrollout.interop.gym_recording.conversion import from_gym_recording, to_gym_recording
from vecrollout.interop.gym_recording.reader import GymRecordingReader, RecordedBatch
from vecrollout.interop.gym_recording.stacking import RecordedEpisode
from vecrollout.interop.gym_recording.writer import GymRecordingWriter

__all__ = [
    "GymRecordingReader",
    "GymRecordingWriter",
    "RecordedBatch",
    "RecordedEpisode",
    "from_gym_recording",
    "to_gym_recording",
]
