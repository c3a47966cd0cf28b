"""Aliases without a better home."""

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]
"""A NumPy array of any dtype."""

Info: TypeAlias = dict[str, Any]
"""What an environment says about a step or a reset beside observation and reward."""

RecordInfos: TypeAlias = Literal["all", "none"] | Sequence[str]
"""Which entries of infos to keep: all, none, or those of the named keys."""

OnFull: TypeAlias = Literal["refuse", "drop_oldest", "flush", "hand_over"]
"""What a recorder does when the next step would hold more than it may: refuse it, drop the oldest finished
trajectories, or hand the running fragments over to its sink."""
