"""Two threads at one buffer: the one that steps, and another one that closes or flushes its sink."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_AGAIN_AFTER_S = 1e-4


class Turns:
    """Has threads take turns, without a lock that the one that steps would have to take at every step.

    A thread that wants the buffer to itself says so, and waits until nobody else is in the middle of a call; whoever
    begins one from then on waits for that thread.
    """

    def __init__(self) -> None:
        self._turn = threading.RLock()
        self._is_wanted = False  # whether a thread has the turn, or waits for it
        self._hands_over = 0  # the thread in which the sink is taking a trajectory just now

    def _await_turn(self) -> None:
        """At the beginning of a call, if the turn is wanted: let that thread go first."""
        # What a sink calls while it takes a trajectory is part of the call that hands it over.
        if self._hands_over != threading.get_ident():
            with self._turn:
                pass

    @contextmanager
    def _to_itself(self) -> Iterator[None]:
        """As long as this lasts, no other thread is in a call of the buffer."""
        if self._hands_over == threading.get_ident():
            yield
            return
        with self._turn:
            was_wanted, self._is_wanted = self._is_wanted, True
            try:
                while self._is_in_use():
                    time.sleep(_AGAIN_AFTER_S)
                yield
            finally:
                self._is_wanted = was_wanted

    def _is_in_use(self) -> bool:
        """Whether another thread is in the middle of a call."""
        frames = sys._current_frames()
        del frames[threading.get_ident()]
        return any(map(self._is_called_in, frames.values()))

    def _is_called_in(self, frame: FrameType | None) -> bool:
        while frame is not None:
            if frame.f_code in _WAITING:
                return False
            if frame.f_globals.get("__package__") == __package__ and frame.f_locals.get("self") is self:
                return True
            frame = frame.f_back
        return False


# A thread that is in one of these is at the beginning of its call.
_WAITING = (Turns._await_turn.__code__, Turns._to_itself.__wrapped__.__code__)  # type: ignore[attr-defined]
