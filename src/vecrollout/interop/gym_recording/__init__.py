"""Write and read recordings in the format of OpenAI's gym-recording, and convert them to traces and back.

A directory has one manifest for each recorder, `openaigym.trace.*.manifest.json`. The manifest lists numbered batches
of episodes. A batch is a JSON file, with a binary file for its arrays. The format has observations, actions and
rewards. It does not say how an episode ended, and has neither infos nor identities.
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
