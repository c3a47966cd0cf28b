"""`vecrollout view` and `report`."""

from __future__ import annotations

from typing import Annotated

import typer

from vecrollout.cli.look import check_is_trace
from vecrollout.cli.options import Trace, examples
from vecrollout.cli.terminal import busy, say


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(epilog=examples("vecrollout view cartpole"))(view)
    app.command(epilog=examples("vecrollout report cartpole --out report.html"))(report)


def view(
    path: Trace,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of 127.0.0.1; 0: a free one.")] = 0,
    open_browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Whether to open a browser.")] = True,
) -> None:
    """Show a trace in the browser. Only this machine can reach the page. Ctrl-C ends it."""
    check_is_trace(path)
    from vecrollout.viewer import serve

    serve(path, port=port, open_browser=open_browser)


def report(path: Trace, out: Annotated[str, typer.Option("--out", "-o", metavar="FILE", help="An HTML file.")]) -> None:
    """Write a page about a trace, one HTML file that needs no network."""
    check_is_trace(path)
    from vecrollout.report import write_report

    with busy("Writing the report"):
        write_report(path, out)
    say(f"written: {out}")
