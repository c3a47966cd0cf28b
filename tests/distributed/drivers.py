"""Programs that use a cluster, in processes of their own."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any

LIMIT_S = 240


def environment(cluster: Any, **variables: str) -> dict[str, str]:
    """The environment of a program that uses a cluster; None: one that starts Ray by itself."""
    others = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    # Programs of several tests must not see each other's tokens.
    return {**others, **({} if cluster is None else {"RAY_ADDRESS": cluster.address}), **variables}


def start(
    command: list[Any], directory: Path, variables: dict[str, str], through: Sequence[str] = (), stderr: int = PIPE
) -> Popen[str]:
    """Start Python with some arguments, in a group of processes of its own, by another command if one is given."""
    return Popen(
        [*through, sys.executable, *map(str, command)],
        cwd=directory,
        env=variables,
        stdin=PIPE,
        stdout=PIPE,
        stderr=stderr,
        encoding="utf-8",
        start_new_session=True,
    )
