"""Options that several commands have in common."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Annotated, Any

import typer

from vecrollout.errors import OptionError

Trace = Annotated[
    str, typer.Argument(metavar="DIR", help="A directory of traces, or the URL of one in an object store.")
]
Where = Annotated[
    str | None,
    typer.Option(
        "--where",
        metavar="CONDITION",
        help='Only episodes that fulfill this condition, such as "return_ > 100 and length < 500".',
    ),
]
Episodes = Annotated[
    str | None,
    typer.Option(
        "--episodes", metavar="NUMBERS", help="Only these numbers, as `ls` shows them: 1,5,9-12 (12 included)."
    ),
]


def _environments(incomplete: str) -> list[str]:
    import gymnasium

    return sorted(name for name in gymnasium.registry if name.startswith(incomplete))


EnvId = Annotated[
    str,
    typer.Argument(metavar="ENV_ID", help="Id of a Gymnasium environment, or MODULE:ID.", autocompletion=_environments),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def examples(*lines: str) -> str:
    """Examples as they stand below a command's help."""
    # A paragraph of its own for each, as lines of one are joined.
    return "\n\n".join(["Examples:", *(f"  $ {line}" for line in lines)])


def named_values(option: str, given: Iterable[str]) -> dict[str, Any]:
    """Values such as `continuous=false` by name; a value that is no JSON is text."""
    values: dict[str, Any] = {}
    for each in given:
        name, equals, text = each.partition("=")
        if not name or not equals:
            raise OptionError(f"{option}: expected NAME=VALUE, got {each!r}")
        try:
            values[name] = json.loads(text)
        except ValueError:
            values[name] = text
    return values
