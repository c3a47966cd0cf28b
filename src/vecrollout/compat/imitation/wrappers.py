"""`imitation.data.wrappers` (imitation 1.0.1): recorders around environments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stable_baselines3.common.vec_env import VecEnv

from vecrollout.data.trajectory import TrajectoryWithRew
from vecrollout.data.transitions import TransitionsWithRew
from vecrollout.recording import sb3
from vecrollout.recording.inner import RolloutInfoWrapper

__all__ = ["BufferingWrapper", "RolloutInfoWrapper"]


class BufferingWrapper(sb3.BufferingWrapper):
    """`vecrollout.BufferingWrapper`, but for one habit of imitation's that its algorithms rely on.

    They pop the finished trajectories, then train on or reset, and expect no running fragment to stand in the way. So
    `n_transitions` leaves out what `pop_finished_trajectories` left behind, and a `reset` drops running fragments
    (counted in `dropped`) instead of closing them. Until then they are held, and come out with what follows them.

    Args:
        venv: The environments to record from.
        error_on_premature_reset: Refuse a `reset` while `n_transitions` is not 0.
    """

    def __init__(self, venv: VecEnv, error_on_premature_reset: bool = True) -> None:
        super().__init__(venv, error_on_premature_reset, early_reset="drop")
        # Transitions that the last `pop_finished_trajectories` left behind and that are still held.
        self._left_behind = 0

    @property
    def n_transitions(self) -> int:
        """Number of transitions recorded since the last pop."""
        return self.held - self._left_behind

    def reset(self, **kwargs: Any) -> Any:
        """Reset the environments, and drop what is running.

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
        """Finished trajectories in the order of their ends, and the whole lengths of the episodes completed."""
        popped = super().pop_finished_trajectories()
        self._left_behind = self.held
        return popped

    def pop_trajectories(self) -> tuple[list[TrajectoryWithRew], list[int]]:
        """Finished trajectories, then running fragments by environment; the lengths of the episodes completed."""
        popped = super().pop_trajectories()
        self._left_behind = 0
        return popped

    def pop_transitions(self) -> TransitionsWithRew:
        """All transitions held, in the order of `pop_trajectories`.

        Raises:
            EmptyBufferError: If there are none.
        """
        popped = super().pop_transitions()
        self._left_behind = 0
        return popped

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put a state from `state_dict` in the place of everything held and counted.

        Raises:
            StateError: If the state does not fit this recorder, which then stays as it is.
        """
        super().load_state_dict(state)
        self._left_behind = 0
