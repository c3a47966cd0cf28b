"""The thread that writes, and the queue before it."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from queue import Empty, SimpleQueue

from vecrollout.errors import ProtocolError, StoreError, TraceWriteError
from vecrollout.storage.writing.encoding import BATCH_BYTES, Handed, TraceEncoder
from vecrollout.storage.writing.shards import Shards

# How long a caller waits before it looks again whether what it waits for has come.
_WAIT_S = 0.05

# How long trajectories may lie in the queue before the thread takes them: to wake it for each would cost its caller.
_NAP_S = 0.05


class _Call:
    """What a caller asks of the thread, behind everything that was handed over before."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.answer: SimpleQueue[None] = SimpleQueue()
        self.is_done = False

    def finish(self) -> None:
        self.is_done = True
        self.answer.put(None)


class WriterThread:
    """Hands trajectories over to an encoder in a thread of its own.

    An exception that interrupts a caller, such as Ctrl-C, leaves everything in order: a put into a `SimpleQueue`
    happens or does not, and nobody waits by a lock that an interrupt could leave taken.

    Args:
        encoder: Used by the thread alone, as is `shards`.
        shards: The encoder's.
        queue_bytes: What may be on its way to the disk, in bytes of memory; what is handed over at once may be larger.
    """

    def __init__(self, encoder: TraceEncoder, shards: Shards, queue_bytes: int) -> None:
        self._encoder = encoder
        self._shards = shards
        self._limit = queue_bytes
        # Each with the sum of all bytes up to it.
        self._queue: SimpleQueue[tuple[Handed, int]] = SimpleQueue()
        # These wake the thread.
        self._calls: SimpleQueue[_Call] = SimpleQueue()
        self._is_asleep = False
        # A put and the count of its bytes are one; the thread takes it only to stop puts when it fails.
        self._putting = threading.RLock()
        self._is_failing = False
        # Of everything that was ever handed over.
        self._handed_bytes = 0
        # Up to which of these sums everything is written; the thread's own.
        self._taken_bytes = self._written_bytes = 0
        self._error: TraceWriteError | None = None
        self.is_closed = False
        """Whether `close` was called."""
        self.has_ended = False
        """Whether the thread has done all its work."""
        # A daemon: the interpreter joins other threads before it runs what closes the writer at its exit.
        threading.Thread(target=self._run, name="vecrollout-trace-writer", daemon=True).start()

    @property
    def info_bytes(self) -> int:
        """A guess at the memory of an info."""
        return self._encoder.info_bytes

    def put(self, handed: Handed) -> None:
        """Take trajectories; waits while too much is on its way."""
        self._wait_for_room(handed.nbytes)
        with self._putting:
            self.check_open()
            total = self._handed_bytes + handed.nbytes
            self._queue.put((handed, total))
            self._handed_bytes = total
        if (self._is_asleep or total - self._taken_bytes >= BATCH_BYTES) and self._calls.empty():
            self._calls.put(_Call("take"))

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
        """Raise what the thread failed of."""
        while self._is_failing and self._error is None:
            time.sleep(_WAIT_S)  # it still sees to what is not written
        if self._error is not None:
            # A new one each time, as a traceback grows with every raise.
            raise TraceWriteError(str(self._error)) from self._error.__cause__

    def check_open(self) -> None:
        """Raise what the thread failed of, or that it was closed."""
        self.check()
        if self.is_closed:
            raise ProtocolError("writer: expected one that is open, got one that is closed")

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
        """What the thread does."""
        while not self.has_ended:
            call = self._next_call()
            try:
                if self._error is None:
                    self._work(call)
            except BaseException as error:  # none may end the thread, for which others wait
                self._fail(error)
            if call is not None:
                self.has_ended = call.name == "finish"
                call.finish()

    def _next_call(self) -> _Call | None:
        """What a caller asks for; None: nothing, for the time of a nap. Without anything to do, the thread sleeps."""
        with suppress(Empty):
            return self._calls.get(timeout=_NAP_S)
        if not self._queue.empty():
            return None
        self._is_asleep = True
        # A put looks whether the thread is asleep after this, or came before.
        call = self._calls.get() if self._queue.empty() else None
        self._is_asleep = False
        return call

    def _work(self, call: _Call | None) -> None:
        self._take_all()
        self._encoder.write_full()
        if call is not None and call.name != "take":
            {"write": self._encoder.write, "sync": self._encoder.sync, "finish": self._encoder.finish}[call.name]()
        if self._encoder.is_clear:
            self._written_bytes = self._taken_bytes

    def _take_all(self) -> None:
        with suppress(Empty):
            while True:
                handed, self._taken_bytes = self._queue.get_nowait()
                self._encoder.take(handed)

    def _fail(self, error: BaseException) -> None:
        """Say what is lost; of what did not get into an object store, nothing is."""
        with self._putting:
            # What is put later would not be among what is lost.
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
