"""Conversions to and from RLlib's offline data, as columns or as episodes, without Ray."""

from vecrollout.interop.rllib.reading import from_rllib
from vecrollout.interop.rllib.writing import to_rllib

__all__ = ["from_rllib", "to_rllib"]
