"""The thread that writes, and the bounded queue before it."""

from __future__ import annotations

import threading
from collections import deque
from contextlib import suppress

from vecrollout.errors import ProtocolError, StoreError, TraceWriteError
from vecrollout.storage.batches import Entry
from vecrollout.storage.encoder import BATCH_BYTES, BATCH_ROWS, TraceEncoder


class Worker:
    """Hands trajectories over to an encoder in a thread of its own.

    Args:
        encoder: Used by the thread alone.
        queue_bytes: What may wait to be written, in bytes of memory; a single trajectory may be larger.
    """

    def __init__(self, encoder: TraceEncoder, queue_bytes: int) -> None:
        self._encoder = encoder
        self._limit = queue_bytes
        # Guards everything below; notified when something changes that the other side waits for.
        self._changed = threading.Condition()
        self._queue: list[Entry] = []
        self._queued_rows = 0
        # Out of the queue and not with the encoder yet; the thread's own.
        self._taken: deque[Entry] = deque()
        # Of everything that was put and is not written yet, whether still in the queue or not.
        self._waiting_bytes = 0
        self._producers_waiting = 0
        self._flushes_wanted = 0
        self._flushes_done = 0
        self._error: TraceWriteError | None = None
        self._thread: threading.Thread | None = None
        self.is_closed = False
        """Whether `close` was called."""

    def put(self, entry: Entry) -> None:
        """Take a trajectory; waits while too much waits to be written.

        Raises:
            TraceWriteError: If writing failed; the trajectory is not taken.
            ProtocolError: If it was closed.
        """
        with self._changed:
            self._check_open()
            if self._thread is None:
                # A daemon: the interpreter joins other threads before it runs what closes the writer at its exit.
                self._thread = threading.Thread(target=self.run, name="vecrollout-trace-writer", daemon=True)
                self._thread.start()
            while self._waiting_bytes and self._waiting_bytes + entry.nbytes > self._limit:
                self._producers_waiting += 1
                try:
                    self._changed.notify_all()
                    self._changed.wait()
                finally:  # Ctrl-C may end the waiting
                    self._producers_waiting -= 1
                self._check_open()
            self._queue.append(entry)
            self._queued_rows += entry.rows
            self._waiting_bytes += entry.nbytes
            if self._has_work():
                self._changed.notify_all()

    def flush(self) -> None:
        """Wait until everything is written and durable.

        Raises:
            TraceWriteError: If writing failed.
            ProtocolError: If it was closed.
        """
        with self._changed:
            self._check_open()
            if self._thread is None:
                return
            self._flushes_wanted += 1
            wanted = self._flushes_wanted
            self._changed.notify_all()
            while self._flushes_done < wanted:
                self._changed.wait()
                self.check()

    def close(self) -> None:
        """Write everything, finish the files, and end the thread.

        Raises:
            TraceWriteError: If writing failed.
        """
        with self._changed:
            self.is_closed = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()
        self.check()

    @property
    def has_ended(self) -> bool:
        """Whether `close` was called, and the thread has done its work."""
        return self.is_closed and (self._thread is None or not self._thread.is_alive())

    def check(self) -> None:
        """Raise what the thread failed of.

        Raises:
            TraceWriteError: If it did.
        """
        if self._error is not None:
            # A new one each time, as a traceback grows with every raise.
            raise TraceWriteError(str(self._error)) from self._error.__cause__

    def _check_open(self) -> None:
        self.check()
        # Another thread may have closed the writer since it was asked whether it is open.
        if self.is_closed:
            raise ProtocolError("writer: expected one that is open, got one that is closed")

    def _has_work(self) -> bool:
        """Whether the thread has a reason to wake up: few small trajectories are none."""
        return (
            self._queued_rows >= BATCH_ROWS
            or self._waiting_bytes >= min(BATCH_BYTES, self._limit)
            or self._producers_waiting > 0
            or self._flushes_wanted > self._flushes_done
            or self.is_closed
        )

    def run(self) -> None:
        """What the thread does."""
        try:
            while self._work():
                pass
            self._encoder.finish()
        except BaseException as error:
            self._fail(error)

    def _work(self) -> bool:
        """Write what there is; False when that was the last."""
        with self._changed:
            while not self._has_work():
                self._changed.wait()
            taken, self._queue, self._queued_rows = self._queue, [], 0
            flush, closing = self._flushes_wanted, self.is_closed
            is_full = self._producers_waiting > 0 or self._waiting_bytes >= self._limit
            write_all = flush > self._flushes_done or closing or is_full
        self._taken.extend(taken)
        while self._taken:
            # It stays in the queue until the encoder has it, so that no failure loses sight of it.
            self._wrote(self._encoder.add(self._taken[0]))
            self._taken.popleft()
        if write_all:
            self._wrote(self._encoder.write())
        if flush > self._flushes_done:
            self._encoder.sync()
            with self._changed:
                self._flushes_done = flush
                self._changed.notify_all()
        return not closing

    def _wrote(self, freed_bytes: int) -> None:
        if freed_bytes:
            with self._changed:
                self._waiting_bytes -= freed_bytes
                self._changed.notify_all()

    def _fail(self, error: BaseException) -> None:
        with self._changed:
            lost = list({id(entry): entry for entry in [*self._encoder.pending, *self._taken, *self._queue]}.values())
            if isinstance(error, StoreError):
                with suppress(Exception):
                    self._encoder.keep(lost)
                    lost = []
            with suppress(OSError):  # what failed may fail again
                self._encoder.abandon()
            folder = self._encoder.left_in
            rest = f"what did not get there is in {folder}" if folder else "what was written before them can be read"
            self._error = TraceWriteError(f"writing failed: {error}; lost are {_described(lost)}; {rest}")
            self._error.__cause__ = error
            self._queue, self._encoder.pending = [], []
            self._taken.clear()
            self._changed.notify_all()


def _described(lost: list[Entry]) -> str:
    if not lost:
        return "no trajectories"
    numbers = sorted({entry.episode for entry in lost})
    steps = sum(len(entry.trajectory) for entry in lost)
    if len(numbers) == 1:
        return f"{len(lost)} trajectories of episode {numbers[0]} ({steps} steps)"
    return f"{len(lost)} trajectories of {len(numbers)} episodes from {numbers[0]} to {numbers[-1]} ({steps} steps)"
