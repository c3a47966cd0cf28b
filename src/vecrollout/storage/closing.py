"""Closes what is still open when the process ends: at the interpreter's exit, and by SIGTERM."""

from __future__ import annotations

import atexit
import contextlib
import multiprocessing
import multiprocessing.util
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from itertools import takewhile
from types import FrameType
from typing import Protocol

# How long to wait before trying again to close what is in use just now.
_AGAIN_AFTER_S = 0.01
# A thread that is in one of these may be in the middle of a change.
_CHANGING = (
    "vecrollout.buffer.",
    "vecrollout.storage.writer",
    "vecrollout.storage.closing",
    "vecrollout.interop.gym_recording.writer",
    "vecrollout.compat.gym_recording.recording",
)
# So is one in a recorder between the environment's step and its recording; not while the environment itself is at work,
# which may take long. What recorders call there:
_RECORDERS = "vecrollout.recording."
_CALLED_BY_RECORDERS = ("copy", "numpy")
# But for a writer's own thread, which goes on while the writer closes.
_WRITER_THREAD = ("vecrollout.storage.worker", "run")


class Closable(Protocol):
    """What has to be closed before the process ends."""

    def close(self) -> None:
        """Close it. A second call, and one in a forked process, do nothing."""


# With the process that opened each: a forked one inherits the list.
_open: list[tuple[int, Closable]] = []
_finalized_process = 0
# Whether the process is to end by SIGTERM as soon as everything is closed.
_is_ending = False


def opened(closable: Closable) -> None:
    """Close this when the process ends, and keep it alive until then."""
    global _finalized_process
    process = os.getpid()
    _open.append((process, closable))
    atexit.register(closable.close)
    if multiprocessing.parent_process() is not None and _finalized_process != process:
        # The processes that it starts end without what `atexit` has registered.
        multiprocessing.util.Finalize(None, _close_all, exitpriority=0)
        _finalized_process = process
    if _may_handle() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _close_and_end)


def closed(closable: Closable) -> None:
    """It is closed; nothing is left to do."""
    _open[:] = [each for each in _open if each[1] is not closable]
    atexit.unregister(closable.close)
    if not _open and _may_handle() and signal.getsignal(signal.SIGTERM) is _close_and_end:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if _is_ending and not _mine():
        _end()


def _may_handle() -> bool:
    """Whether this is the thread that may set handlers, on a system where processes are ended by signals."""
    return os.name == "posix" and threading.current_thread() is threading.main_thread()


def _close_and_end(number: int, frame: FrameType | None) -> None:
    """The handler of SIGTERM: close everything, then end as without a handler.

    It runs between any two instructions of the main thread. In the middle of a change nothing can be closed, and to
    wait for its end would be to wait for oneself: so the handler returns, and is called again when the change is over.
    """
    global _is_ending
    if _mine() and any(map(_changes, _frames(frame))):
        _is_ending = True
        for change in _changes(frame)[-1:]:
            _call_again_in(change.f_back)
        # Another thread may be in a change, too; and a debugger may take the trace function away.
        again = threading.Timer(_AGAIN_AFTER_S, _send_again)
        again.daemon = True
        # At the interpreter's exit no thread can be started: everything is being closed anyway.
        with contextlib.suppress(RuntimeError):
            again.start()
        return
    _close_all()
    _end()


def _end() -> None:
    """End as SIGTERM ends a process that does not handle it."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.raise_signal(signal.SIGTERM)
    # The first process of a container is spared by signals that nothing handles.
    os._exit(128 + signal.SIGTERM)


def _mine() -> list[Closable]:
    return [closable for process, closable in _open if process == os.getpid()]


def _close_all() -> None:
    for closable in _mine():
        try:
            closable.close()
        except BaseException:
            traceback.print_exc()


def _frames(interrupted: FrameType | None) -> list[FrameType | None]:
    """The frames in which the threads are, but for those of writers."""
    frames: dict[int, FrameType | None] = {**sys._current_frames(), threading.get_ident(): interrupted}
    return [frame for frame in frames.values() if not any(map(_is_of_writer, _stack(frame)))]


def _is_of_writer(frame: FrameType) -> bool:
    return (frame.f_globals.get("__name__"), frame.f_code.co_name) == _WRITER_THREAD


def _changes(frame: FrameType | None) -> list[FrameType]:
    """The calls by which a thread is in the middle of a change, innermost first."""
    innermost = takewhile(lambda each: _is_of(each, _RECORDERS, *_CALLED_BY_RECORDERS), _stack(frame))
    recording = [each for each in innermost if _is_of(each, _RECORDERS)]
    return [each for each in _stack(frame) if _is_of(each, *_CHANGING)] or recording


def _is_of(frame: FrameType, *modules: str) -> bool:
    return str(frame.f_globals.get("__name__")).startswith(modules)


def _stack(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back


def _call_again_in(frame: FrameType | None) -> None:
    """Have the handler called when the main thread is back in this frame."""
    if frame is None:
        return

    def called(frame: FrameType, event: str, arg: object) -> None:
        sys.settrace(None)
        _close_and_end(signal.SIGTERM, frame)

    frame.f_trace = called
    frame.f_trace_opcodes = True
    sys.settrace(lambda frame, event, arg: None)


def _send_again() -> None:
    # To the main thread, which may be in a system call that no other thread's signal interrupts.
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)
