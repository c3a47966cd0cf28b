"""What is taken out of a buffer, and its state as a whole."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

from vecrollout._typing import Array
from vecrollout.buffer.episodes import Episodes
from vecrollout.buffer.gather import to_trajectory, to_transitions
from vecrollout.buffer.runs import Run
from vecrollout.buffer.state import Snapshot, dump, restore
from vecrollout.data.trajectory import TrajectoryWithRew
from vecrollout.data.transitions import TransitionsWithRew
from vecrollout.errors import EmptyBufferError


class Popping(Episodes):
    """Hands out what is held."""

    def pop_finished_trajectories(self) -> tuple[list[TrajectoryWithRew], list[int]]:
        """Finished trajectories in the order of their ends, and the whole lengths of the episodes completed."""
        self.deliver_before()
        return self._pop([])

    def pop_trajectories(self) -> tuple[list[TrajectoryWithRew], list[int]]:
        """Finished trajectories, then running fragments by environment; the lengths of the episodes completed."""
        return self._pop(self.running())

    def pop_transitions(self) -> TransitionsWithRew:
        """All transitions held, in the order of `pop_trajectories`.

        Raises:
            EmptyBufferError: If there are none.
        """
        running = self.running()
        runs = [*self._finished, *running]
        if not runs:
            raise EmptyBufferError(
                "pop_transitions() on an empty buffer: no transitions were recorded since the last pop"
            )
        transitions = to_transitions(runs, self._arena.layout)
        self._forget(len(transitions), running)
        return transitions

    def _pop(self, running: list[Run]) -> tuple[list[TrajectoryWithRew], list[int]]:
        runs = [*self._finished, *running]
        trajectories = [to_trajectory(run, self._arena.layout) for run in runs]
        lengths = [run.episode_steps for run in self._finished if run.terminal]
        self._forget(sum(run.steps for run in runs), running)
        return trajectories, lengths

    def _forget(self, popped: int, running: list[Run]) -> None:
        """Let go of the finished runs and these running ones."""
        rows = self._arena.row.tolist()
        open_runs = [*self._open]
        for run in running:
            env = run.fragment.env
            open_runs[env] = run.fragment.next_fragment(rows[env])
        finished: deque[Run] = deque()
        # No calls from here on: an interrupt cannot come between.
        self.popped += popped
        self._finished = finished
        self._finished_steps = self._room = 0
        self._open = open_runs
        self._starts_over = popped > 0 and not self.held

    def running(self) -> list[Run]:
        """The running fragments as they stand, by environment; those without steps are left out."""
        self.deliver_before()
        block, rows = self._arena.block, self._arena.row.tolist()
        return [Run(run, row, block) for run, row in zip(self._open, rows, strict=True) if run.steps(row)]

    # The state as a whole

    def state_dict(self) -> dict[str, Array]:
        """Everything held and counted, as a flat dict of arrays that need no pickle to be stored.

        Raises:
            StateError: If an info holds something that is neither plain data nor an array.
        """
        self.deliver_before()
        return dump(self._snapshot())

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put a state from `state_dict` in the place of everything held and counted.

        Raises:
            StateError: If the state does not fit this buffer, which then stays as it is.
        """
        snapshot = restore(state, self.num_envs, self.keeps_infos)
        self._take_turn()
        arena = self._arena
        before = self._mark()
        try:
            if snapshot.specs:
                arena.adopt(snapshot.layout, snapshot.specs)
                for column, leaf in zip(arena.obs_columns, snapshot.current, strict=True):
                    column.write(arena.row, leaf)
            counters = snapshot.counters
            self._stepped, self.popped = counters["stepped"], counters["popped"]
            self.sunk, self.dropped = counters["sunk"], counters["dropped"]
            self._finished = deque(snapshot.finished)
            self._finished_steps = sum(run.steps for run in snapshot.finished)
            self._open = [run.fragment for run in snapshot.running]
            self.waiting = frozenset(snapshot.waiting)
            self._begin_pieces()
            self._next_id = snapshot.next_id
            self._ready, self._failed = snapshot.is_ready, not snapshot.is_ready
            self.is_pending, self._room = False, 0
            self._owes = self._sink is not None and bool(self._finished)
        except BaseException:
            self._return_to(before)
            raise
        self._join_sink()

    def _snapshot(self) -> Snapshot:
        arena = self._arena
        rows = arena.row.tolist()
        return Snapshot(
            counters={name: getattr(self, name) for name in ("stepped", "popped", "sunk", "dropped")},
            next_id=self._next_id,
            is_ready=self._ready,
            waiting=sorted(self.waiting),
            layout=arena.layout,
            specs=arena.specs,
            finished=list(self._finished),
            running=[Run(run, row, arena.block) for run, row in zip(self._open, rows, strict=True)],
            current=[column.rows[arena.row] for column in arena.obs_columns],
        )
