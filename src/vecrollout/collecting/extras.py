"""What a collection records beside the actions of a policy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import BasePolicy

from vecrollout._typing import Array
from vecrollout.collecting.masks import ActionMasks, takes_masks
from vecrollout.data.foreign import as_array
from vecrollout.errors import PolicyError
from vecrollout.recording.sb3_algorithm import state_columns


class Extras:
    """Makes annotations of action masks and of a policy's recurrent state.

    Args:
        policy: The policy.
        masks: The environments' masks, which a policy with masks has fetched before it acts.
        record_masks: Whether to record the masks.
        record_states: Whether to record the state.
    """

    def __init__(self, policy: Any, masks: ActionMasks, record_masks: bool, record_states: bool) -> None:
        is_predicting = isinstance(policy, BaseAlgorithm | BasePolicy)
        self._masks = masks if record_masks else None
        self._fetches = not (is_predicting and takes_masks(policy))
        self._records_states = record_states
        # sb3-contrib's recurrent policies have one row a layer, and in it one an environment.
        self._axis = 1 if is_predicting else 0

    def __bool__(self) -> bool:
        return self._masks is not None or self._records_states

    def of_step(self, before: Any, after: Any, starts: Array) -> Mapping[str, Array]:
        """Annotations of a step whose actions a policy computed, with its states before and after."""
        extras: dict[str, Any] = {}
        if self._masks is not None:
            extras["action_masks"] = self._masks.fetch() if self._fetches else self._masks.current
        if self._records_states:
            if after is None:
                raise PolicyError("record_states: expected a policy that returns (actions, states), got states of None")
            before = [np.zeros_like(each) for each in _arrays(after)] if before is None else _arrays(before)
            extras |= state_columns([np.moveaxis(each, self._axis, 0) for each in before], starts)
        return extras


def _arrays(states: Any) -> list[Array]:
    return [as_array(each, "states") for each in (states if isinstance(states, tuple | list) else [states])]
