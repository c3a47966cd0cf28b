"""What a buffer holds and counts, and the way back to it where something goes wrong half way."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from operator import attrgetter
from typing import Any, TypeAlias

from vecrollout.buffer.arena import Arena
from vecrollout.buffer.runs import OpenRun, Run
from vecrollout.buffer.stage import StagedStep
from vecrollout.buffer.turns import Turns
from vecrollout.data.trajectory import Sink

# What is altered while something is recorded, in the buffer and in its arena. Not by way of `vars`: it makes all
# attributes slower from then on.
_RECORDING_NAMES = (
    *("_stepped", "popped", "sunk", "dropped", "waiting"),
    *("is_pending", "_ready", "_failed", "_room", "_starts_over"),
    *("_open", "_next_id", "_finished", "_finished_steps"),
)
_MEMORY_NAMES = (
    *("layout", "specs", "block", "obs_columns", "act_columns", "rew_column", "row"),
    *("_first", "_rows_before", "_spares", "plain_acts", "plain_step", "is_staged", "staged_steps"),
)
_RECORDING = attrgetter(*_RECORDING_NAMES)
_MEMORY = attrgetter(*_MEMORY_NAMES)

_Mark: TypeAlias = tuple[tuple[Any, ...], tuple[Any, ...], int]


class Accounts(Turns):
    """Everything that a buffer knows: its memory, its runs, its counts, and how far a step has come.

    Args:
        arena: The memory.
        info_keys: Which infos are kept; None: all.
        sink: Takes each finished trajectory.
    """

    def __init__(self, arena: Arena, info_keys: tuple[str, ...] | None, sink: Sink | None) -> None:
        super().__init__()
        self.num_envs = arena.num_envs
        self.keeps_infos = arena.layout.keeps_infos
        self.info_keys = info_keys
        self._arena = arena
        self._sink = sink
        # Have a sink not ask any more: for the running fragments before it closes, for finished ones before it flushes.
        self._call_off: list[Callable[[], object]] = []
        self._is_joined = False
        self._may_be_late = False  # whether the sink asks for finished trajectories itself, so that they may wait
        self._is_asked = False  # whether the sink asked for them in the middle of a step
        self._owes = False  # whether there is, also in staged steps, what the sink is to have
        self.popped = self.sunk = self.dropped = 0
        self._stepped = 0  # without the staged steps

        self._ready = False  # whether a step may follow: reset, and no failure since
        self._failed = False  # whether something failed, or all was closed, since all environments were reset last
        self.is_pending = False  # whether actions were taken that no step has answered yet
        # Steps that surely fit before `_make_room` has to look again; one in which an episode ends counts twice.
        self._room = 0
        self._starts_over = False  # whether everything was popped since `_make_room` looked last

        # Open runs are replaced, and never altered; so is the list, before it is altered: see `_mark`.
        self._open = [OpenRun(env) for env in range(self.num_envs)]
        # Environments whose episode has ended, or that have not begun any.
        self.waiting = frozenset(range(self.num_envs))
        self._next_id = 0
        self._finished: deque[Run] = deque()
        self._finished_steps = 0  # sum of their steps
        # Steps that count already, but are not written to the arena yet; and the actions of the next one, if it is to
        # be staged, too. `_settle` comes before anything that looks at the arena or at runs.
        self._staged: list[StagedStep] = []
        self._staged_acts: bytes | None = None

    @property
    def stepped(self) -> int:
        """Transitions recorded so far."""
        return self._stepped + len(self._staged) * self.num_envs

    def abort(self) -> None:
        """The step failed: forget it. What was recorded before stays; stepping goes on after a reset of all."""
        self._failed = self._failed or self._ready
        self._ready = self.is_pending = False
        self._staged_acts = None

    def _mark(self) -> _Mark:
        """What the recording is now, to return to if an interrupt or an error comes while it is being altered."""
        mark = _RECORDING(self), _MEMORY(self._arena), len(self._finished)
        # This is altered; the mark keeps the old one. At the end of `_finished` there may be more afterwards.
        self._open = [*self._open]
        return mark

    def _return_to(self, mark: _Mark) -> None:
        recording, memory, finished = mark
        for name, value in zip(_RECORDING_NAMES, recording, strict=True):
            setattr(self, name, value)
        for name, value in zip(_MEMORY_NAMES, memory, strict=True):
            setattr(self._arena, name, value)
        while len(self._finished) > finished:
            self._finished.pop()
