"""A progress bar on the terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from importlib.util import find_spec
from typing import Literal, TypeAlias, TypeVar

from vecrollout.errors import MissingDependencyError, OptionError

Progress: TypeAlias = bool | Literal["tqdm", "rich"]
"""Whether to show a progress bar, and whose; True is tqdm's."""

Show: TypeAlias = Callable[[int, str], None]
"""Moves the bar: to how many of the unit, and with which note beside it."""


T = TypeVar("T")

_SHORT_S = 1.0
"""What takes no longer shows no bar."""


def with_progress(
    items: Iterable[T], size: Callable[[T], int], progress: Progress | None, unit: str, total: int | None
) -> Iterator[T]:
    """The items, with a bar that shows how much of the total is done; None: the bar of a package that is installed."""
    if progress is None:
        progress = "rich" if find_spec("rich") else find_spec("tqdm") is not None
    _check(progress)
    begin, done = time.monotonic(), 0
    show: Show | None = None
    with ExitStack() as stack:
        for item in items:
            yield item
            done += size(item)
            if show is None and time.monotonic() - begin > _SHORT_S:
                show = stack.enter_context(progress_bar(progress, unit, total))
            if show is not None:
                show(done, "")


def progress_bar(progress: Progress, unit: str, total: int | None) -> AbstractContextManager[Show]:
    """A bar on standard error, where that is a terminal; its context manager gives a function that moves it."""
    _check(progress)
    # There is no standard error where Python runs without a console.
    if progress is False or sys.stderr is None or not sys.stderr.isatty():
        return nullcontext(_show_nothing)
    return (_rich_bar if progress == "rich" else _tqdm_bar)(unit, total)


def check_live_line() -> None:
    """Refuse a live line whose package is missing, also where it would not be shown."""
    _require("rich")


@contextmanager
def live_line(text: Callable[[], str]) -> Iterator[None]:
    """A line on standard error, where that is a terminal, which a thread brings up to date; it vanishes at the end."""
    check_live_line()
    if sys.stderr is None or not sys.stderr.isatty():
        yield
        return
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    def line() -> Text:
        return Text(text(), overflow="ellipsis", no_wrap=True)

    with Live(get_renderable=line, console=Console(file=sys.stderr), refresh_per_second=4, transient=True):
        yield


def _show_nothing(done: int, note: str) -> None:
    """No bar."""


def _check(progress: Progress) -> None:
    """Refuse an unknown bar, and one whose package is missing, before any work."""
    if progress is False:
        return
    if progress not in (True, "tqdm", "rich"):
        raise OptionError(f'progress: expected True, False, "tqdm" or "rich", got {progress!r}')
    _require("rich" if progress == "rich" else "tqdm")


def _require(package: Literal["tqdm", "rich"]) -> None:
    """Say how to get a bar's package, also where the bar would not be shown."""
    try:
        __import__(package)
    except ImportError as error:
        extra = {"tqdm": "progress", "rich": "rich"}[package]
        raise MissingDependencyError(
            f'progress: a bar of {package} needs that package: pip install "vecrollout[{extra}]"'
        ) from error


@contextmanager
def _tqdm_bar(unit: str, total: int | None) -> Iterator[Show]:
    from tqdm import tqdm

    with tqdm(total=total, unit=f" {unit}", file=sys.stderr) as bar:

        def show(done: int, note: str) -> None:
            bar.set_postfix_str(note, refresh=False)
            bar.update((done if total is None else min(done, total)) - bar.n)

        yield show


@contextmanager
def _rich_bar(unit: str, total: int | None) -> Iterator[Show]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    note = TextColumn("{task.fields[note]}")
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn(unit), TimeElapsedColumn(), note)
    with Progress(*columns, console=Console(file=sys.stderr)) as bar:
        task = bar.add_task("", total=total, note="")

        def show(done: int, note: str) -> None:
            bar.update(task, completed=done if total is None else min(done, total), note=note)

        yield show
