"""The viewer in a process of its own, as users run it."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

CODE = "import sys; from vecrollout.viewer import serve; serve(sys.argv[1], open_browser=False)"
SERVE = (sys.executable, "-W", "error", "-c", CODE)


@contextmanager
def served(directory: Path, command: Sequence[str] = SERVE) -> Iterator[str]:
    """The URL of a viewer, which is ended by Ctrl-C and has to end well."""
    with subprocess.Popen(
        [*command, str(directory)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            assert line, process.communicate()[1]
            yield line.split()[0]
        finally:
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (0, "")
