"""Numbers of episodes that are unique in a trace and follow the order of the episodes' starts."""

from __future__ import annotations

import math

from vecrollout.trajectory import Episode

_REMEMBERED = 100_000


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
        """
        if episode.id is None or episode.id < 0:
            self._restart()
            return self._take(0)
        key = int(episode.id)
        expected = self._next_step.pop(key, math.inf if key <= self._forgotten else 0)
        if episode.start_step < expected:
            self._restart()
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
