"""All commands."""

from __future__ import annotations

from typing import Annotated

import typer

from vecrollout._version import __version__
from vecrollout.cli import browse, convert, look, mend, pictures, record, replay, rewrite, video
from vecrollout.cli.outcomes import Commands
from vecrollout.cli.terminal import say

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done; 1 failed, or found damage or a difference; 2 wrong arguments; 130 interrupted.",
)


def _show_version(asked: bool) -> None:
    if asked:
        say(f"vecrollout {__version__}")
        raise typer.Exit


@app.callback()
def vecrollout(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Record rollouts of reinforcement-learning environments, and work with the recordings."""


for family in (record, look, rewrite, mend, convert, replay, pictures, video, browse):
    family.add_to(app)
