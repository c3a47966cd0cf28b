"""How a command ends: exit codes, and errors as one line."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup

from vecrollout import errors
from vecrollout.cli.terminal import note

FAILED = 1
"""The command failed, or found damage or a difference."""
MISUSED = 2
"""The command cannot be run with these arguments."""
INTERRUPTED = 130
"""Ctrl-C."""

_MISUSES = (
    errors.ArgumentTypeError,
    errors.MissingDependencyError,
    errors.OptionError,
    errors.PolicyError,
    errors.ShapeError,
    errors.SpaceMismatchError,
    errors.TraceNotFoundError,
    errors.TraceVersionError,
)


class Commands(TyperGroup):
    """Commands whose errors are one line on standard error. Only errors that nobody foresaw have a traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command.

        Raises:
            typer.Exit: With the exit code, if the command fails.
        """
        try:
            return super().invoke(ctx)
        except errors.VecrolloutError as error:
            note(f"vecrollout: error: {' '.join(str(error).split())}")
            raise typer.Exit(MISUSED if isinstance(error, _MISUSES) else FAILED) from error
        except KeyboardInterrupt as error:
            note("vecrollout: interrupted")
            raise typer.Exit(INTERRUPTED) from error
