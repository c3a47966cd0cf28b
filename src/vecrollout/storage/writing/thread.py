"""The thread that writes, and the queue of trajectories for it."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from queue import Empty, SimpleQueue

from vecrollout.errors import ProtocolError, StoreError, TraceWriteError
from vecrollout.storage.writing.encoding import TraceEncoder
from vecrollout.storage.writing.intake import BATCH_BYTES, Handed
from vecrollout.storage.writing.shards import Shards

# So much in the queue wakes the thread. A record batch has at most as many bytes.
_WAKING_BYTES = BATCH_BYTES

# How long a caller waits before it checks again whether its call is done.
_WAIT_S = 0.05


class _Call:
    """A caller's request to the thread. It covers all trajectories that were put into the queue before it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.answer: SimpleQueue[None] = SimpleQueue()
        self.is_done = False

    def finish(self) -> None:
        self.is_done = True
        self.answer.put(None)


class WriterThread:
    """Runs an encoder in a thread of its own.

    The thread wakes when the queue holds data for a record batch or more, and every `flush_every_s`. In between it
    takes no time from the thread that steps. Ctrl-C leaves the queue intact: a put into a `SimpleQueue` happens or does
    not, and nobody waits for a lock that an interrupt could leave taken.

    Args:
        encoder: Used by the thread alone, as is `shards`; others read its `info_bytes`.
        shards: The encoder's.
        queue_bytes: Most bytes of memory on their way to the disk; one `put` may bring more.
        flush_every_s: Seconds after which trajectories are durable at the latest; None: not before `flush`.
    """

    def __init__(
        self, encoder: TraceEncoder, shards: Shards, queue_bytes: int, flush_every_s: float | None = None
    ) -> None:
        self._encoder = encoder
        self._shards = shards
        self._limit = queue_bytes
        self._flush_every_s = flush_every_s
        self._queue: SimpleQueue[Handed] = SimpleQueue()
        # These wake the thread.
        self._calls: SimpleQueue[_Call] = SimpleQueue()
        # Keeps a put and the count of its bytes together. The thread takes it only to stop puts when it fails.
        self._putting = threading.RLock()
        self._is_failing = False
        # The bytes of all puts so far.
        self._handed_bytes = 0
        # The sums of bytes up to which data was taken out of the queue, and written. Only the thread sets them.
        self._taken_bytes = self._written_bytes = 0
        self._error: TraceWriteError | None = None
        self.is_closed = False
        """Whether `close` was called."""
        self.has_ended = False
        """Whether the thread has done all its work."""
        # A daemon, because at its exit the interpreter joins all other threads before it closes the writer.
        threading.Thread(target=self._run, name="vecrollout-trace-writer", daemon=True).start()

    def put(self, handed: Handed) -> None:
        """Take trajectories; waits while too much is on its way."""
        nbytes = handed.nbytes
        if self._handed_bytes - self._written_bytes + nbytes > self._limit:
            self._wait_for_room(nbytes)
        with self._putting:
            if self._is_failing or self.is_closed:
                self.check_open()
            self._queue.put(handed)
            self._handed_bytes += nbytes
        if self._handed_bytes - self._taken_bytes >= _WAKING_BYTES and self._calls.empty():
            self._calls.put(_Call("write_full"))

    def flush(self) -> None:
        """Wait until everything is written and durable."""
        with self._putting:
            self.check_open()
            call = _Call("sync")
            self._calls.put(call)
        self._wait_for(call)
        self.check()

    def close(self) -> None:
        """Write everything, finish the files, and end the thread; may be called again if it was interrupted."""
        with self._putting:
            self.is_closed = True
            call = _Call("finish")
            self._calls.put(call)
        self._wait_for(call)
        self.check()

    def check(self) -> None:
        """Raise the thread's error."""
        while self._is_failing and self._error is None:
            time.sleep(_WAIT_S)  # the thread still collects what is not written
        if self._error is not None:
            # A new one each time, as a traceback grows with every raise.
            raise TraceWriteError(str(self._error)) from self._error.__cause__

    def check_open(self) -> None:
        """Raise the thread's error, or an error if the writer is closed."""
        self.check()
        if self.is_closed:
            raise ProtocolError("writer: expected one that is open, got one that is closed; close recorders first")

    def _wait_for_room(self, nbytes: int) -> None:
        call = None
        while (
            self._error is None
            and not self.is_closed
            and self._handed_bytes > self._written_bytes
            and self._handed_bytes - self._written_bytes + nbytes > self._limit
        ):
            if call is None or call.is_done:
                call = _Call("write")
                self._calls.put(call)
            self._wait_once(call)

    def _wait_for(self, call: _Call) -> None:
        while not (call.is_done or self.has_ended):
            self._wait_once(call)

    def _wait_once(self, call: _Call) -> None:
        with suppress(Empty):
            call.answer.get(timeout=_WAIT_S)

    def _run(self) -> None:
        """The thread."""
        flush_at = None if self._flush_every_s is None else time.monotonic() + self._flush_every_s
        while not self.has_ended:
            call = self._next_call(flush_at)
            if flush_at is not None and call.name == "save":
                flush_at = time.monotonic() + (self._flush_every_s or 0.0)
            try:
                if self._error is None:
                    self._work(call.name)
            except BaseException as error:  # none may end the thread, for which others wait
                self._fail(error)
            self.has_ended = call.name == "finish"
            call.finish()

    def _next_call(self, flush_at: float | None) -> _Call:
        """The next call of a caller; at the time of a flush, one of the thread's own."""
        if flush_at is None:
            return self._calls.get()
        rest = flush_at - time.monotonic()
        if rest > 0:
            with suppress(Empty):
                return self._calls.get(timeout=rest)
        return _Call("save")

    def _work(self, name: str) -> None:
        self._take_all()
        getattr(self._encoder, name)()
        if self._encoder.is_clear:
            self._written_bytes = self._taken_bytes

    def _take_all(self) -> None:
        # Nobody else takes from the queue, so all that it holds now is there.
        get = self._queue.get_nowait
        taken = [get() for _ in range(self._queue.qsize())]
        self._encoder.take(taken)
        self._taken_bytes += sum(handed.nbytes for handed in taken)

    def _fail(self, error: BaseException) -> None:
        """Describe what is lost. Data that did not get into an object store is not lost: it stays in a local folder."""
        with self._putting:
            # Otherwise a later put would be lost, and the error would not name it.
            self._is_failing = True
        self._take_all()
        told, folder = "unknown", None
        with suppress(Exception):  # what failed may fail again
            if isinstance(error, StoreError):
                folder = self._shards.keep_in_spool()
                self._encoder.finish()
        with suppress(Exception):
            told = _described(self._encoder.lost())
        with suppress(Exception):
            self._shards.abandon()
        folder = folder or self._shards.left_in
        rest = f"what did not get there is in {folder}" if folder else "what was written before them can be read"
        failure = TraceWriteError(f"writing failed: {error}; lost are {told}; {rest}")
        failure.__cause__ = error
        self._encoder.forget()
        self._error = failure


def _described(lost: list[tuple[int, int]]) -> str:
    if not lost:
        return "no trajectories"
    numbers = sorted({number for number, _ in lost})
    steps = sum(length for _, length in lost)
    if len(numbers) == 1:
        return f"{len(lost)} trajectories of episode {numbers[0]} ({steps} steps)"
    return f"{len(lost)} trajectories of {len(numbers)} episodes from {numbers[0]} to {numbers[-1]} ({steps} steps)"
