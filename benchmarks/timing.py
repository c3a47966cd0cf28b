"""Timing that survives a noisy machine: everything in one process, in turns, and the minimum counts.

What is timed is processor time, of all threads and of the system on the process's behalf. No contender waits for
anything, so on a quiet machine this is the wall time; on a busy one it leaves out what other processes take.
"""

from __future__ import annotations

import ctypes
import gc
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import numpy as np

Phases = dict[str, float]
"""Seconds by phase of a run, such as recording and popping."""


class Stopwatch:
    """Collects the seconds of named phases."""

    def __init__(self) -> None:
        """Start with no phase."""
        self.phases: Phases = {}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time the body of the `with` statement under `name`."""
        start = time.process_time()
        yield
        self.phases[name] = time.process_time() - start


def fastest(contenders: Mapping[str, Callable[[], Phases]], runs: int) -> dict[str, Phases]:
    """Run the contenders in turns.

    Each round starts with another contender, so that no one always comes after the same other. One round ahead is not
    counted: it loads modules.

    Args:
        contenders: For each name a function that does one run and returns the seconds of its phases.
        runs: Rounds that count, at least 1.

    Returns:
        For each name the least seconds of each phase.
    """
    names = list(contenders)
    best: dict[str, Phases] = {}
    for round_index in range(runs + 1):
        start = round_index % len(names)
        for name in names[start:] + names[:start]:
            gc.collect()
            phases = contenders[name]()
            if round_index == 0:
                continue
            kept = best.setdefault(name, dict(phases))
            for phase, seconds in phases.items():
                kept[phase] = min(kept[phase], seconds)
    return {name: best[name] for name in names}


def keep_memory(size_bytes: int) -> None:
    """Take memory from the system now, and give none back.

    The system clears memory page by page on first use, which costs more than the copy that follows, and a virtual
    machine's host costs much more again. Whether a contender pays for that would depend on who ran before it.

    Args:
        size_bytes: Memory to take; what is needed beyond that is kept, too.
    """
    if platform.libc_ver()[0] == "glibc":
        allocator = ctypes.CDLL(None)
        allocator.mallopt(_M_MMAP_MAX, 0)
        allocator.mallopt(_M_TRIM_THRESHOLD, -1)
    touch_memory(size_bytes)


def touch_memory(size_bytes: int) -> None:
    """Have a virtual machine's host back this much memory; it takes that back when it has not been used for a while."""
    np.ones(size_bytes, np.uint8)


# From malloc.h.
_M_TRIM_THRESHOLD = -1
_M_MMAP_MAX = -4


@contextmanager
def ignored_by_gc() -> Iterator[None]:
    """Keep what exists now out of garbage collections: the script's many objects are no recorder's doing."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
