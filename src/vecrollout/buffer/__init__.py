"""The in-memory buffer: rows of E environments go in, trajectories and transitions come out."""

from vecrollout.buffer.rollout_buffer import Ending, RolloutBuffer

__all__ = ["Ending", "RolloutBuffer"]
