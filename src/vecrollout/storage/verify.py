"""Whether a trace is as it was written, and where it is not."""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np

from vecrollout.errors import DamagedTraceError
from vecrollout.storage.decoding import DecodedBatch
from vecrollout.storage.derive import derive
from vecrollout.storage.format import MANIFEST_NAME, SHARD_NAME, TEMPORARY_NAME, index_name, manifest_name
from vecrollout.storage.fragments import Stored
from vecrollout.storage.index import ShardIndex
from vecrollout.storage.local import LocalDirectory
from vecrollout.storage.location import Location, location_of
from vecrollout.storage.manifest import Manifest, ShardEntry
from vecrollout.storage.shard import Shard
from vecrollout.storage.sums import NO_SUMS, read_sums
from vecrollout.storage.trace import TraceFiles, cached_index, is_begun, list_files


@dataclass(frozen=True)
class Problem:
    """Something in a trace that is not as it was written."""

    file: str
    """Name of the file."""
    place: str
    """Where in the file: `"file"`, `"schema"`, `"batch 3"`, `"footer"`, `"end"`."""
    what: str
    """What is wrong there."""

    def __str__(self) -> str:
        return f"{self.file}: {self.place}: {self.what}"


@dataclass(frozen=True)
class TraceReport:
    """What `verify_traces` found."""

    problems: tuple[Problem, ...]
    """Everything that is damaged; empty where nothing is."""
    trajectories: int
    """Number of sound trajectories."""
    leftovers: tuple[str, ...] = ()
    """Temporary files, of processes that were killed or are at work just now, and folders on this machine with what
    writers that were killed had not put into the object store yet. They are no damage; `repair_traces` clears them."""

    @property
    def ok(self) -> bool:
        """Whether nothing is damaged."""
        return not self.problems


@dataclass(frozen=True)
class Examined:
    """A shard that was looked through."""

    problems: tuple[Problem, ...]
    index: ShardIndex | None
    """Of all batches before the first damaged one; None where not even the schema can be read."""
    is_finished: bool
    """Whether it has a footer."""


def verify_traces(path: str | os.PathLike[str]) -> TraceReport:
    """Read everything of a trace, and compare it with its checksums. What is in an object store is fetched for that.

    A shard that a writer is still at, or was at when it was killed, has no footer, and checksums only of what was
    flushed; of the rest the structure is checked, and only a batch that was not written to its end is a problem. A
    finished one that no manifest lists is a problem, but for the last one of a writer that was not closed.

    Args:
        path: The directory, or the URL of an object store.

    Returns:
        What is damaged, file by file.

    Raises:
        DamagedTraceError: If there is no such directory.
        TraceVersionError: If a newer version of the package wrote one of the files.
        OptionError: If the URL is none that can be used.
        StoreError: If the object store fails.
    """
    location = location_of(path)
    manifests, problems = sound_manifests(location)
    files = list_files(location, manifests)
    trajectories = 0
    for shard in files.shards:
        with location.copied(files.of_shard(shard)) as local:
            examined = examine(local, shard, files.entries.get(shard))
        problems += examined.problems
        trajectories += 0 if examined.index is None else len(examined.index)
        problems += _unexpected(location, files, shard, examined)
    leftovers = [name for name in files.sizes if TEMPORARY_NAME.fullmatch(name)]
    return TraceReport(tuple(problems), trajectories, (*leftovers, *map(str, location.left_spools())))


def sound_manifests(location: Location) -> tuple[dict[str, Manifest], list[Problem]]:
    """The manifests that can be read, by writer, and the others.

    Raises:
        DamagedTraceError: If there is no such directory.
        TraceVersionError: If a newer version of the package wrote one.
        StoreError: If an object store fails.
    """
    manifests, problems = {}, []
    for name in sorted(location.sizes()):
        match = MANIFEST_NAME.fullmatch(name)
        if match:
            try:
                manifests[match["writer"]] = Manifest.read(location, name)
            except DamagedTraceError as error:
                problems.append(Problem(name, "file", _told(error, name)))
    return manifests, problems


def examine(local: LocalDirectory, name: str, entry: ShardEntry | None) -> Examined:
    """Look through a shard.

    Args:
        local: Where it is.
        name: Its name.
        entry: What the manifest says about it; None where it says nothing.

    Raises:
        TraceVersionError: If a newer version of the package wrote it.
    """
    path = local.path / name
    # Before the shard, which then has all that they are of.
    sums = read_sums(local, name)
    if entry is None and not sums and is_begun(path):
        return Examined((), None, is_finished=False)
    try:
        shard = Shard(local.open(name))
    except DamagedTraceError as error:
        return Examined((Problem(name, "file" if not path.exists() else "schema", _told(error, name)),), None, False)
    problems = []
    if entry is None:
        recorded = cached_index(local, name, shard.size, None)
    else:
        if shard.size != entry.bytes:
            problems.append(Problem(name, "file", f"expected {entry.bytes} bytes, got {shard.size}"))
        recorded = cached_index(local, name, entry.bytes, entry.index_xxh3_64)
        if recorded is None:
            problems.append(Problem(index_name(name), "file", "missing, or altered since it was written"))
    sound = None
    if recorded is not None:
        altered = [*_altered(shard, recorded, shard.size)]
        problems += altered
        places = [problem.place for problem in altered]
        if "schema" in places:
            return Examined(tuple(problems), None, shard.is_finished)
        batches = [int(place.split()[1]) for place in places if place.startswith("batch")]
        sound = min(batches, default=None)
        if "footer" in places:
            shard = Shard(local.open(name), as_stream=True)
    index, trouble = derive(shard, sums if recorded is None else NO_SUMS)
    if trouble is not None:
        problems.append(Problem(name, "end", _told(DamagedTraceError(trouble), name)))
    elif _is_another(shard, index, entry if recorded is None else None):
        problems.append(Problem(name, "file", "altered since it was written, and its index, which says where, is lost"))
        return Examined(tuple(problems), None, shard.is_finished)
    first_unreadable, unreadable = _unreadable(shard, index)
    problems += unreadable
    sound = min((each for each in (sound, first_unreadable) if each is not None), default=None)
    if recorded is not None and not problems and not _same(index, recorded):
        problems.append(Problem(index_name(name), "file", "lists other trajectories than the shard holds"))
    return Examined(tuple(problems), index if sound is None else index.up_to(sound), shard.is_finished)


def _is_another(shard: Shard, index: ShardIndex, entry: ShardEntry | None) -> bool:
    """Whether a shard, of the size that its manifest says, has other checksums than that says."""
    return entry is not None and shard.size == entry.bytes and entry.xxh3_64 not in (None, index.checksum())


def _altered(shard: Shard, index: ShardIndex, size: int) -> list[Problem]:
    """Sections of the file whose bytes are others than written."""
    problems = []
    name = shard.name
    for section in range(len(index.batches["rows"]) + 2):
        place, (begin, end) = index.section_name(section), index.section(section)
        if end > size:
            problems.append(Problem(name, place, f"cut off: expected bytes {begin} to {end}, the file has {size}"))
        else:
            try:
                shard.check_section(section, index)
            except DamagedTraceError as error:
                problems.append(Problem(name, place, _told(error, f"{name}: {place}")))
    return problems


def _unreadable(shard: Shard, index: ShardIndex) -> tuple[int | None, list[Problem]]:
    """Trajectories that cannot be made of the shard's rows, and the batch of the first one."""
    first, problems = None, []
    name = shard.name
    held: dict[int, DecodedBatch] = {}

    def batch(number: int) -> DecodedBatch:
        if number not in held:
            held.clear()
            held[number] = DecodedBatch(shard.batch(number, index), f"{name}: batch {number}")
        return held[number]

    for place in range(len(index)):
        number = int(index.trajectories["batch"][place])
        stored = Stored(shard.schema, index, place, batch, name)
        try:
            stored.fragment(0, stored.steps)
            stored.metadata()
        except DamagedTraceError as error:
            first = number if first is None else first
            problems.append(Problem(name, f"batch {number}", _told(error, name)))
    return first, problems


def _unexpected(location: Location, files: TraceFiles, shard: str, examined: Examined) -> list[Problem]:
    """A shard that its writer's manifest should list and does not."""
    match = SHARD_NAME.fullmatch(shard)
    if match is None or shard in files.entries or examined.index is None:
        return []
    writer = match["writer"]
    try:
        # Once more: the writer may have finished shards since its manifest was read.
        manifest = Manifest.read(location, manifest_name(writer))
    except DamagedTraceError:
        # A writer has a manifest before it finishes its first shard. One that is damaged is a problem of its own.
        if examined.is_finished and manifest_name(writer) not in files.sizes:
            return [Problem(shard, "file", "finished, but there is no manifest that lists it")]
        return []
    if any(entry.file == shard for entry in manifest.shards):
        return []
    if manifest.closed:
        return [Problem(shard, "file", "not listed in the manifest of its writer, which was closed")]
    # The last one may be just about to be listed; before that, the writer begins no other.
    if examined.is_finished and shard != [each for each in files.shards if each.startswith(f"{writer}-")][-1]:
        return [Problem(shard, "file", "not listed in the manifest of its writer, which went on behind it")]
    return []


def _same(a: ShardIndex, b: ShardIndex) -> bool:
    return all(
        np.array_equal(mine[name], theirs[name])
        for mine, theirs in ((a.batches, b.batches), (a.trajectories, b.trajectories))
        for name in mine
    )


def _told(error: Exception, name: str) -> str:
    """The message without the file's name, which the problem has already."""
    return str(error).removeprefix(f"{name}: ")
