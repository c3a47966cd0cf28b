"""Numbers of episodes that are unique in a trace and follow the order of the episodes' starts."""

from __future__ import annotations

import math

from vecrollout.errors import OptionError
from vecrollout.trajectory import Episode

_REMEMBERED = 100_000
_NUMBERS = 1 << 63


class Numbering:
    """Turns a recording's own episode ids into numbers of the trace.

    A recording counts its episodes in the order of their starts, and the first recording's ids are taken as they are.
    An id that comes again, other than for the next fragment of its episode, is another recording's; its numbers follow
    behind all those before. So do the numbers of trajectories that have no id.
    """

    def __init__(self) -> None:
        # The first step of an episode, by id, that this recording has not handed over yet.
        self._next_step: dict[int, float] = {}
        # Ids up to this one need not be remembered: they have ended, or are so many that memory would not stay bounded.
        self._forgotten = -1
        self._base = 0
        self._next = 0

    def number(self, episode: Episode, steps: int) -> int:
        """The number of a trajectory's episode; to be asked once a trajectory.

        Args:
            episode: The trajectory's identity.
            steps: Its number of steps.

        Raises:
            OptionError: If the number has more than 64 bits; nothing is changed then.
        """
        has_id = episode.id is not None and episode.id >= 0
        key = int(episode.id) if has_id else 0  # type: ignore[arg-type]
        expected = self._next_step.get(key, math.inf if key <= self._forgotten else 0)
        goes_on = has_id and episode.start_step >= expected
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
        return self._take(key)

    def _restart(self) -> None:
        self._next_step.clear()
        self._forgotten = -1
        self._base = self._next

    def _take(self, key: int) -> int:
        number = self._base + key
        self._next = max(self._next, number + 1)
        return number
