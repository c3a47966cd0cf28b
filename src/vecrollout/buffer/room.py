"""Room for the steps to come: the next chunk, and what leaves where no more may be held."""

from __future__ import annotations

from collections.abc import Sequence

from vecrollout.buffer.books import Bookkeeper
from vecrollout.buffer.delivery import Delivery
from vecrollout.buffer.episodes import Note
from vecrollout.buffer.gather import LogColumns
from vecrollout.buffer.log import StepLog
from vecrollout.buffer.options import RecordOptions
from vecrollout.buffer.stored import stored_runs
from vecrollout.data.batch import TrajectoryBatch
from vecrollout.errors import BufferFullError

# Fragments are copied out of the log where it holds so many times the rows that are needed.
_MOST_PINNED = 4
_FEW_CHUNKS = 4


class Room:
    """Makes room in a log.

    Args:
        log: The log.
        keeper: Its books.
        delivery: Where running fragments go if `on_full` is `"flush"`.
        options: Say how much may be held.
    """

    def __init__(self, log: StepLog, keeper: Bookkeeper, delivery: Delivery, options: RecordOptions) -> None:
        self._log = log
        self._keeper = keeper
        self._delivery = delivery
        self._options = options

    def make(self) -> int:
        """Make room for a step, and say how many surely fit; 0 before the first chunk, which the step begins."""
        most = self._options.max_transitions
        steps = None if most is None else self._below_limit(most)
        if not self._log.chunks:
            return 0
        chunk = self._log.chunks[-1]
        # After everything was popped as copies, the lanes are written anew: their memory is warm.
        is_reusable = chunk.lanes is not None and not chunk.lanes.is_shared and chunk.steps > 0
        if chunk.free_steps() < 1 or (is_reusable and not self._held):
            self.roll()
        free = self._log.chunks[-1].free_steps()
        return free if steps is None else min(steps, free)

    def roll(self, waiting: frozenset[int] | None = None, notes: Sequence[Note] = ()) -> None:
        """Go on in another chunk, and let go of those that are not needed."""
        log = self._log
        log.roll(waiting=waiting, reuses_lanes=not self._held, notes=notes)
        books = self._keeper.settle()
        log.trim(min((span.chunk for span in books.running if span is not None), default=log.chunks[-1].number))
        pinned = sum(chunk.steps for chunk in log.chunks[:-1]) * log.num_envs
        for chunk in reversed(log.chunks[:-1]):
            if chunk.is_sealed:
                break
            chunk.seal()
        if len(log.chunks) > _FEW_CHUNKS and pinned > _MOST_PINNED * self._held:
            self._copy_out()

    @property
    def _held(self) -> int:
        return self._keeper.held

    def _below_limit(self, limit: int) -> int:
        """See that a step does not exceed the limit."""
        num_envs, on_full = self._log.num_envs, self._options.on_full
        if self._held + num_envs > limit and on_full == "flush":
            self._keeper.close_running(None)
            self._delivery.deliver()
        if self._held + num_envs > limit and on_full == "drop_oldest":
            self._keeper.drop_oldest(self._held + num_envs - limit)
        if self._held + num_envs > limit:
            cure = {
                "refuse": 'pop them, or pass on_full="drop_oldest"',
                "drop_oldest": "raise max_transitions",
                "flush": "the sink has to take them",
            }[on_full]
            raise BufferFullError(
                f"{self._held} transitions are held, {num_envs} more would exceed max_transitions={limit}; {cure}. "
                "The environments were not stepped"
            )
        return (limit - self._held) // num_envs

    def _copy_out(self) -> None:
        """Copy the running fragments out of chunks that hold little else."""
        runs = self._keeper.fragments()
        columns = LogColumns(runs, self._log.layout, self._log.keeps_infos)
        self._keeper.move_running(stored_runs(TrajectoryBatch(columns)) if runs else [])
        self._log.trim(self._log.chunks[-1].number)
