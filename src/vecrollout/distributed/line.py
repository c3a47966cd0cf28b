"""The line on a terminal that shows how far a collection is."""

from __future__ import annotations

from contextlib import AbstractContextManager
from time import monotonic

from vecrollout.data.sizes import size_text
from vecrollout.distributed.order import Progressed
from vecrollout.progress import live_line
from vecrollout.storage.files.usage import DiskUsage

_RECENT = 100
"""The number of episodes of which the mean return is shown."""


def line(
    workers: int, progressed: Progressed, stored: DiskUsage, steps: int | None = None, episodes: int | None = None
) -> AbstractContextManager[None]:
    """Show workers, steps, episodes, returns, restarts and bytes, and how many steps or episodes there are to be."""
    begin = monotonic()

    def text() -> str:
        rate = progressed.steps / max(monotonic() - begin, 1e-9)
        recent = progressed.returns[-_RECENT:]
        parts = [
            f"{workers} workers",
            _of(progressed.steps, steps, "steps"),
            f"{rate:,.0f} a second",
            _of(progressed.episodes, episodes, "episodes"),
            f"mean return {sum(recent) / len(recent):,.2f}" if recent else "no return yet",
            f"{progressed.restarts} restarts",
        ]
        size = stored.bytes()
        if size is not None:
            parts.append(size_text(size))
        return " · ".join(parts)

    return live_line(text)


def _of(done: int, total: int | None, unit: str) -> str:
    return f"{done:,} {unit}" if total is None else f"{done:,} of {total:,} {unit}"
