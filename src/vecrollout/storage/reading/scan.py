"""Examines a shard: which parts are sound, and which are damaged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vecrollout.data.trajectory import Episode
from vecrollout.errors import DamagedTraceError
from vecrollout.storage.arrow import Parsing
from vecrollout.storage.codec.decode import DecodedBatch
from vecrollout.storage.codec.fragments import fragment
from vecrollout.storage.codec.index import NO_TRAJECTORIES, BatchIndex
from vecrollout.storage.files.journal import Piece, ShardRecord
from vecrollout.storage.files.source import MappedFile
from vecrollout.storage.reading.shard import END_MAGIC, Shard, compare, head_end


@dataclass(frozen=True)
class Problem:
    """A part of a trace that is not as it was written."""

    file: str
    """Name of the file."""
    place: str
    """Where in the file: `"file"`, `"schema"`, `"batch 3"`, `"footer"`, `"end"`, `"line 2"`."""
    what: str
    """What is wrong there."""

    def __str__(self) -> str:
        return f"{self.file}: {self.place}: {self.what}"


@dataclass(frozen=True)
class Examined:
    """The result of examining a shard."""

    record: ShardRecord | None
    """What the journal says about it."""
    problems: tuple[Problem, ...] = ()
    shard: Shard | None = None
    """None where not even the schema can be read."""
    sound: tuple[tuple[list[Piece], BatchIndex], ...] = ()
    """Record batches of each group before the first damaged one, and the trajectories in them."""
    lacks_lines: bool = False
    """Whether the shard has more unlisted data than a killed writer leaves: one batch, or the footer."""

    @property
    def trajectories(self) -> int:
        """Number of sound trajectories."""
        return sum(len(index) for _, index in self.sound)

    def with_problem(self, problem: Problem) -> Examined:
        """The same with one more problem."""
        return replace(self, problems=(*self.problems, problem))


class Seen:
    """The steps found so far, by (`recording`, `id`), to detect steps that come twice."""

    def __init__(self) -> None:
        self._ranges: dict[tuple[str, int], list[range]] = {}

    def add(self, episode: Episode, steps: int) -> bool:
        """Whether the steps are new; trajectories without an identity always are."""
        if episode.recording is None or episode.id is None:
            return True
        found = self._ranges.setdefault((episode.recording, episode.id), [])
        added = range(episode.start_step, episode.start_step + steps)
        is_new = all(added.stop <= each.start or each.stop <= added.start for each in found)
        found.append(added)
        return is_new


def examine(path: Path, record: ShardRecord | None, seen: Seen, *, adopt: bool, is_old: bool) -> Examined:
    """Examine a shard.

    `adopt`: the journal is damaged or missing, so unlisted batches may be sound. `is_old`: the journal lists later
    shards.
    """
    name = path.name
    try:
        file = MappedFile(path)
        if record is None and head_end(file) is None:
            return Examined(record)
        # Not compared here: each damaged part is named below.
        problems, altered = ([], 1 << 62) if record is None else _altered(file, record)
        if any(problem.place == "schema" for problem in problems):
            return Examined(record, tuple(problems))
        shard = Shard(file, record, check=False)
    except DamagedTraceError as error:
        return Examined(record, (Problem(name, "file", told(error, name)),))
    sound: list[tuple[list[Piece], BatchIndex]] = []
    is_sound = True
    for first, pieces, index in [] if record is None else record.groups:
        if first + len(pieces) > altered:
            is_sound = False
            continue
        what = unreadable(shard, first, pieces, index, seen)
        if what is not None:
            problems.append(Problem(name, f"batch {first}", what))
        is_sound = is_sound and what is None
        if is_sound:
            sound.append((pieces, index))
    end = shard.head_bytes if record is None else record.end
    unlisted = [*_unlisted(shard, end)] if record is None or adopt or record.size is None else []
    lacks_lines = len(unlisted) > 1 or (len(unlisted) == 1 and _has_footer(shard))
    # A repair that was killed left an unlisted shard: the new one, or the old one behind which it is listed.
    is_double = record is None and (is_old or "repaired_from" in shard.schema.about)
    for pieces, index in unlisted if adopt or (lacks_lines and not is_double) else ():
        is_sound = is_sound and unreadable(shard, len(sound), pieces, index, seen) is None
        if is_sound:
            sound.append((pieces, index))
    return Examined(record, tuple(problems), shard, tuple(sound), lacks_lines)


def unreadable(shard: Shard, first: int, pieces: list[Piece], index: BatchIndex, seen: Seen) -> str | None:
    """What is wrong with the trajectories of a group; None: nothing is."""
    try:
        batches = [shard.batch(first + i, piece) for i, piece in enumerate(pieces)]
        for i, piece in enumerate(pieces):
            shard.head(first + i, piece, check=True)
        found = index_of(batches, f"batch {first}")
        if not all(np.array_equal(getattr(found, each.name), getattr(index, each.name)) for each in fields(index)):
            return "expected the trajectories that the journal lists, got others"
        decoded = [
            DecodedBatch(batch, shard.schema, NO_TRAJECTORIES if i else index, f"batch {first + i}")
            for i, batch in enumerate(batches)
        ]
        if len(pieces) == 1:
            trajectories = [decoded[0].trajectory(i) for i in range(len(index))]
        else:
            rows = [(batch, 0, piece.rows) for batch, piece in zip(decoded, pieces, strict=True)]
            trajectories = [fragment(decoded[0], 0, rows, 0, index.rows.item(0) - 1)]
        for i, trajectory in enumerate(trajectories):
            decoded[0].entries.metadata(i)
            if not seen.add(trajectory.episode, len(trajectory)):
                return f"steps of episode {trajectory.episode.id} that are in the trace already"
    except DamagedTraceError as error:
        return told(error, shard.name)
    return None


def rows_of(batch: Any) -> list[int]:
    """Rows of each trajectory that begins in a record batch."""
    with Parsing("record batch: expected trajectories"):
        entries = batch.column("trajectory").values
        entries.validate(full=True)
        return [int(steps) + 1 for steps in entries.field("steps").to_pylist()]


def index_of(batches: Sequence[Any], where: str) -> BatchIndex:
    """Where trajectories begin in record batches: whole ones of one, or a single one in several; all rows are read."""
    lengths = np.array(rows_of(batches[0]), np.int64)
    total = sum(batch.num_rows for batch in batches)
    with Parsing(f"{where}: expected trajectories"):
        for batch in batches:
            batch.validate(full=True)
        begins = np.concatenate([np.diff(batch.column("trajectory").offsets.to_numpy()) for batch in batches])
        told = batches[0].column("trajectory").values
        start_step, env_index = (np.array(told.field(name).to_pylist()) for name in ("start_step", "env_index"))
        episode, step, env = (_joined(batches, name, -1, np.int64) for name in ("episode", "step", "env"))
        flags = [_joined(batches, name, False, np.bool_) for name in ("terminated", "truncated")]
        starts = np.cumsum(lengths) - lengths
        last = starts + lengths - 2
        index = BatchIndex(
            rows=lengths,
            episode=episode[starts],
            env=env[starts],
            start_step=start_step.astype(np.int64),
            ended=flags[0][last] + 2 * flags[1][last].astype(np.int64),
        )
    index.check(total, where)
    expected = {
        "trajectory": (np.flatnonzero(begins), starts),
        "episode": (episode, np.repeat(index.episode, lengths)),
        "step": (step, np.arange(total) + np.repeat(index.start_step - starts, lengths)),
        "env": (env, np.repeat(index.env, lengths)),
        "env_index": (index.env, [-1 if each is None else max(-1, each) for each in env_index.tolist()]),
    }
    wrong = [name for name, (got, right) in expected.items() if not np.array_equal(got, right)]
    if wrong or begins.max() > 1 or any(np.count_nonzero(each) != np.count_nonzero(each[last]) for each in flags):
        raise DamagedTraceError(f"{where}: expected rows of one episode, step by step, in each trajectory; not {wrong}")
    return index


def told(error: Exception, name: str) -> str:
    """The message without the name of the file, which the problem has already."""
    return str(error).removeprefix(f"{name}: ")


def _altered(file: MappedFile, record: ShardRecord) -> tuple[list[Problem], int]:
    """The altered parts of the file, and the number of the first altered record batch."""
    problems, first = [], 1 << 62
    if record.size not in (None, file.size):
        problems.append(Problem(file.name, "file", f"expected {record.size} bytes, got {file.size}"))
    for number, (place, begin, end, expected) in enumerate(record.sections(), -1):
        try:
            compare(file.name, place, file.read(begin, end), end - begin, expected)
        except DamagedTraceError as error:
            problems.append(Problem(file.name, place, told(error, f"{file.name}: {place}")))
            first = min(first, number)
    return problems, first


def _unlisted(shard: Shard, begin: int) -> Iterator[tuple[list[Piece], BatchIndex]]:
    """The whole groups that follow those of the journal."""
    pieces: list[Piece] = []
    group: list[Any] = []
    for piece, batch in shard.walk(begin):
        group.append(batch)
        pieces.append(piece)
        try:
            if sum(rows_of(group[0])) > sum(each.rows for each in pieces):
                continue
            yield pieces, index_of(group, f"{shard.name}: byte {piece.offset}")
        except DamagedTraceError:
            return
        pieces, group = [], []


def _joined(batches: Sequence[Any], name: str, missing: Any, dtype: Any) -> npt.NDArray[Any]:
    """A column of all batches, with a value for nulls."""
    columns = [batch.column(name).fill_null(missing).to_numpy(zero_copy_only=False) for batch in batches]
    return np.concatenate(columns).astype(dtype)


def _has_footer(shard: Shard) -> bool:
    """Whether a shard ends as a finished one does."""
    size = shard.file.size
    return bytes(memoryview(shard.file.read(max(0, size - len(END_MAGIC)), size))) == END_MAGIC
