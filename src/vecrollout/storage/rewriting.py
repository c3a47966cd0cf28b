"""Data sets written as new traces."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np

from vecrollout.data.equality import same
from vecrollout.errors import OptionError, TraceWriteError
from vecrollout.progress import Progress, with_progress
from vecrollout.storage.files.folder import folder_of
from vecrollout.storage.files.whole import make_directory, sync_directory, temporary_path
from vecrollout.storage.order import Order
from vecrollout.storage.reading.reader import TraceReader
from vecrollout.storage.views import Viewed
from vecrollout.storage.writing.writer import TraceWriter

_QUEUE_BYTES = 64 << 20
_KEPT = ("spaces", "env_spec", "metadata")

WriteT = TypeVar("WriteT", bound=Viewed)


def write(
    self: WriteT,
    path: str | os.PathLike[str],
    *,
    compression: Literal["zstd", "lz4"] | None = "zstd",
    max_shard_bytes: int = 512 << 20,
    metadata: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> WriteT:
    """Write these trajectories as a new trace. This is how to delete, merge, compact, and recompress.

    Spaces, environment spec, metadata and the identity of episodes are kept. Memory does not grow with the trace.

    A local directory appears when it is complete: a process that is killed leaves at most a temporary directory beside
    it, `.<name>.<random>.tmp`. An object store has no such step: it shows what was written so far.

    Like every trace, the new one is read by the start of episodes, whatever the order of this view.

    Args:
        path: A new or empty directory, or the URL of an object store.
        compression: As in `TraceWriter`.
        max_shard_bytes: As in `TraceWriter`.
        metadata: Metadata of the new trace; None: that of these traces. Traces with different metadata keep their own.
        progress: Whether to show a progress bar on a terminal if it takes long, and whose (`"tqdm"`, `"rich"`); None:
            where one of them is installed.

    Returns:
        The new trace, opened.

    Raises:
        OptionError: If the directory has files, a step of an episode comes twice, or an argument is outside what it may
            be.
        ArgumentTypeError: If `path` is neither a path nor a URL, or an argument is of another kind.
        DamagedTraceError: If a trace cannot be read, or is not what was written.
        TraceWriteError: If the directory cannot be written.
        StoreError: If an object store fails.
        MissingDependencyError: If the package of the progress bar is not installed.
    """
    _check_once(self)
    options = {"compression": compression, "max_shard_bytes": max_shard_bytes, "queue_bytes": _QUEUE_BYTES}
    steps = int(self.order.lengths.sum())
    with _appearing(path) as place:
        numbers = with_progress(
            _write_parts(self.order, place, metadata, options), self.order.lengths.item, progress, "steps", steps
        )
        for _ in numbers:
            pass
    return type(self)(Order.of(TraceReader.opened(path)))


def _write_parts(
    order: Order, place: str | os.PathLike[str], metadata: Mapping[str, Any] | None, options: Mapping[str, Any]
) -> Iterator[int]:
    """Write the trajectories, those of each trace by a writer of their own; yields the number of each."""
    headers: list[dict[str, Any]] = []
    which: dict[int, int] = {}
    for name, about in order.abouts.items():
        header = {key: about[key] for key in _KEPT}
        if metadata is not None:
            header["metadata"] = metadata
        if header["spaces"] is not None and None in header["spaces"]:
            header["spaces"] = None  # of an unknown kind
        found = (i for i, other in enumerate(headers) if same(header, other))
        which[name] = next(found, len(headers))
        if which[name] == len(headers):
            headers.append(header)
    parts = np.array([which[each] for each in order.writers.tolist()], np.int64)
    for part, header in enumerate(headers or [{}]):
        (numbers,) = (parts == part).nonzero()
        selected = order.select(numbers)
        with TraceWriter(place, **header, **options) as writer:
            for at, (number, trajectory) in enumerate(zip(numbers.tolist(), selected.trajectories(), strict=True)):
                writer.append(trajectory, metadata=selected.metadata(at) or None)
                yield number


def _check_once(data: Viewed) -> None:
    """Refuse steps that come twice: a writer takes them once, whatever their rewards are."""
    names = ("recording", "id", "env", "start_step", "length")
    rows = zip(*(data.table.column(name).to_pylist() for name in names), strict=True)
    named = sorted(
        (row for row in rows if row[0] is not None and row[1] is not None), key=lambda row: (*row[:2], row[3])
    )
    ends: dict[Any, int] = {}
    for recording, number, env, start, length in named:
        if start < ends.get((recording, number), 0):
            raise OptionError(
                f"expected each step once, got step {start} of episode {number} of environment {env} twice (recording "
                f"{recording!r}); a trace has an episode once, so write such views into directories of their own"
            )
        ends[recording, number] = start + length


@contextmanager
def _appearing(path: str | os.PathLike[str]) -> Iterator[str | os.PathLike[str]]:
    """Where to write what appears at a path when it is complete; the path itself if it is a URL of a store."""
    folder = folder_of(path)
    if not isinstance(folder.path, Path):
        yield path
        return
    target = folder.path
    try:
        names = os.listdir(target) if target.exists() else []
    except OSError as error:
        raise OptionError(f"path: expected a directory that is new or empty: {error}") from error
    if names:
        raise OptionError(f"path: expected a directory that is new or empty, got {str(target)!r} with {names[0]!r}")
    temporary = temporary_path(target.absolute())
    make_directory(temporary)
    try:
        yield temporary
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    try:
        if target.exists():
            target.rmdir()
        temporary.rename(target)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise TraceWriteError(f"{target}: expected a directory that can be made: {error}") from error
    sync_directory(target.absolute().parent)
