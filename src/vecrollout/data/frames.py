"""Rendered frames in the infos of a recording."""

from __future__ import annotations

FRAME = "frame"
"""Key of the infos under which the frame after each action is kept."""
FIRST_FRAME = "first_frame"
"""Key of an episode's first info under which the frame after the reset is kept."""
