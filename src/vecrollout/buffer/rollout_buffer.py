"""The rollout buffer: what E environments do, step after step, until it is popped."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import inf
from typing import Any

import numpy as np

from vecrollout._typing import Array, Info
from vecrollout.buffer.checkpoint import COUNTERS, Snapshot, dump, restore
from vecrollout.buffer.episodes import Books, Ending, Note, Reader, Restart, Run
from vecrollout.buffer.gather import LogColumns, stored_runs
from vecrollout.buffer.infos import BatchedInfos, deep_copied
from vecrollout.buffer.layout import Layout, check, leaves_of, part_of
from vecrollout.buffer.log import LEAVES, PLACE, TOTAL, WAITING, Chunk, Lanes, Place, Record
from vecrollout.buffer.options import RecordOptions
from vecrollout.data.batch import TrajectoryBatch
from vecrollout.data.trajectory import EndedBy, TrajectoryWithRew
from vecrollout.data.transitions import TransitionsWithRew
from vecrollout.data.trees import Tree
from vecrollout.errors import (
    BufferFullError,
    EmptyBufferError,
    OptionError,
    PrematureResetError,
    ProtocolError,
    ShapeError,
)

_ndarray = np.ndarray
# Fragments are copied out of the log where it holds so many times the rows that are needed.
_MOST_PINNED = 4
_FEW_CHUNKS = 3


class RolloutBuffer:
    """Gathers the steps of E environments and hands them out as trajectories or transitions.

    It knows no environment: a wrapper tells it what was reset (`reset`), which actions are about to be taken (`act`)
    and what came of them (`step`). All arrays are copied on entry. It belongs to the thread that steps; others may read
    its properties. `stepped == held + popped + delivered + dropped` after every call, also one that raised.
    """

    def __init__(self, num_envs: int, options: RecordOptions | None = None, *, recording: str | None = None) -> None:
        options = options or RecordOptions()
        most = options.max_transitions
        if most is not None and most < num_envs:
            raise OptionError(
                f"max_transitions: expected at least {num_envs}, one step of all environments, got {most}"
            )
        self.num_envs = num_envs
        self.options = options
        self.recording = recording or secrets.token_hex(8)
        """Random name of the recording."""
        self.keeps_infos = options.record_infos != "none"
        self.info_keys = None if isinstance(options.record_infos, str) else tuple(options.record_infos)
        self._reader = Reader(self.recording, options.early_reset == "drop")
        # The chunks that are needed; the last one takes the steps. Replaced, never altered.
        self._log: tuple[Chunk, ...] = ()
        self._books = Books(0, 0, (None,) * num_envs, [], 0, 0)
        self._ready = False  # whether a step may follow: reset, and no failure since
        self._acts: Any = None  # copies of the actions that no step has answered yet
        self._sent: list[Array] | None = None  # the same by environment, where some act at a time
        self._room = 0  # steps that surely fit; 0 lets the next `act` look

    # What happened

    @property
    def waiting(self) -> frozenset[int]:
        """Environments whose episode has ended, or that have not begun any."""
        return self._log[-1].records[-1][WAITING] if self._log else frozenset(range(self.num_envs))

    @property
    def is_pending(self) -> bool:
        """Whether actions were taken that no step has answered yet."""
        return self._acts is not None

    def check_step(self) -> None:
        """Refuse a step whose actions are not known."""
        if self._acts is None:
            raise self._out_of_order("expected step_async() first: no actions wait for a step")

    def act(self, acts: Tree, envs: Array | None = None) -> None:
        """Keep the actions that are about to be taken: those of all environments, or one for each of `envs`."""
        if self._room < 1 or not self._ready or envs is not None or self._acts is not None:
            self._prepare(envs)
        chunk = self._log[-1] if self._log else None
        if (
            chunk is not None
            and type(acts) is _ndarray
            and acts.dtype is chunk.act_dtype
            and acts.shape == chunk.act_shape
            and envs is None
        ):
            self._acts = (acts.tobytes(),)
            return
        self._act(acts, envs)

    def withdraw(self) -> None:
        """Forget the actions last given to `act`: the environment refused them."""
        self._acts = None

    def abort(self) -> None:
        """The step failed: forget it. What was recorded before stays; stepping goes on after a reset of all."""
        self._acts, self._ready = None, False

    def step(
        self,
        obs: Tree,
        rews: Array,
        infos: Sequence[Info] | BatchedInfos,
        endings: Sequence[Ending] = (),
        restarts: Sequence[Restart] = (),
        envs: Array | None = None,
    ) -> None:
        """Record what came of the actions last given to `act`.

        Args:
            obs: Observations, `(E, *obs_shape)`, or one for each of `envs`.
            rews: Rewards, `(E,)`, or one for each of `envs`.
            infos: Infos, likewise; dicts are kept by reference but for those of `endings`.
            endings: The episodes that ended, in order.
            restarts: The waiting environments that were reset in place of a step.
            envs: Which environments stepped, shape `(n,)`, int, each at most once; None: all.
        """
        acts = self._acts
        if acts is None:
            self.check_step()
        chunk = self._log[-1] if self._log else None
        if (
            chunk is not None
            and not endings
            and not restarts
            and type(obs) is _ndarray
            and obs.dtype is chunk.obs_dtype
            and obs.shape == chunk.obs_shape
            and type(rews) is _ndarray
            and rews.dtype is chunk.rew_dtype
            and rews.shape == chunk.rew_shape
            and len(infos) == self.num_envs
            and not chunk.is_ragged
            and not chunk.records[-1][WAITING]
            and envs is None
        ):
            self._room -= 1
            kept = (
                ()
                if not self.keeps_infos
                else tuple(infos)
                if type(infos) is list and self.info_keys is None
                else self._kept(infos)
            )
            total, waiting = chunk.records[-1][:2]
            chunk.append((total + self.num_envs, waiting, None, kept, None, rews.tobytes(), obs.tobytes(), *acts))
            self._acts = None
            return
        self._step(obs, rews, infos, endings, restarts, envs)

    def check_reset(self, mask: Array | None = None) -> None:
        """Refuse a reset in the middle of an episode while transitions are held.

        Args:
            mask: Which environments are to be reset, shape `(E,)`, bool; None: all. Resetting none but environments
                whose episodes have ended is never refused.
        """
        if mask is not None and self.waiting.issuperset(np.flatnonzero(mask).tolist()):
            return
        held = self.held
        if held:
            raise PrematureResetError(
                f"reset() before samples were accessed: {held} transitions are held; pop them first, or pass "
                "error_on_premature_reset=False"
            )

    def reset(
        self,
        obs: Tree,
        seeds: Sequence[int | None] = (),
        infos: Sequence[Info] | BatchedInfos = (),
        mask: Array | None = None,
        start_steps: Sequence[int] = (),
    ) -> None:
        """Begin an episode in every environment, or in some; running ones are closed or dropped.

        Args:
            obs: First observations, `(E, *obs_shape)`; those of environments that are not reset are not looked at.
            seeds: Seed given to each environment's reset; empty: not known.
            infos: Info returned by each environment's reset; empty: not known.
            mask: Which environments were reset, shape `(E,)`, bool; None: all.
            start_steps: How far each environment's episode has come already; empty: they begin.
        """
        envs = None if mask is None or mask.all() else np.flatnonzero(mask)
        was_ready, self._ready = self._ready or not self._log, False
        if envs is None:
            self._acts = None
        leaves = self._first_leaves(obs, fixed=envs is not None or self.held > 0)
        notes = [
            Note(
                env,
                Restart(
                    env,
                    deep_copied(infos[env]) if len(infos) else None,
                    seeds[env] if seeds else None,
                    start_steps[env] if start_steps else 0,
                ),
                None,
            )
            for env in (range(self.num_envs) if envs is None else envs.tolist())
        ]
        waiting = frozenset() if envs is None else self.waiting.difference(envs.tolist())
        if self._log and leaves is not None:
            if self._log[-1].free_steps() < 1:
                self._roll()
            self._append(notes, waiting, 0, leaves if envs is None else [leaf[envs] for leaf in leaves], envs)
        else:
            self._begin(part_of(obs, self.num_envs, "obs"), obs, notes, waiting)
        self._settle()
        self._deliver()
        self._room = 0
        self._ready = envs is None or was_ready

    def await_episodes(self) -> None:
        """All environments are being reset: each begins an episode by a `Restart` in a step to come."""
        self._close_running("reset_early")
        self._books = replace(self._books, running=(None,) * self.num_envs)
        if self._log:
            self._roll(waiting=frozenset(range(self.num_envs)))
        self._ready, self._acts = True, ()

    def close(self) -> None:
        """Close the running episodes (`"closed"`); they can then be popped as finished ones, or go to the sink."""
        self._ready, self._acts = False, None
        self._close_running("closed")
        self._books = replace(self._books, running=(None,) * self.num_envs)

    # What is held

    @property
    def stepped(self) -> int:
        """Transitions recorded so far."""
        return (
            int(self._log[-1].records[-1][TOTAL])
            if self._log
            else self._books.popped + self._books.delivered + self._books.dropped
        )

    @property
    def held(self) -> int:
        """Transitions that can be popped."""
        books = self._books
        return self.stepped - books.popped - books.delivered - books.dropped

    @property
    def popped(self) -> int:
        """Transitions popped so far."""
        return self._books.popped

    @property
    def delivered(self) -> int:
        """Transitions that the sink took so far."""
        return self._books.delivered

    @property
    def dropped(self) -> int:
        """Transitions dropped so far."""
        return self._books.dropped

    def episode_steps(self, env: int) -> int:
        """Steps of an environment's running episode so far, popped ones included."""
        self._settle()
        span = self._books.running[env]
        fragments = self._fragments()
        steps = sum(run.steps for run in fragments if run.episode.env_index == env)
        return steps + (span.start_step if span else 0)

    def current_obs(self, env: int) -> Any:
        """An environment's current observation, as a copy."""
        chunk = self._log[-1]
        leaves = [chunk.current(LEAVES + leaf)[env, ...] for leaf in range(len(chunk.layout.obs.items))]
        return chunk.layout.obs.structure.unflatten(leaves)

    def pop_finished_trajectories(self) -> tuple[list[TrajectoryWithRew], list[int]]:
        """Finished trajectories in the order of their ends, and the whole lengths of the episodes completed."""
        return self._pop_trajectories([])

    def pop_trajectories(self) -> tuple[list[TrajectoryWithRew], list[int]]:
        """Finished trajectories, then running fragments by environment; the lengths of the episodes completed."""
        return self._pop_trajectories(self._fragments())

    def pop_transitions(self) -> TransitionsWithRew:
        """All transitions held, in the order of `pop_trajectories`."""
        fragments = self._fragments()
        runs = [*self._settle().runs(), *fragments]
        if not runs:
            raise EmptyBufferError(
                "pop_transitions() on an empty buffer: no transitions were recorded since the last pop"
            )
        transitions = self._columns(runs).transitions()
        self._forget(runs, fragments)
        return transitions  # type: ignore[return-value]  # a recorder has rewards

    def state_dict(self) -> dict[str, Array]:
        """Everything held and counted, as a flat dict of arrays that need no pickle to be stored."""
        fragments = self._fragments()
        books = self._settle()
        runs = [*books.runs(), *fragments]
        chunk = self._log[-1] if self._log else None
        return dump(
            Snapshot(
                recording=self.recording,
                counters={name: getattr(self, name) for name in COUNTERS},
                next_id=books.next_id,
                is_ready=self._ready,
                waiting=sorted(self.waiting),
                keeps_infos=self.keeps_infos,
                finished=books.count,
                running=[None if span is None else self._reader.episode(span) for span in books.running],
                fragments=TrajectoryBatch(self._columns(runs)) if runs else None,
                obs=chunk.layout.obs if chunk else None,
                current=[chunk.current(LEAVES + i) for i in range(len(chunk.layout.obs.items))] if chunk else [],
            )
        )

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put a state from `state_dict` in place of everything held and counted."""
        snapshot = restore(state, self.num_envs, self.keeps_infos)
        other = RolloutBuffer(self.num_envs, self.options, recording=snapshot.recording)
        other._fill(snapshot)
        # The whole state: what other has, this has from here on.
        self.__dict__.update(other.__dict__)

    def _fill(self, snapshot: Snapshot) -> None:
        counters = snapshot.counters
        books = replace(
            self._books,
            next_id=snapshot.next_id,
            **{name: counters[name] for name in ("popped", "delivered", "dropped")},
        )
        self._ready = snapshot.is_ready
        if snapshot.obs is None:
            self._books = books
            return
        batch = snapshot.fragments
        runs = [] if batch is None else stored_runs(batch)
        layout = Layout(self.num_envs, snapshot.obs)
        if batch is not None:
            layout = replace(layout, acts=batch.kind.acts, rews=batch.kind.rews)
        self._enter(layout, snapshot.current, None, frozenset(snapshot.waiting), counters["stepped"])
        before = {run.episode.env_index: run.pieces for run in runs[snapshot.finished :]}
        self._books = replace(
            books.with_finished(runs[: snapshot.finished]),
            chunk=0,
            read=1,
            running=tuple(
                None if each is None else self._reader.span(each, env, self._log[0], before.get(env, ()))
                for env, each in enumerate(snapshot.running)
            ),
        )

    def _pop_trajectories(self, fragments: list[Run]) -> tuple[list[TrajectoryWithRew], list[int]]:
        finished = self._settle().runs()
        runs = [*finished, *fragments]
        trajectories: list[Any] = list(TrajectoryBatch(self._columns(runs))) if runs else []
        lengths = [run.episode.start_step + run.steps for run in finished if run.terminal]
        self._forget(runs, fragments)
        return trajectories, lengths

    def _columns(self, runs: Sequence[Run]) -> LogColumns:
        return LogColumns(runs, self._log[-1].layout, self.keeps_infos)

    def _forget(self, popped: Sequence[Run], fragments: Sequence[Run]) -> None:
        """Let go of the finished fragments and these running ones. A pop commits here, as its last act."""
        books = self._books
        running = self._reader.moved(books, self._log, fragments) if fragments else books.running
        steps = books.popped + sum(run.steps for run in popped)
        self._room = 0
        self._books = replace(books, finished=[], count=0, running=running, popped=steps)

    def _fragments(self, ended_by: EndedBy | None = None) -> list[Run]:
        books = self._settle()
        return self._reader.fragments(books, self._log, ended_by) if self._log else []

    def _settle(self) -> Books:
        """Work out the episodes of the log so far."""
        if self._log:
            self._books = self._reader.read(self._books, self._log)
        return self._books

    # Towards a sink

    def _close_running(self, ended_by: EndedBy | None) -> None:
        """Make finished trajectories of the running fragments, or drop them where a reset ends them."""
        fragments = self._fragments(ended_by)
        if not self._log:
            return
        running = self._reader.moved(self._books, self._log, fragments)
        if ended_by == "reset_early" and self.options.early_reset == "drop":
            dropped = self._books.dropped + sum(run.steps for run in fragments)
            self._books = replace(self._books, running=running, dropped=dropped)
        else:
            self._books = self._books.with_finished(fragments, running=running)
        self._deliver()

    def _deliver(self) -> None:
        """Hand finished trajectories to the sink; those that it refuses stay held."""
        sink = self.options.sink
        if sink is None:
            return
        books = self._settle()
        runs = books.runs()
        if not runs:
            return
        for run in runs:
            for piece in run.pieces:
                if piece.chunk.lanes is not None:
                    piece.chunk.lanes.is_shared = True
        batch = TrajectoryBatch(self._columns(runs))
        if type(sink) is list:
            sink += batch[:]
            self._delivered(len(runs))
        elif hasattr(sink, "extend") and not isinstance(sink, list):
            sink.extend(batch)
            self._delivered(len(runs))
        else:
            for trajectory in batch:
                sink.append(trajectory)  # type: ignore[arg-type]  # a recorder has rewards
                self._delivered(1)

    def _delivered(self, count: int) -> None:
        books = self._books
        steps = sum(run.steps for run in books.finished[:count])
        rest = books.finished[count : books.count]
        self._books = replace(books, finished=rest, count=len(rest), delivered=books.delivered + steps)

    # How a step gets in

    def _prepare(self, envs: Array | None) -> None:
        """What `act` does now and then: refuse what comes out of order, and see that the next step fits."""
        if not self._ready or (self._acts is not None and envs is None):
            raise self._out_of_order("expected step_wait(): the last actions still wait for their step")
        if self._room < 1:
            self._make_room()

    def _make_room(self) -> None:
        limit, room = self.options.max_transitions, inf
        if limit is not None:
            on_full = self.options.on_full
            if on_full == "flush" and self.held + self.num_envs > limit:
                self._close_running(None)
            if on_full == "drop_oldest" and self.held + self.num_envs > limit:
                self._drop_oldest(self.held + self.num_envs - limit)
            if self.held + self.num_envs > limit:
                cure = {
                    "refuse": 'pop them, or pass on_full="drop_oldest"',
                    "drop_oldest": "raise max_transitions",
                    "flush": "the sink has to take them",
                }[on_full]
                raise BufferFullError(
                    f"{self.held} transitions are held, {self.num_envs} more would exceed max_transitions={limit}; "
                    f"{cure}. The environments were not stepped"
                )
            room = (limit - self.held) // self.num_envs
        if self._log:
            if self._log[-1].free_steps() < 1:
                self._roll()
            room = min(room, self._log[-1].free_steps())
        self._room = 1 if room == inf else int(room)

    def _drop_oldest(self, steps: int) -> None:
        books = self._settle()
        runs = books.runs()
        count = dropped = 0
        while count < len(runs) and dropped < steps:
            dropped += runs[count].steps
            count += 1
        rest = runs[count:]
        self._books = replace(books, finished=rest, count=len(rest), dropped=books.dropped + dropped)

    def _act(self, acts: Tree, envs: Array | None) -> None:
        """Actions of any kind: trees, objects, of some environments, or of a kind that is not known yet."""
        rows = self.num_envs if envs is None else len(envs)
        layout = self._log[-1].layout if self._log else None
        known = layout.acts if layout else None
        if layout is not None and known is not None and (self.held or self._sent is not None):
            leaves = leaves_of(known, acts, rows, "acts")
        else:
            part = part_of(acts, rows, "acts")
            if layout is not None and part != known:
                self._know(replace(layout, acts=part))
            leaves = leaves_of(part, acts, rows, "acts")
            known = part
        if envs is None:
            self._acts = tuple(item.kept(leaf) for item, leaf in zip(known.items, leaves, strict=True))
            return
        if self._sent is None:
            self._sent = [np.empty((self.num_envs, *item.shape), item.dtype) for item in known.items]
            self._sent_part = known
        for sent, leaf in zip(self._sent, leaves, strict=True):
            sent[envs] = leaf
        self._acts = ()

    def _know(self, layout: Layout) -> None:
        """Record data of another layout from here on."""
        chunk = self._log[-1]
        if chunk.has_steps():
            self._roll(layout)
        else:
            chunk.know(layout)

    def _step(
        self,
        obs: Tree,
        rews: Any,
        infos: Sequence[Info] | BatchedInfos,
        endings: Sequence[Ending],
        restarts: Sequence[Restart],
        envs: Array | None,
    ) -> None:
        """Any step that is not plain."""
        rows = self.num_envs if envs is None else len(envs)
        if not self._log:
            # An EnvPool's first observations: those of the other environments are still to come.
            part = part_of(obs, rows, "obs")
            first = part.structure.unflatten(np.zeros((self.num_envs, *item.shape), item.dtype) for item in part.items)
            self._begin(part, first, [], frozenset(range(self.num_envs)))
            if self._sent is not None:
                self._know(replace(self._log[-1].layout, acts=self._sent_part))
        layout = self._log[-1].layout
        fitted, rews = layout.with_rewards(rews, rows, is_fixed=self.held > 0)
        if len(infos) != rows:
            raise ShapeError(f"infos: expected {rows} dicts, one an environment, got {len(infos)}")
        leaves = leaves_of(layout.obs, obs, rows, "obs")
        notes: list[Note] = []
        for change in (*restarts, *endings):
            final = None
            if type(change) is Ending and change.final_obs is not None:
                final = self._final_leaves(layout, change)
            notes.append(Note(change.at if envs is None else int(envs[change.at]), change, final))
        if fitted is not layout:
            self._know(fitted)
        waiting = self.waiting
        skipped = len(waiting) if envs is None else len(waiting.intersection(envs.tolist()))
        if notes:
            begun = {note.env for note in notes if type(note.change) is Restart}
            over = {
                note.env
                for note in notes
                if type(note.change) is Ending and note.change.final_obs is None and not note.change.drops_last
            }
            waiting = waiting.difference(begun).union(over)
        acts = self._acts
        if envs is not None and self._sent is not None:
            items = self._sent_part.items
            acts = tuple(item.kept(sent[envs]) for item, sent in zip(items, self._sent, strict=True))
        self._room -= 1
        self._append(notes, waiting, rows - skipped, leaves, envs, rews, acts, self._kept(infos))
        self._acts = None if envs is None else ()
        if notes and self.options.sink is not None:
            self._deliver()

    def _append(
        self,
        notes: Sequence[Note],
        waiting: frozenset[int],
        steps: int,
        leaves: Sequence[Array],
        envs: Array | None,
        rews: Array | None = None,
        acts: tuple[Any, ...] | None = None,
        infos: Any = None,
    ) -> None:
        """Commit a record: of a step, or of a reset, which has no rewards and actions."""
        chunk = self._log[-1]
        layout = chunk.layout
        last = chunk.records[-1]
        rows = self.num_envs if envs is None else len(envs)
        place = self._place(chunk, last[PLACE], envs, notes, leaves)
        small: list[Any] = [
            None if i in layout.large else item.kept(leaf)
            for i, (item, leaf) in enumerate(zip(layout.obs.items, leaves, strict=True))
        ]
        if acts is None or rews is None:
            chunk.has_gaps = True
            acts = (None,) * (len(layout.acts.items) if layout.acts else 0)
        if infos is None:
            infos = ({},) * rows if self.keeps_infos else ()
        paid = None if rews is None else rews.tobytes()
        chunk.append((last[TOTAL] + steps, waiting, notes or None, infos, place, paid, *small, *acts))

    def _place(
        self, chunk: Chunk, last: Place | None, envs: Array | None, notes: Sequence[Note], leaves: Sequence[Array]
    ) -> Place | None:
        """Where the rows of the next record are; large ones are written there."""
        clock = at = None
        if envs is not None and not chunk.is_ragged:
            chunk.is_ragged = True
            clock = np.full(self.num_envs, len(chunk.records) - 1)
        elif chunk.is_ragged and last is not None and last.clock is not None:
            clock = last.clock.copy()
        if clock is not None:
            clock[slice(None) if envs is None else envs] += 1
        if chunk.lanes is not None and last is not None and last.at is not None:
            at = last.at.copy()
            mine = slice(None) if envs is None else envs
            at[mine] += 1
            lanes = sorted(chunk.layout.large)
            for note in notes:
                if note.final is not None:
                    where = at[note.env : note.env + 1]
                    chunk.lanes.write(where, [note.final[i][None] for i in lanes])
                    at[note.env] += 1
            chunk.lanes.write(at[mine], [leaves[i] for i in lanes])
        return None if clock is None and at is None and envs is None else Place(envs, clock, at)

    def _kept(self, infos: Sequence[Info] | BatchedInfos) -> Any:
        """The infos with the keys that are kept; they are dicts of our own then."""
        if not self.keeps_infos:
            return ()
        if type(infos) is BatchedInfos:
            return infos
        keys = self.info_keys
        return tuple(infos) if keys is None else tuple({key: i[key] for key in keys if key in i} for i in infos)

    def _first_leaves(self, obs: Tree, fixed: bool) -> Sequence[Array] | None:
        """Leaves of first observations; None where they are of another kind than before, and may be."""
        if not self._log:
            return None
        part = self._log[-1].layout.obs
        if fixed:
            return leaves_of(part, obs, self.num_envs, "obs")
        return leaves_of(part, obs, self.num_envs, "obs") if part_of(obs, self.num_envs, "obs") == part else None

    def _final_leaves(self, layout: Layout, ending: Ending) -> list[Array]:
        """Copies of the leaves of an episode's last observation.

        An environment's own observation is often a Python number, or of another precision than the array that the
        vector environment copies all of them into. It is cast as it would have been there.
        """
        where = f"last observation of environment {ending.at}"
        finals = []
        found = layout.obs.structure.flatten(ending.final_obs, where)
        for i, (leaf, item) in enumerate(zip(found, layout.obs.items, strict=True)):
            array = np.array(leaf, dtype=item.dtype)
            if array.shape != item.shape:
                check(item, array, item.shape, f"{layout.obs.structure.names('obs')[i]} ({where})")
            finals.append(array)
        return finals

    # Chunks

    def _begin(self, part: Any, obs: Tree, notes: Sequence[Note], waiting: frozenset[int]) -> None:
        """Begin the log, or go on with data of another kind."""
        layout = Layout(self.num_envs, part)
        self._enter(layout, leaves_of(part, obs, self.num_envs, "obs"), notes, waiting)

    def _roll(self, layout: Layout | None = None, waiting: frozenset[int] | None = None) -> None:
        """Go on in another chunk, with the current observations."""
        old = self._log[-1]
        leaves = [old.current(LEAVES + leaf) for leaf in range(len(old.layout.obs.items))]
        self._settle()
        old.seal()
        self._enter(layout or old.layout, leaves, None, self.waiting if waiting is None else waiting)
        self._compact()

    def _enter(
        self,
        layout: Layout,
        leaves: Sequence[Array],
        notes: Sequence[Note] | None,
        waiting: frozenset[int],
        stepped: int | None = None,
    ) -> None:
        """Begin a chunk; the one assignment at the end commits it."""
        log = self._log
        books = self._settle()
        limit = self.options.max_transitions
        lanes = self._reusable_lanes(layout) or Lanes.of(
            layout, self.options.sink is not None, None if limit is None else limit // self.num_envs
        )
        place = None
        if lanes is not None:
            lanes.write(lanes.first, [leaves[i] for i in sorted(layout.large)])
            place = Place(None, None, lanes.first)
        small = [
            None if i in layout.large else item.kept(leaf)
            for i, (item, leaf) in enumerate(zip(layout.obs.items, leaves, strict=True))
        ]
        opening: Record = (self.stepped if stepped is None else stepped, waiting, notes, None, place, None, *small)
        number = log[-1].number + 1 if log else 0
        chunk = Chunk(layout, number, lanes, opening)
        oldest = min((span.chunk for span in books.running if span is not None), default=number)
        self._log = (*(each for each in log if each.number >= min(oldest, books.chunk)), chunk)

    def _reusable_lanes(self, layout: Layout) -> Lanes | None:
        """The lanes of the last chunk, where nothing in them is needed."""
        if not self._log or self.held or layout.obs != self._log[-1].layout.obs:
            return None
        lanes = self._log[-1].lanes
        return None if lanes is None or lanes.is_shared else lanes

    def _compact(self) -> None:
        """Copy running fragments out of chunks that hold little else."""
        books = self._books
        old = self._log[:-1]
        needed = sum(span is not None for span in books.running)
        pinned = sum(chunk.steps for chunk in old) * self.num_envs
        if len(old) <= _FEW_CHUNKS or not needed or pinned <= _MOST_PINNED * self.held:
            return
        fragments = self._fragments()
        copies = stored_runs(TrajectoryBatch(self._columns(fragments))) if fragments else []
        before = {run.episode.env_index: run.pieces for run in copies}
        last = self._log[-1]
        running = tuple(
            span
            and span._replace(
                chunk=last.number, row=last.row(0, env), lane=last.lane_row(0, env), before=before.get(env, ())
            )
            for env, span in enumerate(self._books.running)
        )
        books = replace(self._books, running=running)
        self._books, self._log = books, (last,)

    def _out_of_order(self, message: str) -> ProtocolError:
        if self._ready:
            return ProtocolError(message)
        return ProtocolError("expected reset() first: nothing was reset yet, the last step failed, or it was closed")
