"""`vecrollout merge`, `split`, `filter` and `delete`."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from vecrollout.cli.look import check_is_trace, opened
from vecrollout.cli.options import Episodes, Trace, Where, examples, named_values
from vecrollout.cli.selecting import chosen
from vecrollout.cli.terminal import busy, say
from vecrollout.errors import OptionError, TraceWriteError
from vecrollout.storage.dataset import TraceDataset, open_traces
from vecrollout.storage.files.folder import folder_of
from vecrollout.storage.files.names import is_of_trace
from vecrollout.storage.files.whole import sync_directory, temporary_path
from vecrollout.storage.reading.repair import refuse_beside_writers

Out = Annotated[str, typer.Option("--out", "-o", metavar="DIR", help="A new or empty directory, or a URL.")]


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(epilog=examples("vecrollout merge monday tuesday --out both"))(merge)
    app.command(epilog=examples("vecrollout split cartpole train=0.9 val=0.1 --out parts"))(split)
    app.command(
        "filter",
        epilog=examples(
            'vecrollout filter cartpole "return_ > 100 and length < 500" --out good',
            "vecrollout filter cartpole --episodes 1,5,9-12 --out chosen",
            "vecrollout filter cartpole 'ended_by == \"truncated\" and env in [0, 2]' --out some",
        ),
    )(filter_)
    app.command(
        epilog=examples(
            "vecrollout delete cartpole --episodes 3,5", 'vecrollout delete cartpole --where "return_ < 20" --out rest'
        )
    )(delete)


def merge(paths: Annotated[list[str], typer.Argument(metavar="DIR...", help="Traces.")], out: Out) -> None:
    """Write several traces as one new trace. Many small files become few large ones."""
    for path in paths:
        check_is_trace(path)
    with busy("Opening"):
        traces = open_traces(paths)
    _write(traces, out)


def split(
    path: Trace,
    parts: Annotated[list[str], typer.Argument(metavar="NAME=FRACTION...", help="Parts; the fractions add up to 1.")],
    out: Annotated[str, typer.Option("--out", "-o", metavar="DIR", help="Where the parts go, each to DIR/NAME.")],
    seed: Annotated[int, typer.Option(min=0, help="Seed of the draw.")] = 0,
) -> None:
    """Divide whole episodes at random, each part into a new trace."""
    fractions = named_values("parts", parts)
    if len(fractions) < len(parts):
        raise OptionError(f"parts: expected each name once, got {', '.join(parts)}")
    for name in fractions:
        if Path(name).name != name:
            raise OptionError(f"parts: expected names of directories, got {name!r}")
    with busy("Reading the table of episodes"):
        views = opened(path).split(fractions, np.random.default_rng(seed))
    for name, view in views.items():
        _write(view, f"{out.rstrip('/')}/{name}")


def filter_(
    path: Trace,
    out: Out,
    condition: Annotated[
        str | None, typer.Argument(metavar="CONDITION", help='Such as "return_ > 100 and length < 500".')
    ] = None,
    episodes: Episodes = None,
) -> None:
    """Write the episodes that fulfill a condition, or have one of the numbers, as a new trace.

    A condition compares the columns that `ls --json` shows with numbers and text, by and, or, not, in and arithmetic.
    Write column("any name") for a column whose name is no word.
    """
    if condition is None and episodes is None:
        raise OptionError("filter: expected a condition or --episodes, got neither")
    with busy("Reading the table of episodes"):
        view = chosen(opened(path), condition, episodes)
    _write(view, out)


def delete(
    path: Trace,
    where: Where = None,
    episodes: Episodes = None,
    out: Annotated[
        str | None, typer.Option("--out", "-o", metavar="DIR", help="Write the rest here, and change nothing.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete the episodes that fulfill a condition or have one of the numbers.

    Without --out, the trace is written anew without them, and then takes the old one's place.
    """
    if where is None and episodes is None:
        raise OptionError("delete: expected --where or --episodes, got neither")
    with busy("Reading the table of episodes"):
        traces = opened(path)
        going = np.zeros(len(traces), bool)
        going[chosen(traces, where, episodes).order.positions()] = True
    rest = traces[~going]
    if out is not None:
        _write(rest, out)
        return
    directory = _replaceable(path)
    if not going.any():
        say("no episode fulfills this; nothing is deleted")
        return
    if not yes and not typer.confirm(f"Delete {going.sum():,} of {len(traces):,} trajectories in {path}?", err=True):
        raise typer.Exit(1)
    _replace(directory, rest)
    say(f"{directory}: {going.sum():,} trajectories deleted, {len(rest):,} left")


def _write(view: Any, out: str) -> None:
    written = view.write(out)
    say(f"{out}: {len(written):,} trajectories, {written.total_steps:,} steps")


def _replaceable(path: str) -> Path:
    """A local directory that holds nothing but a trace to which nobody writes."""
    folder = folder_of(path)
    if not isinstance(folder.path, Path):
        raise OptionError(f"{path}: expected a local directory; pass --out to write the rest to another place")
    others = [name for name in os.listdir(folder.path) if not is_of_trace(name)]
    if others:
        raise OptionError(f"{path}: expected files of the trace only, got {others[0]!r}; pass --out, or move it away")
    refuse_beside_writers(folder)
    return folder.path


def _replace(directory: Path, rest: TraceDataset) -> None:
    """Put a new trace in the place of the one that it is made of."""
    new, old = temporary_path(directory), temporary_path(directory)
    try:
        rest.write(new)
        directory.rename(old)
        try:
            new.rename(directory)
        except OSError:
            old.rename(directory)
            raise
        sync_directory(directory.parent)
    except OSError as error:
        raise TraceWriteError(f"{directory}: could not be replaced, and is as it was: {error}") from error
    finally:
        shutil.rmtree(new, ignore_errors=True)
    shutil.rmtree(old)
