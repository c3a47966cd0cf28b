"""Timing that survives a noisy machine: everything in one process, in turns, and the minimum counts.

What is timed is processor time, of all threads and of the system on the process's behalf. No contender waits for
anything, so on a quiet machine this is the wall time; on a busy one it leaves out what other processes take.
"""

from __future__ import annotations

import gc
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
    counted: it touches memory and loads modules.

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


def touch_memory(size_bytes: int) -> None:
    """Make the machine back this much memory with pages.

    A virtual machine's memory costs far more on its very first use than ever after, and whoever came first would pay.
    """
    np.ones(size_bytes, np.uint8)


@contextmanager
def ignored_by_gc() -> Iterator[None]:
    """Keep what exists now out of garbage collections: the script's many objects are no recorder's doing."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
