"""Copies of recorders: they record for themselves, and write nothing."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import gymnasium as gym
from stable_baselines3.common.vec_env import SubprocVecEnv

from vecrollout.errors import ProtocolError, VecrolloutError

_CURE = "make other environments, and take over what was recorded with state_dict() and load_state_dict()"


class Unwritten:
    """The sink and the writer of a copy: what the original's would write, it drops."""

    def extend(self, trajectories: Iterable[Any], /) -> None:
        """Drop trajectories."""

    def append(self, trajectory: Any, /) -> None:
        """Drop a trajectory."""

    def flush(self) -> None:
        """Nothing is to be flushed."""

    def close(self) -> None:
        """Nothing is to be closed."""


def deep_copy(original: Any, memo: dict[int, Any], sinks: Iterable[Any]) -> Any:
    """A deep copy of an object; those of `sinks` that are closed at the end are replaced."""
    memo.update({id(sink): Unwritten() for sink in sinks if callable(getattr(sink, "close", None))})
    kind: Any = type(original)
    copied = memo[id(original)] = kind.__new__(kind)
    try:
        state = copy.deepcopy(original.__getstate__(), memo)
    except VecrolloutError:
        raise
    except Exception as error:  # of any environment
        raise ProtocolError(f"{kind.__name__}: expected environments that can be copied: {error}; {_CURE}") from error
    copied.__setstate__(state)
    return copied


def check_copied(env: Any) -> None:
    """Refuse to copy processes: a failed attempt may close the original's connections."""
    base = getattr(env, "unwrapped", env)
    if isinstance(base, SubprocVecEnv | gym.vector.AsyncVectorEnv):
        raise ProtocolError(
            f"expected environments that can be copied, got a {type(base).__name__}, whose environments are in other "
            f"processes; {_CURE}"
        )
