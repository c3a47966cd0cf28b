"""Make a damaged trace whole again, as far as it is sound."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vecrollout.errors import DamagedTraceError, ProtocolError, StoreError, TraceWriteError
from vecrollout.storage.format import (
    SHARD_NAME,
    TEMPORARY_NAME,
    index_name,
    manifest_name,
    sums_name,
    sync_directory,
)
from vecrollout.storage.index import ShardIndex
from vecrollout.storage.local import MappedFile
from vecrollout.storage.location import Location, location_of
from vecrollout.storage.manifest import Manifest, ShardEntry
from vecrollout.storage.shard import Shard
from vecrollout.storage.shard_writer import ShardWriter, write_index
from vecrollout.storage.trace import list_files
from vecrollout.storage.verify import Examined, Problem, examine, sound_manifests


@dataclass(frozen=True)
class RepairReport:
    """What `repair_traces` did."""

    changes: tuple[Problem, ...]
    """File by file what was wrong, and what was done; empty where nothing had to be."""
    trajectories: int
    """Number of trajectories that the trace holds now."""


def repair_traces(path: str | os.PathLike[str]) -> RepairReport:
    """Keep the longest sound prefix of each shard, and finish the shards of writers that were killed.

    What comes before the first damaged batch of a shard stays. A shard of which something readable might have been left
    out is kept beside the new one, with `.damaged` behind its name; nothing reads it. Temporary files of processes that
    were killed are removed. No writer may be at work in the directory. A second run finds nothing to do. Of an object
    store, each shard is fetched, and put back where it was repaired; what a writer of this machine that was killed had
    not put there yet is put there first.

    Args:
        path: The directory, or the URL of an object store.

    Returns:
        What was done.

    Raises:
        ProtocolError: If a writer is at work in the directory, as far as the system tells; nothing is changed then.
        DamagedTraceError: If there is no such directory.
        TraceVersionError: If a newer version of the package wrote one of the files.
        OptionError: If the URL is none that can be used.
        TraceWriteError: If files cannot be written; what was repaired up to there stays so.
        StoreError: If an object store fails; likewise.
    """
    location = location_of(path)
    try:
        return _repair(location)
    except StoreError:
        raise
    except OSError as error:
        raise TraceWriteError(f"{location}: expected a directory that can be written to: {error}") from error


def _repair(location: Location) -> RepairReport:
    _refuse_beside_writers(location)
    changes = [*_cleared(location), *_brought_in(location)]
    manifests, problems = sound_manifests(location)
    changes += problems
    damaged = {problem.file for problem in problems}
    files = list_files(location, manifests)
    names = {match["writer"]: None for shard in files.shards if (match := SHARD_NAME.fullmatch(shard))}
    trajectories = 0
    for writer in [*names, *(writer for writer in manifests if writer not in names)]:
        old = manifests.get(writer)
        about = None if old is None else old.about
        entries: list[ShardEntry] = []
        changed: list[Problem] = []
        for shard in files.shards:
            if not shard.startswith(f"{writer}-"):
                continue
            entry = files.entries.get(shard)
            with location.copied(files.of_shard(shard), back=True) as local:
                examined = examine(local, shard, entry)
                if about is None and examined.index is not None:
                    said = Shard(local.open(shard)).schema.about
                    about = {key: value for key, value in said.items() if key != "writer"}
                if entry is None or examined.problems:
                    changed += examined.problems
                    entry = _repaired(local.path, shard, _free_name(f"{shard}.damaged", files.sizes), examined, changed)
            if entry is not None:
                entries.append(entry)
        manifest = Manifest(writer, about or {}, tuple(entries), closed=True)
        if manifest != old:
            if old is not None and not old.closed:
                changed.append(Problem(manifest_name(writer), "file", "not closed; closed now"))
            if old is None and manifest_name(writer) not in damaged:
                changed.append(Problem(manifest_name(writer), "file", "missing; written anew"))
            manifest.write(location)
        changes += changed
        trajectories += sum(entry.trajectories for entry in entries)
    for name in damaged - {manifest_name(writer) for writer in names}:
        # A damaged manifest without any shard says nothing.
        location.remove(name)
    return RepairReport(tuple(changes), trajectories)


def _refuse_beside_writers(location: Location) -> None:
    """What a writer is at must not be taken away from under it.

    Raises:
        ProtocolError: If there is any.
    """
    for name in location.sizes():
        if SHARD_NAME.fullmatch(name) and location.is_locked(name):
            raise ProtocolError(
                f"{name}: expected no writer at work in {location}, got one; close it, or end its process and those "
                "that it forked"
            )


def _cleared(location: Location) -> list[Problem]:
    """Remove temporary files; what was done."""
    leftovers = [name for name in location.sizes() if TEMPORARY_NAME.fullmatch(name)]
    for name in leftovers:
        location.remove(name)
    return [Problem(name, "file", "a temporary file of a process that was killed; removed") for name in leftovers]


def _brought_in(location: Location) -> list[Problem]:
    """Put in place what writers of this machine had written elsewhere when they were killed; what was done."""
    spools = location.left_spools()
    for spool in spools:
        location.take_over(spool)
    return [Problem(str(spool), "file", "left by a writer that was killed; put in place") for spool in spools]


def _free_name(name: str, taken: Container[str]) -> str:
    """The name, with a number where an earlier repair has used it."""
    names = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
    return next(each for each in names if each not in taken)


def _repaired(directory: Path, name: str, aside: str, examined: Examined, changes: list[Problem]) -> ShardEntry | None:
    """Put the sound part of a shard in its place, None where there is none; `aside` names what is set aside."""
    path = directory / name
    index = examined.index
    if index is None or not len(index):
        if path.exists():
            if examined.problems:
                path.replace(path.with_name(aside))
                changes.append(Problem(name, "file", "nothing sound in it; set aside"))
            else:
                path.unlink()
                changes.append(Problem(name, "file", "nothing in it; removed"))
        for of_shard in (index_name(name), sums_name(name)):
            (directory / of_shard).unlink(missing_ok=True)
        return None
    only_index = all(problem.file != name for problem in examined.problems)
    if not (examined.is_finished and only_index):
        index = _rewrite(path, index, None if only_index else path.with_name(aside))
        changes.append(Problem(name, "file", f"{len(index)} trajectories kept; finished"))
    return write_index(path, index)


def _rewrite(path: Path, index: ShardIndex, aside: Path | None) -> ShardIndex:
    """Write a shard again, up to the end of an index; returns the new one's index.

    Args:
        path: The shard.
        index: What of it is sound.
        aside: Where to keep it as it was; None: it holds nothing else.

    Raises:
        DamagedTraceError: If it is compressed in a way that cannot be written.
    """
    shard = Shard(MappedFile(path), as_stream=True)
    compression: Any = shard.schema.about.get("compression")
    if compression not in ("zstd", "lz4", None):
        raise DamagedTraceError(f"{path.name}: expected a compression of zstd, lz4 or null, got {compression!r}")
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.unlink(missing_ok=True)
    writer = ShardWriter(temporary, shard.arrow_schema, compression)
    try:
        for number in range(len(index.batches["rows"])):
            writer.write(shard.batch(number, index))
        rewritten = writer.close()
    except BaseException:
        writer.abandon()
        temporary.unlink(missing_ok=True)
        raise
    if aside is not None:
        _keep(path, aside)
    temporary.replace(path)
    sync_directory(path.parent)
    return rewritten


def _keep(path: Path, aside: Path) -> None:
    """Give a file a second name. The first stays: a process that is killed here must not leave a shard missing."""
    try:
        os.link(path, aside)
    except OSError:  # not all file systems can
        shutil.copyfile(path, aside)
