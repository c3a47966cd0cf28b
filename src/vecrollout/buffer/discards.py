"""Episodes that the user does not want."""

from __future__ import annotations

from vecrollout.buffer.books import Bookkeeper
from vecrollout.buffer.episodes import Discard
from vecrollout.buffer.log import StepLog
from vecrollout.buffer.room import Room
from vecrollout.errors import EmptyBufferError


class Discards:
    """Drops episodes of a log.

    Args:
        log: The log.
        keeper: Its books.
        space: Begins the chunk that says what is dropped.
    """

    def __init__(self, log: StepLog, keeper: Bookkeeper, space: Room) -> None:
        self._log = log
        self._keeper = keeper
        self._space = space

    @property
    def over(self) -> frozenset[int]:
        """Environments that wait to be reset. The log waits also for those whose discarded episode goes on."""
        waiting = self._log.waiting
        return waiting - self._keeper.settle().discarded if self._keeper.books.discarded else waiting

    def episode(self, env: int) -> int:
        """Drop an environment's running episode, or else its last one; returns the number of transitions."""
        books = self._keeper.settle()
        if env in books.discarded:
            return 0
        span = books.running[env]
        if span is not None and (span.start_step or any(run.span is span for run in self._keeper.fragments())):
            self._space.roll(self._log.waiting | {env}, [Discard(env)])
            return self._drop(span.id, books.dropped)
        finished = [run.span.id for run in books.runs() if run.span.env == env]
        if not finished:
            raise EmptyBufferError(
                f"discard_episode({env}): expected steps of an episode of environment {env}, got none: they were "
                "popped, or went to the sink at the episode's end"
            )
        return self._drop(finished[-1], books.dropped)

    def last(self) -> int:
        """Drop the episode that finished last; returns the number of transitions."""
        books = self._keeper.settle()
        if not books.count:
            raise EmptyBufferError(
                "discard_last: expected a finished episode, got none: it was popped, or went to the sink at its end"
            )
        return self._drop(books.runs()[-1].span.id, books.dropped)

    def _drop(self, episode_id: int | None, dropped: int) -> int:
        self._keeper.drop_episode(episode_id)
        return self._keeper.books.dropped - dropped
