"""Repairs a damaged trace: keeps the sound part of each shard."""

from __future__ import annotations

import itertools
import os
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from vecrollout.data.plain import dumps
from vecrollout.errors import ProtocolError, StoreError, TraceNotFoundError, TraceWriteError
from vecrollout.progress import Progress, with_progress
from vecrollout.storage.codec.index import BatchIndex
from vecrollout.storage.codec.metadata import METADATA_KEY, parsed
from vecrollout.storage.files import journal as lines
from vecrollout.storage.files.folder import Folder, folder_of
from vecrollout.storage.files.journal import Piece
from vecrollout.storage.files.names import TEMPORARY_NAME, journal_name, journal_of, shard_name, shard_of
from vecrollout.storage.files.whole import whole_file
from vecrollout.storage.reading.scan import Problem, Seen
from vecrollout.storage.reading.shard import Shard
from vecrollout.storage.reading.verify import Survey
from vecrollout.storage.writing.shards import ShardFile


@dataclass(frozen=True)
class RepairReport:
    """What `repair_traces` did."""

    changes: tuple[Problem, ...]
    """File by file what was wrong, and what was done; empty where nothing had to be done."""
    trajectories: int
    """Number of trajectories in the trace now."""


def repair_traces(path: str | os.PathLike[str], *, progress: Progress | None = False) -> RepairReport:
    """Keep the longest sound prefix of each shard, and finish the shards of writers that were killed.

    What comes before the first damaged batch of a shard stays; it is written into a new shard. A shard of which
    something readable might have been left out is kept, with `.damaged` behind its name; nothing reads it. Temporary
    files of processes that were killed are removed. No writer may be at work in the directory. A second run finds
    nothing to do. Of an object store, shards are fetched and put back where they were repaired; what a killed writer of
    this machine had not put there is put there first.

    Args:
        path: The directory, or the URL of an object store.
        progress: Whether to show a progress bar on a terminal if it takes long, and whose (`"tqdm"`, `"rich"`); None:
            where one of them is installed.

    Returns:
        What was done.

    Raises:
        ProtocolError: If a writer is at work in the directory, as far as the system tells; nothing is changed then.
        TraceNotFoundError: If there is no such directory.
        TraceVersionError: If a newer version of the package wrote one of the files.
        OptionError: If the URL cannot be used, or `progress` is something else.
        TraceWriteError: If files cannot be written; what was repaired before stays repaired.
        StoreError: If the object store fails; likewise.
        MissingDependencyError: If the package of the progress bar is not installed.
        MemoryError: If memory is too small for a record batch, which is no damage.
    """
    folder = folder_of(path)
    try:
        return _repair(folder, progress)
    except (StoreError, TraceNotFoundError):
        raise
    except OSError as error:
        raise TraceWriteError(f"{folder}: expected a directory that can be written to: {error}") from error


def _repair(folder: Folder, progress: Progress | None) -> RepairReport:
    refuse_beside_writers(folder)
    changes = [*_cleared(folder), *_brought_in(folder)]
    survey = Survey.of(folder)
    changes += survey.problems
    damaged = {problem.file for problem in survey.problems}
    found = [*survey.journals, *filter(None, map(journal_of, damaged))]
    names: dict[str, list[str]] = {name: [] for name in found}
    for name in survey.shards:
        names.setdefault((shard_of(name) or ("", 0))[0], []).append(name)
    seen = Seen()
    writers = [_Writer(folder, writer, survey, seen) for writer in sorted(names)]

    def repaired() -> Iterator[str]:
        for writer in writers:
            for shard in names[writer.name]:
                writer.take(shard)
                yield shard
            writer.finish(journal_name(writer.name) in damaged)

    total = sum(survey.sizes.get(name, 0) for name in survey.shards)
    for _ in with_progress(repaired(), lambda shard: survey.sizes.get(shard, 0), progress, "bytes", total):
        pass
    for writer in writers:
        changes += writer.changes
    return RepairReport(tuple(changes), sum(writer.trajectories for writer in writers))


class _Writer:
    """The repair of one writer's files: writes new shards, then their journal, and then sets damaged shards aside.

    If the process is killed in between, either the old journal and shards are valid, or the new ones.
    """

    def __init__(self, folder: Folder, writer: str, survey: Survey, seen: Seen) -> None:
        self.name = writer
        self._folder, self._survey, self._seen = folder, survey, seen
        self.changes: list[Problem] = []
        self.trajectories = 0
        journal = survey.journals.get(writer)
        self._about = None if journal is None else journal.about
        self._lines: list[bytes] = []
        # Shards that the new journal does not list: a name to keep each under, or None to remove it.
        self._obsolete: dict[str, str | None] = {}
        numbers = [found[1] for name in survey.sizes if (found := shard_of(name)) and found[0] == writer]
        self._next = 1 + max([*numbers, *(journal.shards if journal else ()), -1])

    def take(self, name: str) -> None:
        """Keep a shard, or its sound part."""
        with self._folder.copied([name]) as directory:
            examined = self._survey.examine(name, directory, self._seen)
            wrong, record = examined.problems, examined.record
            if self._about is None and examined.shard is not None:
                inner = examined.shard.schema.about
                self._about = {key: value for key, value in inner.items() if key not in ("writer", "repaired_from")}
            self.trajectories += examined.trajectories
            if record is not None and record.size is not None and not wrong:
                self._lines += [
                    lines.shard_line(record.number, record.head_bytes, record.head_sum),
                    *(lines.batch_line(record.number, each.pieces, each.trajectories) for each in record.groups),
                    lines.finished_line(record.number, record.size, record.tail_sum),
                ]
                return
            self.changes += wrong
            done = "nothing in it; removed" if not wrong else "nothing sound in it; set aside"
            if examined.shard is not None and examined.sound:
                kept_in = self._rewrite(directory, examined.shard, examined.sound)
                done = f"{examined.trajectories} trajectories kept, in {kept_in}"
            if name in self._survey.sizes:
                self._obsolete[name] = _free_name(f"{name}.damaged", self._survey.sizes) if wrong else None
                self.changes.append(Problem(name, "file", done))

    def finish(self, is_damaged: bool) -> None:
        """Write the journal, and set aside the shards that it does not list."""
        name = journal_name(self.name)
        journal = self._survey.journals.get(self.name)
        content = b"".join(
            [lines.header_line({"writer": self.name, **(self._about or {})}), *self._lines, lines.closed_line()]
        )
        if self._about is None:
            # There is nothing to list.
            if name in self._survey.sizes:
                self._folder.remove(name)
                if not is_damaged:
                    self.changes.append(Problem(name, "file", "nothing in it; removed"))
        elif journal is None or not journal.is_closed or self.changes or is_damaged:
            if journal is None and not is_damaged:
                self.changes.append(Problem(name, "file", "missing; written anew"))
            elif journal is not None and not journal.is_closed:
                self.changes.append(Problem(name, "file", "not closed; closed now"))
            self._folder.write(name, content)
        for shard, aside in self._obsolete.items():
            if aside is None:
                self._folder.remove(shard)
            else:
                self._folder.rename(shard, aside)

    def _rewrite(self, directory: Path, shard: Shard, sound: Sequence[tuple[list[Piece], BatchIndex]]) -> str:
        """Write the sound part of a shard into a new one; returns its name."""
        described = parsed((shard.arrow_schema.metadata or {})[METADATA_KEY], shard.name)
        described |= {"number": self._next, "repaired_from": shard.name}
        schema = shard.arrow_schema.with_metadata({METADATA_KEY: dumps(described)})
        path = directory / shard_name(self.name, self._next)
        with whole_file(path) as temporary:
            new = ShardFile(temporary, self._next, schema, described.get("compression"))
            try:
                for pieces, index in sound:
                    batches = (shard.batch(0, each).replace_schema_metadata(schema.metadata) for each in pieces)
                    self._lines.append(new.write(batches, index))
                self._lines.append(new.close())
            finally:
                new.abandon()
        self._folder.put(path)
        self._next += 1
        return path.name


def refuse_beside_writers(folder: Folder) -> None:
    """Refuse to change files that a writer is writing."""
    for name in folder.sizes():
        if (journal_of(name) or shard_of(name)) and folder.is_locked(name):
            raise ProtocolError(
                f"{name}: expected no writer at work in {folder}, got one; close it, or end its process and those that "
                "it forked"
            )


def _cleared(folder: Folder) -> list[Problem]:
    """Remove temporary files; what was done."""
    leftovers = [name for name in folder.sizes() if TEMPORARY_NAME.fullmatch(name)]
    for name in leftovers:
        folder.remove(name)
    return [Problem(name, "file", "a temporary file of a process that was killed; removed") for name in leftovers]


def _brought_in(folder: Folder) -> list[Problem]:
    """Upload the data that killed writers of this machine left in local folders; what was done."""
    spools = folder.left_spools()
    for spool in spools:
        folder.take_over(spool)
    return [Problem(str(spool), "file", "left by a writer that was killed; put in place") for spool in spools]


def _free_name(name: str, taken: Container[str]) -> str:
    """The name, with a number where an earlier repair has used it."""
    names = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
    return next(each for each in names if each not in taken)
