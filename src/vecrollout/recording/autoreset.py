"""The rule by which an environment is reset after an episode's end."""

from __future__ import annotations

import enum
from typing import Any

import gymnasium as gym

from vecrollout.errors import OptionError


class Autoreset(enum.Enum):
    """When an environment whose episode ended is reset.

    Source:
        `gymnasium.vector.AutoresetMode` (Gymnasium 1.1).
    """

    NEXT_STEP = "next_step"
    """By the next step, which ignores the action and returns the next episode's first observation."""
    SAME_STEP = "same_step"
    """By the same step, which returns the next episode's first observation; the last one is in the infos."""
    DISABLED = "disabled"
    """By a call of `reset`."""


def autoreset_of(env: Any, named: Any = None) -> Autoreset:
    """The rule that the caller named, else the rule that the environment states, else that of Gymnasium's own class."""
    stated = _stated_by(env)
    said = stated if named is None else named
    if said is None:
        base = getattr(env, "unwrapped", env)
        if isinstance(base, gym.vector.SyncVectorEnv | gym.vector.AsyncVectorEnv):
            # 0.29 has no VectorWrapper and resets in the same step; 1.0 has no AutoresetMode and resets in the next.
            return Autoreset.NEXT_STEP if hasattr(gym.vector, "VectorWrapper") else Autoreset.SAME_STEP
        raise OptionError(
            f"autoreset_mode: {type(base).__name__} does not say how it resets environments whose episodes ended; "
            'expected env.metadata["autoreset_mode"]. Pass autoreset_mode="next_step", "same_step" or "disabled", as '
            "the environment's documentation says"
        )
    mode = _mode_of(said)
    if mode is None:
        raise OptionError(f'autoreset_mode: expected "next_step", "same_step" or "disabled", got {said!r}')
    if _mode_of(stated) not in (None, mode):
        raise OptionError(
            f"autoreset_mode: expected {stated!r}, the rule that the environment states, got {named!r}; leave the "
            'option out, or correct env.metadata["autoreset_mode"] if the environment states a wrong rule'
        )
    return mode


def _mode_of(said: Any) -> Autoreset | None:
    """The rule by a name or a mode of Gymnasium's; None if it is neither."""
    name = str(getattr(said, "value", said)).replace("_", "").replace("-", "").lower()
    return next((mode for mode in Autoreset if mode.value.replace("_", "") == name), None)


def _stated_by(env: Any) -> Any:
    """The rule that an environment states; None if it states none."""
    stated = getattr(getattr(env, "unwrapped", env), "autoreset_mode", None)
    if stated is not None:
        return stated
    metadata = getattr(env, "metadata", None) or {}
    # An environment without metadata of its own has that of its base class, where ALE's (ale-py 0.12) writes its rule.
    shared = gym.Env.metadata, getattr(gym.vector.VectorEnv, "metadata", None)
    return None if any(metadata is each for each in shared) else metadata.get("autoreset_mode")
