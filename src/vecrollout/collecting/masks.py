"""Action masks: which actions the environments allow."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np

from vecrollout._typing import Array
from vecrollout.errors import PolicyError
from vecrollout.recording.environments import SINGLE, VECTOR, AnyEnv, kind_of

_NAME = "action_masks"


class ActionMasks:
    """Asks environments for their action masks, by the method `action_masks` that sb3-contrib asks for.

    Source:
        `sb3_contrib.common.maskable.utils.get_action_masks` (sb3-contrib 2.9).
    """

    def __init__(self, env: AnyEnv) -> None:
        self._env: Any = env
        self._kind = kind_of(env)
        self.current: Array | None = None
        """The masks as they were fetched last, shape `(E, n)`."""

    def fetch(self) -> Array:
        """The masks of the environments' current states, shape `(E, n)`."""
        try:
            self.current = np.stack(self._ask())
        except (AttributeError, EOFError, ConnectionError) as error:
            if self.current is not None:
                raise
            # A process that is asked for a method that its environment lacks may end.
            raise PolicyError(
                f"policy: expected environments with a method {_NAME}(), as the policy acts with masks or record_masks "
                f"is True, got a {type(self._env).__name__} without it; wrap each environment in sb3_contrib's "
                "ActionMasker, or pass a function that acts without masks"
            ) from error
        return self.current

    def _ask(self) -> Any:
        if self._kind == SINGLE:
            return [self._env.get_wrapper_attr(_NAME)()]
        if self._kind == VECTOR:
            return self._env.call(_NAME)
        if hasattr(self._env, "has_attr") and not self._env.has_attr(_NAME):
            raise AttributeError(_NAME)
        return self._env.env_method(_NAME)


def takes_masks(policy: Any) -> bool:
    """Whether an SB3 algorithm or policy predicts with action masks, as MaskablePPO does."""
    return _NAME in inspect.signature(policy.predict).parameters
