"""Tables in Markdown, aims beside figures, and the machine they were measured on."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_PACKAGES = (
    *("vecrollout", "numpy", "gymnasium", "stable-baselines3", "imitation", "cpprb", "torch"),
    *("pyarrow", "minari", "optree", "torchrl", "datasets", "ray"),
)
_MISSING = "-"


@dataclass(frozen=True)
class Table:
    """One table of the report."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""

    def markdown(self) -> str:
        """The table as Markdown, its columns aligned for reading as plain text too."""
        cells = [list(self.columns), *map(list, self.rows)]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        header, *body = (" | ".join(map(str.ljust, row, widths)) for row in cells)
        rule = " | ".join("-" * width for width in widths)
        table = "\n".join(f"| {line} |" for line in (header, rule, *body))
        return "\n\n".join(part for part in (f"## {self.title}", self.note, table) if part)


def number(value: float | None) -> str:
    """A figure with as many digits as mean something."""
    if value is None:
        return _MISSING
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:.{digits}f}"


def ratio(numerator: float | None, denominator: float | None) -> float | None:
    """A quotient; None where either figure is missing."""
    return numerator / denominator if numerator is not None and denominator else None


def at_least(measured: float | None, aim: float | None, limit: float | None = None) -> str:
    """A figure beside the aim that it has to reach; the machine's limit takes the aim's place where it is lower."""
    if measured is None or aim is None:
        return number(measured)
    is_limited = limit is not None and limit < aim
    bound = limit if limit is not None and is_limited else aim
    return _beside(measured, "≥", bound, is_limited, measured >= bound)


def at_most(measured: float | None, aim: float | None, limit: float | None = None) -> str:
    """A figure beside the aim that it must not exceed; the machine's limit takes the aim's place where it is higher."""
    if measured is None or aim is None:
        return number(measured)
    is_limited = limit is not None and limit > aim
    bound = limit if limit is not None and is_limited else aim
    return _beside(measured, "≤", bound, is_limited, measured <= bound)


def _beside(measured: float, sign: str, bound: float, is_limited: bool, is_met: bool) -> str:
    aim = f"{sign} {number(bound)}, the limit" if is_limited else f"{sign} {bound:.3g}"
    return f"{number(measured)} ({aim}{'' if is_met else ', missed'})"


def machine() -> str:
    """The machine and the versions, as lines of Markdown."""
    lines = [
        f"- {_processor()}, {os.cpu_count()} cores, {_memory_gib():.0f} GiB, {platform.system()}",
        f"- Python {platform.python_version()}, " + ", ".join(f"{name} {_version(name)}" for name in _PACKAGES),
    ]
    return "\n".join(lines)


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _memory_gib() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
