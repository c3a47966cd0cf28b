"""The in-memory buffer: rows of E environments go in, trajectories and transitions come out."""

from vecrollout.buffer.episodes import Ending, Restart
from vecrollout.buffer.infos import BatchedInfos, InfoCopier, deep_copied, info_of, with_arrays
from vecrollout.buffer.options import RecordOptions
from vecrollout.buffer.rollout_buffer import RolloutBuffer

__all__ = [
    "BatchedInfos",
    "Ending",
    "InfoCopier",
    "RecordOptions",
    "Restart",
    "RolloutBuffer",
    "deep_copied",
    "info_of",
    "with_arrays",
]
