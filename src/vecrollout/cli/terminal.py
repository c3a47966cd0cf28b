"""What the commands print: results on standard output, everything else on standard error."""

from __future__ import annotations

import json
import math
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

_SHORT_S = 1.0
_PIPED_WIDTH = 10_000  # a table in a pipe is not cut


def console(*, stderr: bool = False) -> Console:
    """A console for what is standard output or standard error now."""
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else _PIPED_WIDTH
    return Console(file=stream, width=width, markup=False, highlight=False, emoji=False)


def printable(value: Any) -> str:
    """A value as one line of text that cannot control a terminal."""
    text = "" if value is None else str(value)
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)


def say(text: str) -> None:
    """Print a line of a result."""
    console().print(Text(printable(text)), soft_wrap=True)


def note(text: str) -> None:
    """Print a line that is not part of the result."""
    console(stderr=True).print(Text(printable(text)), soft_wrap=True)


def show_warning(message: Warning | str, category: type[Warning], *place: Any, **others: Any) -> None:
    """Print a warning as one line, without the line of code that it comes from."""
    note(f"vecrollout: warning: {' '.join(str(message).split())}")


def say_json(value: Any) -> None:
    """Print a value as JSON."""
    sys.stdout.write(json.dumps(_jsonable(value), indent=2, allow_nan=False) + "\n")


def _jsonable(value: Any) -> Any:
    """A value in JSON's types; NaN and infinities are null, as in most readers."""
    if isinstance(value, Mapping):
        return {str(key): _jsonable(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(each) for each in value]
    if isinstance(value, np.ndarray | np.generic):
        return _jsonable(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, int | str | None) else str(value)


def say_facts(facts: Mapping[str, Any], width: int = 0) -> None:
    """Print names and values, one pair a line; names fill so many columns, or as many as the longest needs."""
    width = max(width, *map(len, facts))
    for name, value in facts.items():
        say(f"{name:<{width}}  {printable(value)}")


def say_table(names: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print a table; numbers are aligned to the right."""
    listed = [list(row) for row in rows]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for at, name in enumerate(names):
        is_number = all(isinstance(row[at], int | float | None) and not isinstance(row[at], bool) for row in listed)
        table.add_column(Text(printable(name)), justify="right" if is_number else "left", overflow="fold")
    for row in listed:
        table.add_row(*(Text(printable(number(each))) for each in row))
    console().print(table)


def number(value: Any) -> Any:
    """A float with six digits, and other values as they are."""
    return f"{value:.6g}" if isinstance(value, float) else value


@contextmanager
def busy(text: str) -> Iterator[None]:
    """Show a spinner on a terminal while something takes longer than a second."""
    terminal = console(stderr=True)
    if not terminal.is_terminal:
        yield
        return
    status = terminal.status(text)
    timer = threading.Timer(_SHORT_S, status.start)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
        status.stop()
