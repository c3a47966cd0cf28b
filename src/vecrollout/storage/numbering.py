"""Numbers of episodes that are unique in a trace and follow the order of the episodes' starts."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from vecrollout.data.trajectory import Episode
from vecrollout.errors import OptionError

_REMEMBERED = 100_000
_NUMBERS = 1 << 63


class _Open(NamedTuple):
    """An episode of which more may come."""

    id: int
    next_step: int
    digest: str | None
    """Of its last observation so far; None: not known."""

    def meets(self, begun: _Open) -> bool:
        """Whether what begins with that step and observation surely is the rest of this."""
        return self == begun and self.digest is not None


class Numbering:
    """Turns a recording's own episode ids into numbers of the trace.

    A recording counts its episodes in the order of their starts, and the first recording's ids are taken as they are.
    An id that comes again, other than for the next fragment of its episode, is another recording's; its numbers follow
    behind all those before. So do the numbers of trajectories that have no id. Fragments of several recordings may come
    in turns: the observation where two of them meet tells which one goes on.
    """

    def __init__(self) -> None:
        # The first step of an episode, by id, that this recording has not handed over yet.
        self._next_step: dict[int, float] = {}
        # Ids up to this one need not be remembered: they have ended, or are so many that memory would not stay bounded.
        self._forgotten = -1
        # Of all recordings, by number.
        self._open: dict[int, _Open] = {}
        self._base = 0
        self._next = 0

    def number(self, episode: Episode, steps: int, digest: Callable[[int], str | None] = lambda at: None) -> int:
        """The number of a trajectory's episode; to be asked once a trajectory.

        Args:
            episode: The trajectory's identity.
            steps: Its number of steps.
            digest: Says of its observation at an index which one it is; None where that is not to be had.

        Raises:
            OptionError: If the number has more than 64 bits; nothing is changed then.
        """
        has_id = episode.id is not None and episode.id >= 0
        key = int(episode.id) if has_id else 0  # type: ignore[arg-type]
        expected = self._next_step.get(key, math.inf if key <= self._forgotten else 0)
        goes_on = has_id and episode.start_step >= expected
        if has_id and episode.start_step:
            begun = _Open(key, episode.start_step, digest(0))
            running = self._open.get(self._base + key)
            if running is not None and begun.next_step == running.next_step:
                goes_on = goes_on and (running.meets(begun) or None in (running.digest, begun.digest))
            if running is None or not running.meets(begun):
                for number, other in self._open.items():
                    if other.meets(begun):
                        self._note(number, key, episode, steps, digest)
                        return number
        if (self._base if goes_on else self._next) + key >= _NUMBERS:
            raise OptionError(f"episode.id: expected one that has room behind the ids before it, got {key}")
        if not goes_on:
            self._restart()
        if not has_id:
            number = self._take(0)
            # The next one's id may be 0.
            self._restart()
            return number
        self._next_step.pop(key, None)
        self._next_step[key] = episode.start_step + steps if episode.ended_by is None else math.inf
        while self._next_step.get(self._forgotten + 1) == math.inf:
            self._forgotten += 1
            del self._next_step[self._forgotten]
        if len(self._next_step) > 2 * _REMEMBERED:
            # Dicts keep the order of insertion: what goes are the ids that ended first.
            ended = [old for old, step in self._next_step.items() if step == math.inf]
            for old in ended[:_REMEMBERED]:
                del self._next_step[old]
                self._forgotten = max(self._forgotten, old)
        number = self._take(key)
        self._note(number, key, episode, steps, digest)
        return number

    def _note(self, number: int, key: int, episode: Episode, steps: int, digest: Callable[[int], str | None]) -> None:
        """Keep in mind what may go on."""
        self._open.pop(number, None)
        if episode.ended_by is None:
            self._open[number] = _Open(key, episode.start_step + steps, digest(-1))
            if len(self._open) > _REMEMBERED:
                del self._open[next(iter(self._open))]

    def _restart(self) -> None:
        self._next_step.clear()
        self._forgotten = -1
        self._base = self._next

    def _take(self, key: int) -> int:
        number = self._base + key
        self._next = max(self._next, number + 1)
        return number
