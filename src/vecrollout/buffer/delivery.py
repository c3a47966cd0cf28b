"""The way of finished trajectories to a sink."""

from __future__ import annotations

from typing import Any

from vecrollout.buffer.books import Bookkeeper
from vecrollout.buffer.gather import LogColumns
from vecrollout.buffer.log import StepLog
from vecrollout.data.batch import TrajectoryBatch
from vecrollout.data.trajectory import Sink


class Delivery:
    """Hands finished trajectories to a sink.

    Args:
        sink: A list, something with `extend`, or something with `append` only; None: nothing is handed over.
        keeper: The books.
        log: The log.
    """

    def __init__(self, sink: Sink | None, keeper: Bookkeeper, log: StepLog) -> None:
        self._sink: Any = sink
        self._keeper = keeper
        self._log = log
        # A list of somebody's own may have only an `append` of its own.
        self._takes_batches = hasattr(sink, "extend") and getattr(type(sink), "extend", None) is not list.extend

    def deliver(self) -> None:
        """Hand over what is finished. What the sink refuses by raising stays held."""
        if self._sink is None:
            return
        books = self._keeper.settle()
        if not books.count:
            return
        columns = LogColumns(books.runs(), self._log.layout, self._log.keeps_infos)
        columns.share()
        if self._takes_batches:
            self._sink.extend(TrajectoryBatch(columns))
        elif type(self._sink) is list:
            self._sink += columns.trajectories()  # all of them or none
        else:
            for trajectory in columns.trajectories():
                self._sink.append(trajectory)
                self._keeper.take_delivered(1, len(trajectory))
            return
        self._keeper.take_delivered(books.count, columns.total_steps)
