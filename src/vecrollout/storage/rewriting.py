"""Data sets written as new traces."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from vecrollout.data.equality import same
from vecrollout.errors import OptionError
from vecrollout.progress import Progress, with_progress
from vecrollout.storage.files.folder import folder_of
from vecrollout.storage.files.whole import whole_directory
from vecrollout.storage.order import Order
from vecrollout.storage.writing.writer import TraceWriter

_QUEUE_BYTES = 64 << 20
_KEPT = ("spaces", "env_spec", "metadata")


def write_trace(
    order: Order,
    path: str | os.PathLike[str],
    metadata: Mapping[str, Any] | None,
    progress: Progress | None,
    options: Mapping[str, Any],
) -> None:
    """Write trajectories as a new trace, as `TraceDataset.write` describes; with other options of `TraceWriter`."""
    _check_once(order.table)
    with _appearing(path) as place:
        numbers = _write_parts(order, place, metadata, options)
        for _ in with_progress(numbers, order.lengths.item, progress, "steps", int(order.lengths.sum())):
            pass


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
        with TraceWriter(place, **header, **options, queue_bytes=_QUEUE_BYTES) as writer:
            for at, (number, trajectory) in enumerate(zip(numbers.tolist(), selected.trajectories(), strict=True)):
                writer.append(trajectory, metadata=selected.metadata(at) or None)
                yield number


def _check_once(table: Any) -> None:
    """Refuse steps that come twice: a writer takes each step once, whatever its reward is."""
    names = ("recording", "id", "env", "start_step", "length")
    rows = zip(*(table.column(name).to_pylist() for name in names), strict=True)
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
    """Where to write a directory that appears when it is complete; the URL itself for an object store."""
    folder = folder_of(path)
    if not isinstance(folder.path, Path):
        yield path
        return
    target = folder.path.absolute()
    try:
        names = os.listdir(target) if target.exists() else []
    except OSError as error:
        raise OptionError(f"path: expected a directory that is new or empty: {error}") from error
    if names:
        raise OptionError(f"path: expected a directory that is new or empty, got {str(target)!r} with {names[0]!r}")
    with whole_directory(target) as temporary:
        yield temporary
