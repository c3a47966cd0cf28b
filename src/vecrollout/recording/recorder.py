"""What all recording wrappers have in common: the data can be popped, counted, saved and restored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vecrollout._typing import Array
from vecrollout.buffer import RolloutBuffer
from vecrollout.data.trajectory import TrajectoryWithRew
from vecrollout.data.transitions import TransitionsWithRew


class Recorder:
    """The part of a recording wrapper that faces whoever takes the data out.

    After every call, also one that raised, `stepped == held + popped + sunk + dropped`.
    """

    _buffer: RolloutBuffer

    def pop_transitions(self) -> TransitionsWithRew:
        """Pop all transitions: those of finished trajectories, then those of running fragments.

        Returns:
            The transitions in the order of `pop_trajectories`, as copies.

        Raises:
            EmptyBufferError: If nothing is held.
        """
        return self._buffer.pop_transitions()

    def pop_trajectories(self) -> tuple[list[TrajectoryWithRew], list[int]]:
        """Pop all trajectories, fragments of running episodes included.

        Returns:
            Finished trajectories in the order of their ends (within a step, by environment), then running fragments by
            environment, as read-only views where they lie in one piece; and the whole lengths, in steps, of the
            episodes completed, also where earlier fragments of them were popped before. `([], [])` if nothing is held.
        """
        return self._buffer.pop_trajectories()

    def pop_finished_trajectories(self) -> tuple[list[TrajectoryWithRew], list[int]]:
        """Pop finished trajectories; running fragments stay held.

        Returns:
            As `pop_trajectories`, without the running fragments.
        """
        return self._buffer.pop_finished_trajectories()

    def state_dict(self) -> dict[str, Array]:
        """Everything held and counted, running fragments included, as a flat dict of arrays that need no pickle.

        `np.savez(file, **recorder.state_dict())` stores it. The environments' own state is not part of it.

        Raises:
            StateError: If an info holds something that is neither plain data nor an array.
        """
        return self._buffer.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put a state from `state_dict`, or from the file it went to, in the place of everything held and counted.

        Running episodes go on where the environments were brought to the same state; otherwise `reset` them.

        Raises:
            StateError: If the state does not fit this recorder, which then stays as it is.
        """
        self._buffer.load_state_dict(state)

    @property
    def n_transitions(self) -> int:
        """Transitions held: the same as `held`, under the name that imitation gives it."""
        return self.held

    @property
    def held(self) -> int:
        """Transitions that can be popped."""
        self._buffer.deliver_before()
        return self._buffer.held

    @property
    def stepped(self) -> int:
        """Transitions recorded so far: E a step."""
        return self._buffer.stepped

    @property
    def popped(self) -> int:
        """Transitions popped so far."""
        return self._buffer.popped

    @property
    def sunk(self) -> int:
        """Transitions that the sink took so far."""
        self._buffer.deliver_before()
        return self._buffer.sunk

    @property
    def dropped(self) -> int:
        """Transitions dropped so far, by `on_full="drop_oldest"` or `early_reset="drop"`."""
        return self._buffer.dropped
