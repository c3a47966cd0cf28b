"""Write LeRobot data sets (v3.0) and read them, without LeRobot."""

from vecrollout.interop.lerobot.reading import from_lerobot
from vecrollout.interop.lerobot.writing import to_lerobot

__all__ = ["from_lerobot", "to_lerobot"]
