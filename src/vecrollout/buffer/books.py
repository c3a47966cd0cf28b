"""The books of a log: which of its rows are which episode, worked out from the notes when somebody asks."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from vecrollout.buffer.episodes import Discard, Ending, Note, Piece, Restart, Run, Span
from vecrollout.buffer.log import StepLog
from vecrollout.buffer.memory import Chunk
from vecrollout.buffer.table import NOTES, PLACE
from vecrollout.data.fields import trusted
from vecrollout.data.trajectory import EndedBy, Episode


@dataclass(eq=False)  # not frozen: that takes several times as long to make
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

    def but(self, **changes: Any) -> Books:
        """Books with other entries. `dataclasses.replace` takes twenty times as long."""
        return trusted(Books, {**vars(self), **changes})

    def with_finished(self, runs: Sequence[Run], **changes: Any) -> Books:
        """Books with more finished fragments."""
        if runs:
            # An interrupt may have left some behind that no books count.
            self.finished[self.count :] = runs
        return self.but(count=self.count + len(runs), **changes)

    def without(self, count: int, **changes: Any) -> Books:
        """Books without the first finished fragments."""
        rest = self.finished[count : self.count]
        return self.but(finished=rest, count=len(rest), **changes)


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
            records = chunk.records
            end = len(records)
            for number in range(begin, end):
                record = records[number]
                notes = record[NOTES]
                if not notes:
                    continue
                place = record[PLACE]
                for note in notes:
                    env = note.env
                    row, lane = (number, 0) if place is None else place.of(env, number)
                    span, running[env] = running[env], None
                    if span is not None:
                        run, lost = self._ended(span, chunk, row, note)
                        dropped += lost
                        if run is not None and run.steps:
                            finished.append(run)
                    if type(note) is Discard:
                        discarded |= {env}
                    elif discarded:
                        discarded -= {env}
                    if note.begins:
                        seed, start_step = (note.seed, note.start_step) if type(note) is Restart else (None, 0)
                        running[env] = Span(
                            self.recording, env, next_id, seed, note.reset_info, start_step, chunk.number, row, lane
                        )
                        next_id += 1
            begin = 0
        if finished:
            # An interrupt may have left some behind that no books count.
            books.finished[books.count :] = finished
        # Not by `but`: this is a part of what the end of an episode costs.
        self.books = Books(
            chunks[-1].number,
            end,
            tuple(running),
            books.finished,
            books.count + len(finished),
            next_id,
            books.popped,
            books.delivered,
            dropped,
            discarded,
        )
        return self.books

    def fragments(self, closed_by: EndedBy | None = None) -> list[Run]:
        """The running fragments with steps, by environment."""
        books = self.settle()
        if not self._log.chunks:
            return []
        last = self._log.chunks[-1]
        spans = [span for span in books.running if span is not None]
        runs = [self._run(span, last, last.row(-1, span.env), closed_by=closed_by) for span in spans]
        return [run for run in runs if run.steps]

    def pop(self, runs: Sequence[Run], fragments: Sequence[Run]) -> None:
        """Take out all finished fragments, and these running ones."""
        popped = self.books.popped + sum(run.steps for run in [*runs, *fragments])
        self.books = self.books.without(len(runs), running=self._moved(fragments), popped=popped)

    def take_delivered(self, count: int, steps: int) -> None:
        """Take out the first finished fragments, which went to the sink."""
        self.books = self.books.without(count, delivered=self.books.delivered + steps)

    def drop_oldest(self, steps: int) -> None:
        """Drop the oldest finished fragments, until these steps or all are gone."""
        books = self.settle()
        count = dropped = 0
        while count < books.count and dropped < steps:
            dropped += books.finished[count].steps
            count += 1
        self.books = books.without(count, dropped=books.dropped + dropped)

    def drop_episode(self, episode_id: int | None) -> None:
        """Drop the finished fragments of an episode."""
        books = self.settle()
        rest = [run for run in books.runs() if run.span.id != episode_id]
        dropped = sum(run.steps for run in books.runs()) - sum(run.steps for run in rest)
        self.books = books.but(finished=rest, count=len(rest), dropped=books.dropped + dropped)

    def close_running(self, ended_by: EndedBy | None, envs: Collection[int] | None = None) -> None:
        """Make finished fragments of the running ones, or drop them where a reset ends them and that is asked for."""
        if not any(self.settle().running) and not self.books.discarded:
            return
        fragments = [run for run in self.fragments(ended_by) if envs is None or run.span.env in envs]
        books, running = self.books, self._moved(fragments)
        discarded = books.discarded
        if ended_by is not None:
            running = tuple(span if envs is not None and env not in envs else None for env, span in enumerate(running))
            discarded = frozenset() if envs is None else discarded.difference(envs)
        if ended_by == "reset_early" and self._drops_early:
            dropped = books.dropped + sum(run.steps for run in fragments)
            self.books = books.but(running=running, discarded=discarded, dropped=dropped)
        else:
            self.books = books.with_finished(fragments, running=running, discarded=discarded)

    def move_running(self, copies: Sequence[Run]) -> None:
        """The running fragments were copied out of the log, and go on in the first row of its last chunk."""
        self.books = self.books.but(running=self._here(self.books.running, copies))

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
        books = self.books.but(
            next_id=next_id, popped=popped, delivered=delivered, dropped=dropped, discarded=frozenset(discarded)
        )
        if self._log.chunks:
            spans = [None if episode is None else Span.of_episode(episode) for episode in running]
            books = books.with_finished(runs[:finished], read=1, running=self._here(spans, runs[finished:]))
        self.books = books

    def _here(self, spans: Sequence[Span | None], copies: Sequence[Run]) -> tuple[Span | None, ...]:
        """Spans that go on in the log's last row, with their steps so far in copies."""
        before = {run.span.env: run.pieces for run in copies}
        return tuple(span and span.later(0, *self._place(span.env), before.get(span.env, ())) for span in spans)

    def _moved(self, fragments: Sequence[Run]) -> tuple[Span | None, ...]:
        """The running spans after these fragments of them were handed out."""
        if not fragments:
            return self.books.running
        running = [*self.books.running]
        for run in fragments:
            running[run.span.env] = run.span.later(run.steps, *self._place(run.span.env))
        return tuple(running)

    def _place(self, env: int) -> tuple[int, int, int]:
        """Chunk, row and row in the lanes of an environment's current observation."""
        last = self._log.chunks[-1]
        return last.number, last.row(-1, env), last.lane_row(-1, env)

    def _ended(self, span: Span, chunk: Chunk, row: int, note: Note) -> tuple[Run | None, int]:
        """What a note makes of a running fragment: a finished one, and the transitions that it drops."""
        if type(note) is Ending:
            # Without a last observation, the last transition is lost.
            return (self._run(span, chunk, row - 1), 1) if note.drops_last else (self._run(span, chunk, row, note), 0)
        if type(note) is Discard:
            return None, self._run(span, chunk, row).steps
        run = self._run(span, chunk, row - 1, closed_by="reset_early")
        return (None, run.steps) if self._drops_early else (run, 0)

    def _run(
        self, span: Span, chunk: Chunk, row: int, ending: Ending | None = None, closed_by: EndedBy | None = None
    ) -> Run:
        """The steps of a span up to a row of a chunk."""
        pieces: tuple[Piece, ...]
        if span.chunk == chunk.number and not span.before:
            # As most are that end; the sum below costs more than all this.
            steps = max(row - span.row, 0)
            pieces = (Piece(chunk, span.env, span.row, steps, span.lane),)
        else:
            pieces = self._pieces(span, chunk, row)
            steps = sum(piece.steps for piece in pieces)
        return Run(span, pieces, steps, ending, closed_by)

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
