"""How long `import vecrollout` takes."""

from __future__ import annotations

import subprocess
import sys

from benchmarks.options import Options
from benchmarks.report import Table, at_most, number

_AIM_S = 0.3
_PROGRAM = "import time; start = time.perf_counter(); import {}; print(time.perf_counter() - start)"


def import_table(options: Options) -> Table:
    """Seconds of an import in a new interpreter, whose own start is not counted."""
    runs = options.runs
    rows = [
        ("vecrollout", at_most(_seconds("vecrollout", runs), _AIM_S)),
        ("numpy", number(_seconds("numpy", runs))),
        ("imitation.data.wrappers", number(_seconds("imitation.data.wrappers", runs))),
    ]
    return Table("Import", ("", "seconds"), rows, "Wall time of the import, with the aim.")


def _seconds(module: str, runs: int) -> float | None:
    command = [sys.executable, "-c", _PROGRAM.format(module)]
    children = [subprocess.run(command, capture_output=True, text=True) for _ in range(runs + 1)]
    if any(child.returncode for child in children):
        return None
    return min(float(child.stdout) for child in children[1:])
