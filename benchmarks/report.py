"""Tables in Markdown, and the machine they hold for."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_PACKAGES = (
    *("vecrollout", "numpy", "gymnasium", "stable-baselines3", "imitation", "cpprb", "torch"),
    *("pyarrow", "minari", "datasets"),
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
        """Return the table as Markdown, its columns aligned for reading as plain text too."""
        cells = [list(self.columns), *map(list, self.rows)]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        header, *body = (" | ".join(map(str.ljust, row, widths)) for row in cells)
        rule = " | ".join("-" * width for width in widths)
        table = "\n".join(f"| {line} |" for line in (header, rule, *body))
        return "\n\n".join(part for part in (f"## {self.title}", self.note, table) if part)


def number(value: float | None, unit: str = "") -> str:
    """Write a figure with as many digits as mean something."""
    if value is None:
        return _MISSING
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:.{digits}f}{unit}"


def at_least(measured: float | None, aim: float | None) -> str:
    """Write a measured ratio beside the aim it has to reach."""
    return _beside(measured, aim, "≥", measured is not None and aim is not None and measured >= aim)


def at_most(measured: float | None, aim: float | None) -> str:
    """Write a measured figure beside the aim it has to stay under."""
    return _beside(measured, aim, "≤", measured is not None and aim is not None and measured <= aim)


def _beside(measured: float | None, aim: float | None, sign: str, met: bool) -> str:
    if measured is None or aim is None:
        return number(measured)
    return f"{number(measured)} ({sign} {aim:g}{'' if met else ', missed'})"


def machine() -> str:
    """Return the machine and the versions in a few lines of Markdown."""
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
