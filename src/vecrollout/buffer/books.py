"""The books of a log: which of its rows are which episode, worked out from the notes when somebody asks."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

from vecrollout._typing import Array
from vecrollout.buffer.episodes import Discard, Ending, Piece, Restart, Run, Span
from vecrollout.buffer.log import StepLog
from vecrollout.buffer.memory import Chunk
from vecrollout.buffer.table import NOTES
from vecrollout.data.fields import trusted
from vecrollout.data.trajectory import EndedBy, Episode


@dataclass(frozen=True, slots=True)
class Books:
    """What is known of the log's episodes. Changes make new books, so that one assignment commits them.

    `finished` is shared by successive books and only grows; each knows how many of its entries count.
    """

    chunk: int
    """Number of the chunk whose notes are read next,"""
    read: int
    """and the record there."""
    running: tuple[Span | None, ...]
    """By environment; None: its episode is over, or none has begun."""
    finished: list[Run]
    count: int
    """How many of `finished` count."""
    next_id: int
    popped: int = 0
    delivered: int = 0
    dropped: int = 0
    discarded: frozenset[int] = frozenset()
    """Environments whose running episode is not recorded any more."""

    @property
    def taken(self) -> int:
        """Transitions that were popped, delivered or dropped."""
        return self.popped + self.delivered + self.dropped

    def runs(self) -> list[Run]:
        """The finished fragments, in the order of their ends."""
        return self.finished[: self.count]

    def with_finished(self, runs: Sequence[Run], **changes: Any) -> Books:
        """Books with more finished fragments."""
        if runs:
            # An interrupt may have left some behind that no books count.
            self.finished[self.count :] = runs
        return replace(self, count=self.count + len(runs), **changes)


class Bookkeeper:
    """Works out episodes from the notes of a log, and counts what leaves it. Each change is one assignment of `books`.

    Args:
        log: The log; it belongs to the same buffer.
        recording: Name of the recording.
        drops_early: Whether fragments of episodes that a reset ends early are dropped.
    """

    def __init__(self, log: StepLog, recording: str, drops_early: bool) -> None:
        self._log = log
        self.recording = recording
        """Name of the recording."""
        self._drops_early = drops_early
        self.books = Books(0, 0, (None,) * log.num_envs, [], 0, 0)
        """The books as they were settled last."""

    @property
    def stepped(self) -> int:
        """Transitions recorded so far."""
        return self._log.total if self._log.chunks else self.books.taken

    @property
    def held(self) -> int:
        """Transitions that can be popped."""
        # First the books: what others read meanwhile only grows.
        taken = self.books.taken
        return self.stepped - taken

    def settle(self) -> Books:
        """Bring the books up to the last record."""
        chunks, books = self._log.chunks, self.books
        if not chunks or (books.chunk == chunks[-1].number and books.read == len(chunks[-1].records)):
            return books
        running = [*books.running]
        finished: list[Run] = []
        next_id, dropped, begin = books.next_id, books.dropped, books.read
        discarded = books.discarded
        for chunk in chunks[books.chunk - chunks[0].number :]:
            end = len(chunk.records)
            for number in range(begin, end):
                for env, change, final, begins in chunk.records[number][NOTES] or ():
                    span, row = running[env], chunk.row(number, env)
                    seed, start_step = None, 0
                    if type(change) is Discard:
                        run = span and self._run(span, chunk, row)
                        dropped += run.steps if run else 0
                        running[env], discarded = None, discarded | {env}
                        continue
                    if type(change) is Restart:
                        seed, start_step = change.seed, change.start_step
                        run = span and self._run(span, chunk, row - 1, ended_by="reset_early")
                        if run and self._drops_early:
                            dropped += run.steps
                            run = None
                    elif change.drops_last:
                        dropped += span is not None
                        run = span and self._run(span, chunk, row - 1)
                    else:
                        run = span and self._run(span, chunk, row, change, final)
                    if run and run.steps:
                        finished.append(run)
                    running[env] = None
                    if discarded:
                        discarded -= {env}
                    if begins:
                        place = chunk.number, row, chunk.lane_row(number, env)
                        running[env] = Span(env, next_id, seed, change.reset_info, start_step, *place)
                        next_id += 1
            begin = 0
        self.books = books.with_finished(
            finished,
            chunk=chunks[-1].number,
            read=end,
            running=tuple(running),
            next_id=next_id,
            dropped=dropped,
            discarded=discarded,
        )
        return self.books

    def fragments(self, ended_by: EndedBy | None = None) -> list[Run]:
        """The running fragments with steps, by environment."""
        books = self.settle()
        if not self._log.chunks:
            return []
        last, record = self._log.chunks[-1], books.read - 1
        spans = [span for span in books.running if span is not None]
        runs = [self._run(span, last, last.row(record, span.env), ended_by=ended_by) for span in spans]
        return [run for run in runs if run.steps]

    def pop(self, runs: Sequence[Run], fragments: Sequence[Run]) -> None:
        """Take out all finished fragments, and these running ones."""
        books = self.books
        popped = books.popped + sum(run.steps for run in runs) + sum(run.steps for run in fragments)
        self.books = replace(books, finished=[], count=0, running=self._moved(fragments), popped=popped)

    def take_delivered(self, count: int) -> None:
        """Take out the first finished fragments, which went to the sink."""
        steps = sum(run.steps for run in self.books.finished[:count])
        self.books = replace(self._without(count), delivered=self.books.delivered + steps)

    def drop_oldest(self, steps: int) -> None:
        """Drop the oldest finished fragments, until these steps or all are gone."""
        books = self.settle()
        count = dropped = 0
        while count < books.count and dropped < steps:
            dropped += books.finished[count].steps
            count += 1
        self.books = replace(self._without(count), dropped=books.dropped + dropped)

    def drop_episode(self, episode_id: int | None) -> None:
        """Drop the finished fragments of an episode."""
        books = self.settle()
        rest = [run for run in books.runs() if run.episode.id != episode_id]
        dropped = sum(run.steps for run in books.runs()) - sum(run.steps for run in rest)
        self.books = replace(books, finished=rest, count=len(rest), dropped=books.dropped + dropped)

    def close_running(self, ended_by: EndedBy | None, envs: Collection[int] | None = None) -> None:
        """Make finished fragments of the running ones, or drop them where a reset ends them and that is asked for."""
        fragments = [run for run in self.fragments(ended_by) if envs is None or run.episode.env_index in envs]
        books, running = self.books, self._moved(fragments)
        discarded = books.discarded
        if ended_by is not None:
            running = tuple(span if envs is not None and env not in envs else None for env, span in enumerate(running))
            discarded = frozenset() if envs is None else discarded.difference(envs)
        if ended_by == "reset_early" and self._drops_early:
            dropped = books.dropped + sum(run.steps for run in fragments)
            self.books = replace(books, running=running, discarded=discarded, dropped=dropped)
        else:
            self.books = books.with_finished(fragments, running=running, discarded=discarded)

    def move_running(self, copies: Sequence[Run]) -> None:
        """The running fragments were copied out of the log, and go on in the first row of its last chunk."""
        before = {run.episode.env_index: run.pieces for run in copies}
        episodes = [span and self.episode(span) for span in self.books.running]
        self.books = replace(self.books, running=self._spans(episodes, before))

    def restore(
        self,
        runs: Sequence[Run],
        finished: int,
        running: Sequence[Episode | None],
        discarded: Sequence[int],
        next_id: int,
        popped: int,
        delivered: int,
        dropped: int,
    ) -> None:
        """Begin with these books: runs of which the first ones are finished, and episodes that run."""
        books = replace(self.books, next_id=next_id, popped=popped, delivered=delivered, dropped=dropped)
        books = replace(books, discarded=frozenset(discarded))
        if self._log.chunks:
            before = {run.episode.env_index: run.pieces for run in runs[finished:]}
            books = books.with_finished(runs[:finished], read=1, running=self._spans(running, before))
        self.books = books

    def episode(self, span: Span, ended_by: EndedBy | None = None) -> Episode:
        """The identity of a span's steps."""
        return trusted(
            Episode,
            {
                "id": span.id,
                "env_index": span.env,
                "start_step": span.start_step,
                "seed": span.seed,
                "reset_info": span.reset_info,
                "ended_by": ended_by,
                "recording": self.recording,
            },
        )

    def _spans(
        self, episodes: Sequence[Episode | None], before: dict[int | None, tuple[Piece, ...]]
    ) -> tuple[Span | None, ...]:
        """Spans of episodes that go on in the first row of the last chunk."""
        last = self._log.chunks[-1]
        return tuple(
            None
            if episode is None
            else Span(
                env,
                episode.id or 0,
                episode.seed,
                None if episode.reset_info is None else dict(episode.reset_info),
                episode.start_step,
                *(last.number, last.row(0, env), last.lane_row(0, env)),
                before.get(env, ()),
            )
            for env, episode in enumerate(episodes)
        )

    def _without(self, count: int) -> Books:
        rest = self.books.finished[count : self.books.count]
        return replace(self.books, finished=rest, count=len(rest))

    def _moved(self, fragments: Sequence[Run]) -> tuple[Span | None, ...]:
        """The running spans after these fragments of them were handed out."""
        books = self.books
        if not fragments:
            return books.running
        running = [*books.running]
        last, record = self._log.chunks[-1], books.read - 1
        for run in fragments:
            env = run.episode.env_index or 0
            span = running[env]
            if span is not None:
                place = last.number, last.row(record, env), last.lane_row(record, env)
                running[env] = Span(*span[:4], span.start_step + run.steps, *place)
        return tuple(running)

    def _run(
        self,
        span: Span,
        chunk: Chunk,
        row: int,
        ending: Ending | None = None,
        final: Sequence[Array] | None = None,
        ended_by: EndedBy | None = None,
    ) -> Run:
        """The steps of a span up to a row of a chunk."""
        if span.chunk == chunk.number and not span.before:
            # As most are that end; the sum below costs more than all this.
            steps = max(row - span.row, 0)
            pieces: tuple[Piece, ...] = (Piece(chunk, span.env, span.row, steps, span.lane),)
        else:
            pieces = self._pieces(span, chunk, row)
            steps = sum(piece.steps for piece in pieces)
        if ending is None:
            return Run(pieces, steps, self.episode(span, ended_by))
        episode = self.episode(span, "terminated" if ending.terminated else "truncated")
        return Run(pieces, steps, episode, ending.terminated, ending.truncated, final, ending.info)

    def _pieces(self, span: Span, chunk: Chunk, row: int) -> tuple[Piece, ...]:
        """Where the steps of a span lie, up to a row of a chunk."""
        if span.chunk == chunk.number:
            steps = max(row - span.row, 0)
            return (*span.before, Piece(chunk, span.env, span.row, steps, span.lane)) if steps > 0 else span.before
        pieces = [*span.before]
        first = self._log.chunks[0].number
        for each in self._log.chunks[span.chunk - first : chunk.number - first + 1]:
            begin, lane = (span.row, span.lane) if each.number == span.chunk else (0, each.lane_row(0, span.env))
            end = row if each is chunk else each.row(-1, span.env)
            if end > begin:
                pieces.append(Piece(each, span.env, begin, end - begin, lane))
        return tuple(pieces)
