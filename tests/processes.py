"""Processes of tests: starts them, ends them, and finds those that are left behind (on Linux)."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

IS_LINUX = sys.platform.startswith("linux")

# From <linux/prctl.h>.
PR_SET_CHILD_SUBREAPER = 36

# `multiprocessing` keeps these two until its own process ends.
KEPT_BY_MULTIPROCESSING = (b"multiprocessing.forkserver", b"multiprocessing.resource_tracker")


@contextlib.contextmanager
def process(code: str, directory: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    """A Python process of some code, with a directory as its argument; it does not outlive the block."""
    child = subprocess.Popen(
        [sys.executable, *options, "-c", code, str(directory)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    try:
        yield child
    finally:
        child.kill()
        child.communicate()


def terminated(child: subprocess.Popen[str], after_s: float) -> tuple[int, str]:
    """Exit status and standard error of a process that gets SIGTERM a while after it says that it is ready."""
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n", child.communicate()[1]
    time.sleep(after_s)
    child.terminate()
    _, stderr = child.communicate(timeout=120)
    return child.returncode, stderr


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
