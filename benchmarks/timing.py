"""Timing that survives a noisy machine: everything in one process, in turns, and the minimum counts."""

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
    """Collects the seconds of named phases.

    Processor time counts all threads, and the system on their behalf. On a quiet machine that is the wall time of code
    that waits for nothing; on a busy one it leaves out what other processes take.
    """

    def __init__(self, clock: Callable[[], float] = time.process_time) -> None:
        self.phases: Phases = {}
        self._clock = clock

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time the body of the `with` statement under `name`."""
        start = self._clock()
        yield
        self.phases[name] = self._clock() - start


def fastest(contenders: Mapping[str, Callable[[], Phases]], runs: int) -> dict[str, Phases]:
    """The least seconds of each phase of each contender.

    Contenders take turns. Each round starts with another one, so that nobody always comes after the same other. A
    first round, which loads modules, does not count.
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
    machine's host costs much more again. Who pays for that would depend on who ran before.
    """
    if platform.libc_ver()[0] == "glibc":
        allocator = ctypes.CDLL(None)
        allocator.mallopt(_M_MMAP_MAX, 0)
        allocator.mallopt(_M_TRIM_THRESHOLD, -1)
    np.ones(size_bytes, np.uint8)


# From malloc.h.
_M_TRIM_THRESHOLD = -1
_M_MMAP_MAX = -4


@contextmanager
def ignored_by_gc() -> Iterator[None]:
    """Keep what exists now out of garbage collections: a script's many objects are no recorder's doing."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
