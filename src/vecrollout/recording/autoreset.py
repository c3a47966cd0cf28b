"""Which rule a Gymnasium vector environment follows when an episode ends."""

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
    """The rule of an environment.

    Args:
        env: A vector environment, wrapped or not.
        named: The rule that the caller named, one of ours or of Gymnasium's, or its name; None: none.

    Returns:
        The rule that was named; else the one that was named to a recorder there; else what the environment's own
        `autoreset_mode` or `env.metadata["autoreset_mode"]` says; else, for Gymnasium's own vector environments, the
        one rule that the installed version has.

    Raises:
        OptionError: If the named rule is none, or the environment is another one and does not say its rule.
    """
    base = getattr(env, "unwrapped", env)
    said = named if named is not None else getattr(env, "__dict__", {}).get("autoreset")
    if said is None:
        said = getattr(base, "__dict__", {}).get("autoreset_mode")
    metadata = getattr(env, "metadata", None) or {}
    if said is None and not any(metadata is shared for shared in _shared_metadata()):
        said = metadata.get("autoreset_mode")
    if said is None:
        if type(base).__module__.startswith("gymnasium.vector."):
            # 0.29 has no VectorWrapper and resets in the same step; 1.0 has no AutoresetMode and resets in the next.
            return Autoreset.NEXT_STEP if hasattr(gym.vector, "VectorWrapper") else Autoreset.SAME_STEP
        raise OptionError(
            f"autoreset_mode: {type(base).__name__} does not say how it resets environments whose episodes ended, "
            'neither in env.metadata["autoreset_mode"] nor otherwise; pass autoreset_mode="next_step", "same_step" or '
            '"disabled", as its documentation says'
        )
    name = str(getattr(said, "value", said)).replace("_", "").replace("-", "").lower()
    for mode in Autoreset:
        if mode.value.replace("_", "") == name:
            return mode
    raise OptionError(f'autoreset_mode: expected "next_step", "same_step" or "disabled", got {said!r}')


def _shared_metadata() -> list[Any]:
    """Metadata that says nothing about one environment.

    An environment without its own has that of its base class, and ALE's (ale-py 0.12) writes its rule there.
    """
    return [base.__dict__["metadata"] for base in (gym.vector.VectorEnv, gym.Env) if "metadata" in base.__dict__]
