"""The command `vecrollout`."""

from __future__ import annotations

import sys
import warnings

EXTRA = 'the command line needs typer and rich: pip install "vecrollout[cli]"'


def main() -> None:
    """Run the command `vecrollout` with the arguments of this process, and end the process with its exit code."""
    try:
        import rich
        import typer
    except ImportError as error:
        sys.stderr.write(f"vecrollout: error: {EXTRA} ({error})\n")
        sys.exit(2)
    del rich, typer
    from vecrollout.cli.app import app
    from vecrollout.cli.terminal import show_warning

    warnings.showwarning = show_warning
    app(prog_name="vecrollout")
