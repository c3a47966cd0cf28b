"""The line on a terminal that shows how far a collection is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic

from vecrollout.distributed.order import Progressed
from vecrollout.progress import Progress, progress_bar

_RECENT = 100
"""The number of episodes of which the mean return is shown."""


@contextmanager
def line(
    progress: Progress, workers: int, unit: str, total: int | None, progressed: Progressed
) -> Iterator[Callable[[], None]]:
    """The line; its context manager gives a function that brings it up to date."""
    begin = monotonic()
    with progress_bar(progress, unit, total) as show:

        def show_progressed() -> None:
            rate = progressed.steps / max(monotonic() - begin, 1e-9)
            recent = progressed.returns[-_RECENT:]
            note = (
                f"{workers} workers, {rate:,.0f} steps/s, {progressed.episodes:,} episodes, mean return "
                f"{sum(recent) / max(len(recent), 1):,.4g}, {progressed.restarts} restarts"
            )
            show(progressed.episodes if unit == "episodes" else progressed.steps, note)

        yield show_progressed
