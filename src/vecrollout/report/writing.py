"""Writing a report to a file."""

from __future__ import annotations

import os
from pathlib import Path

from vecrollout.data.checks import local_path
from vecrollout.errors import OptionError
from vecrollout.report.overview import columns_of, overview
from vecrollout.report.page import page
from vecrollout.storage.dataset import open_traces
from vecrollout.storage.files.whole import write_whole
from vecrollout.storage.reading.reader import Paths


def write_report(path: Paths, output: str | os.PathLike[str]) -> Path:
    """Write what a trace holds as one HTML file that opens offline.

    The page has the overview of the viewer: returns and lengths over the recording, distributions, how episodes ended,
    outliers, environments, and statistics of each column. Its charts are static SVG. It contains no script, and loads
    nothing. The statistics of the steps are of a random sample.

    Args:
        path: What `open_traces` opens: a directory, a URL, or several of them.
        output: The file to write, which is replaced if it exists.

    Returns:
        The absolute path of the file.

    Raises:
        OptionError: If the file cannot be written. A file that was there before is kept.
        TraceNotFoundError: If there is no such directory.
        DamagedTraceError: If the trace cannot be read, or is not what was written.
        TraceVersionError: If a newer version of the package wrote one of the files.
        ArgumentTypeError: If `path` is neither a path nor a URL.
        StoreError: If an object store fails.
        MissingDependencyError: If the extra `traces` is not installed.
    """
    dataset = open_traces(path)
    text = page(overview(dataset), columns_of(dataset))
    target = local_path(os.fspath(output))
    try:
        # Text of a trace can hold lone surrogates, which UTF-8 cannot write.
        write_whole(target, text.encode(errors="replace"))
    except (OSError, ValueError) as error:
        raise OptionError(f"output: expected a file that can be written, got {str(target)!r}: {error}") from error
    return target
