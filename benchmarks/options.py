"""What a run of the benchmarks was asked for."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.baseline import Baseline

_QUICK = 50
"""A quick run does one part in this many."""


@dataclass(frozen=True)
class Options:
    """The command line."""

    runs: int
    """Interleaved runs that count."""
    workloads: tuple[str, ...]
    """Names of the workloads to record."""
    is_quick: bool
    """Whether to check that everything runs, in seconds and with meaningless figures."""
    baseline: Baseline | None
    """The package as it was before, if its source was given."""

    def scaled(self, count: int, least: int = 10) -> int:
        """A number of steps or episodes; a fraction of it in a quick run."""
        return scaled(count, self.is_quick, least)


def scaled(count: int, is_quick: bool, least: int = 10) -> int:
    """As `Options.scaled`, for functions that a process of its own runs."""
    return max(least, count // _QUICK) if is_quick else count
