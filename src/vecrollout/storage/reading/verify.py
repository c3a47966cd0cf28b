"""Finds damage in a trace."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from vecrollout.errors import DamagedTraceError
from vecrollout.progress import Progress, with_progress
from vecrollout.storage.files.folder import Folder, folder_of
from vecrollout.storage.files.journal import Journal
from vecrollout.storage.files.names import TEMPORARY_NAME, journal_of, shard_name, shard_of
from vecrollout.storage.reading.scan import Examined, Problem, Seen, examine, told


@dataclass(frozen=True)
class TraceReport:
    """What `verify_traces` found."""

    problems: tuple[Problem, ...]
    """All damage; empty where there is none."""
    trajectories: int
    """Number of sound trajectories."""
    leftovers: tuple[str, ...] = ()
    """Temporary files of killed or running processes, and folders on this machine with data that killed writers had not
    uploaded. They are no damage; `repair_traces` clears them."""

    @property
    def ok(self) -> bool:
        """Whether there is no damage."""
        return not self.problems


def verify_traces(path: str | os.PathLike[str], *, progress: Progress | None = False) -> TraceReport:
    """Read everything in a trace, and compare it with its checksums. Objects of a store are fetched for that.

    A shard that a writer is still writing, or was writing when it was killed, has checksums up to its last batch. What
    follows that batch was not flushed and is no damage.

    Args:
        path: The directory, or the URL of an object store.
        progress: Whether to show a progress bar on a terminal if it takes long, and whose (`"tqdm"`, `"rich"`); None:
            where one of them is installed.

    Returns:
        The damage, file by file.

    Raises:
        TraceNotFoundError: If there is no such directory.
        TraceVersionError: If a newer version of the package wrote one of the files.
        OptionError: If the URL cannot be used, or `progress` is something else.
        StoreError: If the object store fails.
        MissingDependencyError: If the package of the progress bar is not installed.
        MemoryError: If memory is too small for a record batch, which is no damage.
    """
    folder = folder_of(path)
    survey = Survey.of(folder)
    problems = list(survey.problems)
    trajectories, seen = 0, Seen()
    shards = survey.shards
    total = sum(survey.sizes.get(name, 0) for name in shards)
    for name in with_progress(shards, lambda name: survey.sizes.get(name, 0), progress, "bytes", total):
        with folder.copied([name]) as directory:
            examined = survey.examine(name, directory, seen)
        problems += examined.problems
        trajectories += examined.trajectories
    leftovers = [name for name in survey.sizes if TEMPORARY_NAME.fullmatch(name)]
    return TraceReport(tuple(problems), trajectories, (*leftovers, *map(str, folder.left_spools())))


@dataclass(frozen=True)
class Survey:
    """The files of a trace, and its journals."""

    sizes: Mapping[str, int]
    journals: dict[str, Journal] = field(default_factory=dict)
    """By writer."""
    problems: list[Problem] = field(default_factory=list)
    """Damage of the journals."""
    growing: set[str] = field(default_factory=set)
    """Writers that may be at work."""

    @classmethod
    def of(cls, folder: Folder) -> Survey:
        """Read all journals of a folder."""
        survey = cls(folder.sizes())
        for name in sorted(survey.sizes):
            writer = journal_of(name)
            if writer is None:
                continue
            # Before reading the journal, to which a running writer adds lines.
            if not folder.appends or folder.is_locked(name):
                survey.growing.add(writer)
            journal = Journal(name, writer)
            try:
                journal.feed(folder.read(name))
            except DamagedTraceError as error:
                survey.problems.append(Problem(name, "file", told(error, name)))
                continue
            survey.journals[writer] = journal
            for what in journal.problems:
                place, _, told_what = what.partition(": ")
                survey.problems.append(Problem(name, place, told_what))
        return survey

    @property
    def shards(self) -> list[str]:
        """Names of all shards that there are or should be, by writer and number."""
        found = {name for name in self.sizes if shard_of(name)}
        for writer, journal in self.journals.items():
            found |= {shard_name(writer, shard.number) for shard in journal.shards.values() if shard.pieces}
        return sorted(found, key=lambda name: shard_of(name) or ("", 0))

    def examine(self, name: str, directory: Path, seen: Seen) -> Examined:
        """Examine a shard, of which the directory has a copy, beside what the journal of its writer says about it."""
        writer, number = shard_of(name) or ("", 0)
        journal = self.journals.get(writer)
        if journal is None or journal.is_empty:
            examined = examine(directory / name, None, seen, adopt=True, is_old=False)
            return examined.with_problem(Problem(name, "file", "there is no journal of its writer"))
        record, is_sound = journal.shards.get(number), not journal.problems
        is_old = number < max(journal.shards, default=0)
        examined = examine(directory / name, record, seen, adopt=not is_sound, is_old=is_old)
        if not is_sound or (record is not None and record.size is not None):
            return examined
        if record is None and (journal.is_closed or number != max(journal.shards, default=-1) + 1):
            return examined.with_problem(Problem(name, "file", "not listed in the journal of its writer"))
        if record is not None and journal.is_closed:
            return examined.with_problem(Problem(name, "file", "not finished, but its writer was closed"))
        if examined.lacks_lines and writer not in self.growing:
            what = f"lines are missing: {name} goes on behind what they say"
            return examined.with_problem(Problem(journal.name, "end", what))
        return examined
