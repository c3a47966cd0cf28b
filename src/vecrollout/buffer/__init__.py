"""The in-memory buffer: rows of E environments go in, trajectories and transitions come out."""

from vecrollout.buffer.infos import BatchedInfos, info_of
from vecrollout.buffer.rollout_buffer import Ending, Restart, RolloutBuffer

__all__ = ["BatchedInfos", "Ending", "Restart", "RolloutBuffer", "info_of"]
