"""`vecrollout plot`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vecrollout import plots
from vecrollout.cli.look import opened
from vecrollout.cli.options import Episodes, Trace, Where, examples
from vecrollout.cli.selecting import chosen
from vecrollout.cli.terminal import busy, say
from vecrollout.errors import OptionError, TraceWriteError


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        epilog=examples(
            "vecrollout plot cartpole --out cartpole.png", "vecrollout plot cartpole returns --out returns.svg"
        )
    )(plot)


def plot(
    path: Trace,
    kinds: Annotated[
        list[str] | None, typer.Argument(metavar="PLOT...", help=f"Some of {', '.join(plots.PLOTS)}. Default: all.")
    ] = None,
    out: Annotated[
        str, typer.Option("--out", "-o", metavar="FILE", help="The picture: .png, .svg, .pdf and others.")
    ] = "plot.png",
    where: Where = None,
    episodes: Episodes = None,
) -> None:
    """Draw returns and lengths over the recording, and the distributions of rewards and actions."""
    with busy("Drawing"):
        traces = chosen(opened(path), where, episodes)
        if not len(traces):
            raise OptionError(f"{path}: expected at least one trajectory, got none; there is nothing to draw")
        try:
            plots.overview(traces, Path(out).expanduser(), plots=kinds or plots.PLOTS)
        except OSError as error:
            raise TraceWriteError(f"{out}: the picture could not be written: {error}") from error
    say(f"written: {out}")
