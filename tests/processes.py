"""Finds the processes that tests leave behind (on Linux)."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

IS_LINUX = sys.platform.startswith("linux")

# From <linux/prctl.h>.
PR_SET_CHILD_SUBREAPER = 36

# `multiprocessing` keeps these two until its own process ends.
KEPT_BY_MULTIPROCESSING = (b"multiprocessing.forkserver", b"multiprocessing.resource_tracker")


def adopt_orphans() -> None:
    """Make this process the parent of every descendant whose own parent ends."""
    if IS_LINUX:
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def children(pid: int) -> Iterator[int]:
    for tasks in Path(f"/proc/{pid}/task").glob("*/children"):
        # A process or thread may end while it is looked at.
        with contextlib.suppress(OSError):
            yield from map(int, tasks.read_text().split())


def command(pid: int) -> bytes:
    """Empty for a process that has ended, zombies included."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").strip()
    except OSError:
        return b""


def running() -> Iterator[int]:
    """All running descendants of this process but `multiprocessing`'s own."""
    pending = []
    for child in children(os.getpid()) if IS_LINUX else ():
        if any(name in command(child) for name in KEPT_BY_MULTIPROCESSING):
            pending += children(child)
        else:
            pending.append(child)
    while pending:
        pid = pending.pop()
        if command(pid):
            yield pid
            pending += children(pid)


def left_behind(grace_s: float = 10.0) -> list[int]:
    """Descendants that still run after the grace period."""
    until = time.monotonic() + grace_s
    while (left := list(running())) and time.monotonic() < until:
        time.sleep(0.05)
    return left


def kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
