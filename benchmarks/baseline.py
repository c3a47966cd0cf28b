"""The package as it was before its core was rebuilt: a process of its own that runs the same benchmarks on that source.

    git worktree add ../before 17f2fdd
    python -m benchmarks --baseline ../before/src

Without `--baseline` the figures of that commit stand in, as its `benchmarks/README.md` has them.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.timing import Phases, keep_memory

COMMIT = "17f2fdd"

POP_TRAJECTORIES_NS = {
    "cp8": 64.1,
    "cp64": 64.8,
    "cp1024": 86.4,
    "mj64": 69.4,
    "at8": 142.0,
    "at64": 78.1,
    "dict8": 151.0,
}
"""Nanoseconds a transition of `pop_trajectories`."""

SCAN_US = {
    ("Atari", "zstd"): 5362,
    ("CartPole, 200 steps", "zstd"): 32.9,
    ("CartPole, 22 steps", "zstd"): 14.3,
    ("Atari", None): 3092,
    ("CartPole, 200 steps", None): 17.9,
    ("CartPole, 22 steps", None): 12.4,
}
"""Microseconds an episode of a scan that makes trajectories, by data and compression."""

READ_US = {
    ("Atari", "zstd"): 4788,
    ("CartPole, 200 steps", "zstd"): 807,
    ("CartPole, 22 steps", "zstd"): 848,
    ("Atari", None): 2322,
    ("CartPole, 200 steps", None): 206,
    ("CartPole, 22 steps", None): 210,
}
"""Microseconds of a random episode. Reading it again cost as much: the cache held four batches."""

PEAK_MEMORY = {"cp64": (2.28, 3.06, 4.89), "at8": (1.02, 1.02, 3.02), "at64": (1.19, 1.19, 3.16)}
"""Peak memory over raw data: recorded, then popped as trajectories, then as transitions."""


class Baseline:
    """Another checkout's source, run by a child process that answers one request a line."""

    def __init__(self, source: Path) -> None:
        self.environment = {**os.environ, "PYTHONPATH": str(source.resolve())}
        """Environment variables of a process that imports this source."""
        self._child = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.baseline"],
            env=self.environment,
            cwd=Path(__file__).parents[1],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        imported = Path(self._answer())
        if source.resolve() not in imported.parents:
            self.close()
            sys.exit(f"--baseline: expected a folder that holds the package vecrollout, got {source}")

    def contender(self, function: Callable[..., Phases], *arguments: Any) -> Callable[[], Phases]:
        """A module's function with plain arguments, as something that `fastest` can call in turn."""
        request = json.dumps([function.__module__, function.__qualname__, arguments])

        def once() -> Phases:
            self._pipe("stdin").write(request + "\n")
            self._pipe("stdin").flush()
            phases: Phases = json.loads(self._answer())
            return phases

        return once

    def close(self) -> None:
        """End the child process."""
        self._pipe("stdin").close()
        self._child.wait()

    def _answer(self) -> str:
        line: str = self._pipe("stdout").readline()
        if not line:
            sys.exit("--baseline: the process that measures the earlier version has ended; see its message above")
        return line.strip()

    def _pipe(self, name: str) -> Any:
        return getattr(self._child, name)


def _serve() -> None:
    import vecrollout

    # Whatever else is printed goes to the error stream, so that it cannot get between the answers.
    with os.fdopen(os.dup(sys.stdout.fileno()), "w") as answers:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        print(vecrollout.__file__, file=answers, flush=True)
        keep_memory(0)
        for line in sys.stdin:
            module, name, arguments = json.loads(line)
            function = getattr(importlib.import_module(module), name)
            gc.collect()
            gc.freeze()
            print(json.dumps(function(*arguments)), file=answers, flush=True)


if __name__ == "__main__":
    _serve()
