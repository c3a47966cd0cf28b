"""`imitation.data.wrappers` (imitation 1.0.1): recorders around environments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, SupportsFloat

from stable_baselines3.common.vec_env import VecEnv

from vecrollout._typing import Info
from vecrollout.compat.imitation._classes import TrajectoryWithRew, TransitionsWithRew
from vecrollout.compat.imitation._joined import adopt
from vecrollout.recording import inner, sb3

__all__ = ["BufferingWrapper", "RolloutInfoWrapper"]


class BufferingWrapper(sb3.BufferingWrapper):
    """`vecrollout.BufferingWrapper`, with the two rules that imitation's algorithms rely on.

    The algorithms pop the finished trajectories, then train or reset while episodes run. So `n_transitions` does not
    count the running fragments that `pop_finished_trajectories` left, and `reset` drops running fragments (`dropped`
    counts them) instead of finishing them. If no `reset` comes, the fragments stay, and later pops return them.

    Args:
        venv: The environments to record from.
        error_on_premature_reset: Refuse a `reset` while `n_transitions` is not 0.
    """

    def __init__(self, venv: VecEnv, error_on_premature_reset: bool = True) -> None:
        super().__init__(venv, error_on_premature_reset, early_reset="drop")
        # Transitions of the running fragments that the last `pop_finished_trajectories` left.
        self._left_behind = 0

    @property
    def n_transitions(self) -> int:
        """Number of transitions recorded since the last pop."""
        return self.held - self._left_behind

    def reset(self, **kwargs: Any) -> Any:
        """Reset the environments, and drop the running fragments.

        Args:
            **kwargs: For the environments' own `reset`.

        Raises:
            PrematureResetError: If transitions were recorded since the last pop, and `error_on_premature_reset`.
        """
        refuses = self.error_on_premature_reset
        self.error_on_premature_reset = refuses and self.n_transitions > 0
        try:
            obs = super().reset(**kwargs)
        finally:
            self.error_on_premature_reset = refuses
        self._left_behind = 0
        return obs

    def pop_finished_trajectories(self) -> tuple[list[TrajectoryWithRew], list[int]]:
        """Finished trajectories in the order of their ends, and the full lengths of the completed episodes."""
        trajectories, lengths = super().pop_finished_trajectories()
        self._left_behind = self.held
        return adopt(trajectories), lengths

    def pop_trajectories(self) -> tuple[list[TrajectoryWithRew], list[int]]:
        """Finished trajectories, then running fragments by environment; and the lengths of the completed episodes."""
        trajectories, lengths = super().pop_trajectories()
        self._left_behind = 0
        return adopt(trajectories), lengths

    def pop_transitions(self) -> TransitionsWithRew:
        """All recorded transitions, in the order of `pop_trajectories`.

        Raises:
            EmptyBufferError: If no transitions are recorded.
        """
        popped = super().pop_transitions()
        self._left_behind = 0
        return adopt(popped)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Replace all recorded data and counters with a state from `state_dict`.

        Args:
            state: What `state_dict` returned.

        Raises:
            StateError: If the state does not fit this recorder. The recorder does not change.
        """
        super().load_state_dict(state)
        self._left_behind = 0


class RolloutInfoWrapper(inner.RolloutInfoWrapper):
    """`vecrollout.RolloutInfoWrapper`, with dict observations as the `DictObs` of `types`.

    Args:
        env: The environment to record.
    """

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, Info]:
        """Step the environment.

        Args:
            action: Passed on to the environment.

        Returns:
            What the environment returned. At an episode's end, the info is a new dict that includes the record.
        """
        obs, rew, terminated, truncated, info = super().step(action)
        if terminated or truncated:
            info["rollout"]["obs"] = adopt(info["rollout"]["obs"])
        return obs, rew, terminated, truncated, info
