"""What is closed when the process ends: last opened, first closed."""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable
from multiprocessing.util import Finalize
from typing import Any, Protocol

_EXIT_CODE = 128 + signal.SIGTERM


class Closable(Protocol):
    """A recorder or a writer."""

    def close(self) -> object:
        """Write everything. A second call does nothing."""


# By identity, in the order of opening; with the process that opened it, as a fork inherits this.
_open: dict[int, tuple[Closable, int]] = {}
terminations: list[int] = []
"""Signals that ask for the end of the process and that nothing was closed after."""
# Those that close what is open when they end.
_processes: set[int] = set()


def close_at_exit(opened: Closable) -> None:
    """Close this when the process ends, before what was opened earlier.

    Where nobody handles SIGTERM, it ends the process as `sys.exit(143)` would.
    """
    if os.getpid() not in _processes:
        # A process of `multiprocessing` ends without what `atexit` has registered.
        Finalize(None, _close_all, exitpriority=0)
        _processes.add(os.getpid())
    # Registered again: what is opened is closed before the libraries that were imported for it are.
    atexit.unregister(_close_all)
    atexit.register(_close_all)
    _open[id(opened)] = opened, os.getpid()
    is_main = threading.current_thread() is threading.main_thread()
    if is_main and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _exit)


def closed(opened: Closable) -> None:
    """Forget this: it was closed."""
    _open.pop(id(opened), None)
    terminations.clear()


def close_each(*closes: Callable[[], object]) -> None:
    """Call all of these, also where one of them fails, and raise the first error. An interrupt passes at once."""
    failure: Exception | None = None
    for close in closes:
        try:
            close()
        except Exception as error:
            failure = failure or error
    if failure is not None:
        raise failure


def leave() -> None:
    """End the process if the exception of a signal was lost: NumPy swallows what is raised in some of its functions."""
    if threading.current_thread() is threading.main_thread():
        terminations.clear()
        sys.exit(_EXIT_CODE)


def _exit(number: int, frame: Any) -> None:
    terminations.append(number)
    sys.exit(_EXIT_CODE)


def _close_all() -> None:
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is _exit:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one must not keep anything from being closed
    while _open:
        opened, process = _open.pop(next(reversed(_open)))
        if process == os.getpid():
            try:
                opened.close()
            except Exception as error:  # the others are closed all the same
                warnings.warn(f"{opened!r} could not be closed at exit: {error}", stacklevel=1)
