"""Which rows of the log are which episode: worked out from the notes of the records when somebody asks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from vecrollout._typing import Array, Info
from vecrollout.buffer.log import NOTES, Chunk
from vecrollout.data.fields import trusted
from vecrollout.data.trajectory import EndedBy, Episode
from vecrollout.data.trees import Tree


# Neither is frozen: that makes one several times as expensive, and most of what short episodes cost is making these.
@dataclass(slots=True, eq=False)
class Ending:
    """An episode that ended with a step."""

    at: int
    """Where in the step's arrays the environment stands: its index, unless only some environments stepped."""
    terminated: bool
    truncated: bool
    final_obs: Tree | None
    """The episode's last observation, where the step's own observation begins the next episode already. None: the
    step's own is the last one, and the environment waits to be reset."""
    info: Info | None = None
    """The step's info, the buffer's to keep. None: it is among the step's infos like those of the others."""
    reset_info: Info | None = None
    """Info of the reset that began the next episode, if one did."""
    drops_last: bool = False
    """Whether the last observation is lost: the step's own begins the next episode, and the transition is dropped."""


@dataclass(slots=True, eq=False)
class Restart:
    """An environment that was reset in place of a step: its observation begins an episode."""

    at: int
    """Where in the step's arrays the environment stands."""
    reset_info: Info | None
    seed: int | None = None
    """Seed given to the reset, where it is known."""
    start_step: int = 0
    """How far the episode has come already."""


class Note(NamedTuple):
    """What a record says about an episode."""

    env: int
    change: Ending | Restart
    final: Sequence[Array] | None
    """Leaves of the last observation, where they do not lie in lanes."""


class Piece(NamedTuple):
    """Steps of one environment in one chunk."""

    chunk: Chunk
    env: int
    row: int
    """Row of the observation before the first step."""
    steps: int
    lane: int
    """The same row in the lanes."""


class Span(NamedTuple):
    """An environment's running fragment."""

    env: int
    id: int
    seed: int | None
    reset_info: Info | None
    start_step: int
    """Index in the episode of the fragment's first step."""
    chunk: int
    """Number of the chunk that the fragment begins in,"""
    row: int
    """the row there,"""
    lane: int
    """and the row in its lanes."""
    before: tuple[Piece, ...] = ()
    """Earlier steps, which were copied out of their chunks."""


class Run(NamedTuple):
    """Steps of one episode, in their places: what becomes a trajectory."""

    pieces: tuple[Piece, ...]
    steps: int
    episode: Episode
    terminated: bool = False
    truncated: bool = False
    final: Sequence[Array] | None = None
    """Leaves of the last observation, where it is not the row behind the last step."""
    info: Info | None = None
    """Info of the last step, where it is not the row's."""

    @property
    def terminal(self) -> bool:
        """Whether the environment ended the episode with the last step."""
        return self.terminated or self.truncated


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

    def runs(self) -> list[Run]:
        """The finished fragments, in the order of their ends."""
        return self.finished[: self.count]

    def with_finished(self, runs: Sequence[Run], **changes: Any) -> Books:
        """Books with more finished fragments."""
        if runs:
            # An interrupt may have left some behind that no books count.
            self.finished[self.count :] = runs
        return replace(self, count=self.count + len(runs), **changes)


class Reader:
    """Works out episodes from the notes.

    Args:
        recording: Name of the recording.
        drops_early: Whether fragments of episodes that a reset ends early are dropped.
    """

    def __init__(self, recording: str, drops_early: bool) -> None:
        self._recording = recording
        self._drops_early = drops_early

    def read(self, books: Books, log: Sequence[Chunk]) -> Books:
        """The books with what the log says since they were written.

        Args:
            books: They stay as they are, but for what lies behind the part of `finished` that counts.
            log: The chunks, those that the books still need among them.
        """
        last = log[-1]
        if books.chunk == last.number and books.read == len(last.records):
            return books
        running = [*books.running]
        finished: list[Run] = []
        next_id, dropped, begin = books.next_id, books.dropped, books.read
        for chunk in log[books.chunk - log[0].number :]:
            end = len(chunk.records)
            for number in range(begin, end):
                notes = chunk.records[number][NOTES]
                if notes is None:
                    continue
                for env, change, final in notes:
                    span = running[env]
                    row = chunk.row(number, env)
                    if type(change) is Restart:
                        begins, seed, start_step = True, change.seed, change.start_step
                        if span is not None:
                            run = self._run(span, log, chunk, row - 1, ended_by="reset_early")
                            if self._drops_early:
                                dropped += run.steps
                            elif run.steps:
                                finished.append(run)
                    else:
                        begins, seed, start_step = change.final_obs is not None or change.drops_last, None, 0
                        if change.drops_last:
                            dropped += 1
                            run = self._run(span, log, chunk, row - 1)
                        else:
                            run = self._run(span, log, chunk, row, change, final)
                        if run.steps:
                            finished.append(run)
                    running[env] = None
                    if begins:
                        lane = chunk.lane_row(number, env)
                        running[env] = Span(env, next_id, seed, change.reset_info, start_step, chunk.number, row, lane)
                        next_id += 1
            begin = 0
        return books.with_finished(
            finished,
            chunk=last.number,
            read=end,
            running=tuple(running),
            next_id=next_id,
            dropped=dropped,
        )

    def fragments(self, books: Books, log: Sequence[Chunk], ended_by: EndedBy | None = None) -> list[Run]:
        """The running fragments with steps, by environment."""
        last, record = log[-1], books.read - 1
        runs = [
            self._run(span, log, last, last.row(record, span.env), ended_by=ended_by)
            for span in books.running
            if span is not None
        ]
        return [run for run in runs if run.steps]

    def moved(self, books: Books, log: Sequence[Chunk], fragments: Sequence[Run]) -> tuple[Span | None, ...]:
        """The running spans after these fragments of them were handed out."""
        last, record = log[-1], books.read - 1
        running = [*books.running]
        for run in fragments:
            env = run.episode.env_index or 0
            span = running[env]
            if span is not None:
                start_step = span.start_step + run.steps
                row, lane = last.row(record, env), last.lane_row(record, env)
                running[env] = Span(*span[:4], start_step, last.number, row, lane)
        return tuple(running)

    def _run(
        self,
        span: Span | None,
        log: Sequence[Chunk],
        chunk: Chunk,
        row: int,
        ending: Ending | None = None,
        final: Sequence[Array] | None = None,
        ended_by: EndedBy | None = None,
    ) -> Run:
        """The steps of a span up to a row of a chunk."""
        if span is None:
            return Run((), 0, Episode())
        pieces = pieces_of(span, log, chunk, row)
        steps = sum(piece.steps for piece in pieces)
        terminated = truncated = False
        info = None
        if ending is not None:
            terminated, truncated, info = ending.terminated, ending.truncated, ending.info
            ended_by = "terminated" if terminated else "truncated"
        return Run(pieces, steps, self.episode(span, ended_by), terminated, truncated, final, info)

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
                "recording": self._recording,
            },
        )

    def span(self, episode: Episode, env: int, chunk: Chunk, before: tuple[Piece, ...]) -> Span:
        """The span of an episode that goes on in the first row of a chunk."""
        info = None if episode.reset_info is None else dict(episode.reset_info)
        place = chunk.number, chunk.row(0, env), chunk.lane_row(0, env)
        return Span(env, episode.id or 0, episode.seed, info, episode.start_step, *place, before)


def pieces_of(span: Span, log: Sequence[Chunk], chunk: Chunk, row: int) -> tuple[Piece, ...]:
    """Where the steps of a span lie, up to a row of a chunk."""
    if span.chunk == chunk.number:
        steps = row - span.row
        return (*span.before, Piece(chunk, span.env, span.row, steps, span.lane)) if steps > 0 else span.before
    pieces = [*span.before]
    first = log[0].number
    for each in log[span.chunk - first : chunk.number - first + 1]:
        begin, lane = (span.row, span.lane) if each.number == span.chunk else (0, each.lane_row(0, span.env))
        end = row if each is chunk else each.row(-1, span.env)
        if end > begin:
            pieces.append(Piece(each, span.env, begin, end - begin, lane))
    return tuple(pieces)
