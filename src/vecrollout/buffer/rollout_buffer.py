"""The rollout buffer: what E environments do, step after step, until it is popped."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from operator import attrgetter
from typing import Any, Literal, TypeAlias, get_args

import numpy as np

from vecrollout._typing import Array, Info, OnFull, RecordInfos
from vecrollout.buffer.arena import Arena
from vecrollout.buffer.blocks import Block, Column
from vecrollout.buffer.endings import Ending, Restart
from vecrollout.buffer.gather import packed, to_trajectory, to_transitions
from vecrollout.buffer.infos import BatchedInfos
from vecrollout.buffer.runs import OpenRun, Run
from vecrollout.buffer.stage import Change, StagedStep, write_acts, write_staged
from vecrollout.buffer.state import Snapshot, dump, restore
from vecrollout.errors import (
    BufferFullError,
    EmptyBufferError,
    OptionError,
    PrematureResetError,
    ProtocolError,
    ShapeError,
)
from vecrollout.structures import unflatten
from vecrollout.trajectory import EndedBy, Sink, TrajectoryWithRew
from vecrollout.transitions import TransitionsWithRew
from vecrollout.trees import Tree

# When runs are copied out of the blocks that they lie in: where these are more than so many, and not even one of so
# many of their rows is held.
_FEW_BLOCKS = 3
_SPARSE = 4

# What is altered while something is recorded, in the buffer and in its arena. Not by way of `vars`: it makes all
# attributes slower from then on.
_RECORDING_NAMES = (
    *("_stepped", "popped", "sunk", "dropped", "waiting"),
    *("is_pending", "_ready", "_failed", "_room", "_starts_over"),
    *("_open", "_next_id", "_finished", "_finished_steps"),
)
_MEMORY_NAMES = (
    *("layout", "specs", "block", "obs_columns", "act_columns", "rew_column", "row"),
    *("_first", "_rows_before", "_spares", "plain_acts", "plain_step", "is_staged", "staged_steps"),
)
_RECORDING = attrgetter(*_RECORDING_NAMES)
_MEMORY = attrgetter(*_MEMORY_NAMES)

_Mark: TypeAlias = tuple[tuple[Any, ...], tuple[Any, ...], int]


class RolloutBuffer:
    """Gathers the steps of E environments and hands them out as trajectories or transitions.

    It knows no environment: a wrapper tells it what was reset (`reset`), which actions are about to be taken (`act`)
    and what came of them (`step`). All arrays are copied on entry. `held + popped + sunk + dropped == stepped` holds
    after every call, also one that raised.

    Args:
        num_envs: Number of environments, E.
        record_infos: Which infos to keep: `"all"`, `"none"`, or those of the named keys.
        sink: Takes each finished trajectory at once, instead of its being held.
        max_transitions: The most transitions to hold; None: no limit.
        on_full: What to do when the next step would hold more: refuse it, drop the oldest finished trajectories, or
            hand the running fragments over to the sink.
        early_reset: What to do with running episodes when all environments are reset: close them as finished
            trajectories that ended by `"reset_early"`, or drop them.

    Raises:
        OptionError: If an option is not one of these.
    """

    def __init__(
        self,
        num_envs: int,
        *,
        record_infos: RecordInfos = "all",
        sink: Sink | None = None,
        max_transitions: int | None = None,
        on_full: OnFull = "refuse",
        early_reset: Literal["close", "drop"] = "close",
    ) -> None:
        _check_options(num_envs, record_infos, sink, max_transitions, on_full, early_reset)
        self.num_envs = num_envs
        self.popped = self.sunk = self.dropped = 0
        self._stepped = 0  # without the staged steps
        self.info_keys = None if isinstance(record_infos, str) else tuple(record_infos)
        self._keeps_infos = record_infos != "none"
        self._sink = sink
        self._leave_sink: Callable[[], object] | None = None  # not to be asked any more before the sink closes
        self._max_transitions = max_transitions
        self._on_full = on_full
        self._drops_running = early_reset == "drop"

        self._ready = False  # whether a step may follow: reset, and no failure since
        self._failed = False  # whether something failed, or all was closed, since all environments were reset last
        self.is_pending = False  # whether actions were taken that no step has answered yet
        # Steps that surely fit before `_make_room` has to look again; one in which an episode ends counts twice.
        self._room = 0
        self._starts_over = False  # whether everything was popped since `_make_room` looked last

        most_steps = None if max_transitions is None else max_transitions // num_envs
        self._arena = Arena(num_envs, self._keeps_infos, sink is not None, most_steps)
        # Open runs are replaced, and never altered; so is the list, before it is altered: see `_mark`.
        self._open = [OpenRun(env) for env in range(num_envs)]
        # Environments whose episode has ended, or that have not begun any.
        self.waiting = frozenset(range(num_envs))
        self._next_id = 0
        self._finished: deque[Run] = deque()
        self._finished_steps = 0  # sum of their steps
        # Steps that count already, but are not written to the arena yet; and the actions of the next one, if it is to
        # be staged, too. `_settle` comes before anything that looks at the arena or at runs.
        self._staged: list[StagedStep] = []
        self._staged_acts: bytes | None = None

    @property
    def keeps_infos(self) -> bool:
        """Whether infos are kept at all."""
        return self._keeps_infos

    @property
    def stepped(self) -> int:
        """Transitions recorded so far."""
        return self._stepped + len(self._staged) * self.num_envs

    @property
    def held(self) -> int:
        """Transitions that can be popped."""
        self._settle()
        rows = self._arena.row.tolist()
        return self._finished_steps + sum(run.steps(row) for run, row in zip(self._open, rows, strict=True))

    def episode_steps(self, env: int) -> int:
        """Steps of an environment's running episode so far, popped ones included."""
        self._settle()
        run = self._open[env]
        return run.start_step + run.steps(int(self._arena.row[env]))

    def current_obs(self, env: int) -> Any:
        """An environment's current observation, as a copy."""
        self._settle()
        arena = self._arena
        row = int(arena.row[env])
        return unflatten(arena.layout.obs, [column.rows[row, ...].copy() for column in arena.obs_columns])

    # What a wrapper tells

    def check_reset(self, mask: Array | None = None) -> None:
        """Refuse a reset in the middle of an episode while transitions are held.

        Args:
            mask: Which environments are to be reset, shape `(E,)`, bool; None: all. Resetting none but environments
                whose episodes have ended is never refused.

        Raises:
            PrematureResetError: If any transitions are held.
        """
        if mask is not None and self.waiting.issuperset(np.flatnonzero(mask).tolist()):
            return
        held = self.held
        if held:
            raise PrematureResetError(
                f"reset() before samples were accessed: {held} transitions are held; pop them first, or pass "
                "error_on_premature_reset=False"
            )

    def check_step(self) -> None:
        """Refuse a step whose actions are not known.

        Raises:
            ProtocolError: If no actions wait for a step.
        """
        if not self.is_pending:
            raise self._out_of_order("expected step_async() first: no actions wait for a step")

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

        Raises:
            ShapeError, DtypeError, StructureError: If the observations are not like those held; these stay held.
        """
        self._settle()
        self._join_sink()
        envs = np.arange(self.num_envs) if mask is None else np.flatnonzero(mask)
        is_whole = len(envs) == self.num_envs
        self.is_pending = self.is_pending and not is_whole
        failed_before = self._failed and not is_whole
        # Until the new episodes have begun: a reset of other environments does not mend one that broke off here.
        self._failed, self._ready = True, False
        arena = self._arena
        self._close_running(envs, "reset_early", is_dropped=self._drops_running)
        before = self._mark()
        try:
            # Environments that are not reset keep their current observation, so its kind must stay.
            leaves = self._fit_obs(obs, arena.row, is_fixed=self.held > 0 or not is_whole)
            if arena.free_rows() < 1:
                self._roll()
            following = arena.row.copy()
            following[envs] += 1
            for column, leaf in zip(arena.obs_columns, leaves, strict=True):
                column.write(following[envs], leaf[envs])
            arena.row = following
            for env in envs.tolist():
                info = dict(infos[env]) if len(infos) else None
                start_step = start_steps[env] if start_steps else 0
                self._begin_episode(env, int(following[env]), seeds[env] if seeds else None, info, start_step)
            self.waiting = self.waiting.difference(envs.tolist())
        except BaseException:
            self._return_to(before)
            raise
        self._room = 0
        self._failed = failed_before
        self._ready = not failed_before

    def await_episodes(self) -> None:
        """All environments are being reset: each begins an episode by a `Restart` in a step to come."""
        self._settle()
        self._join_sink()
        self._close_running(np.arange(self.num_envs), "reset_early", is_dropped=self._drops_running)
        self.waiting = frozenset(range(self.num_envs))
        self._failed = False
        self._ready = self.is_pending = True

    def act(self, acts: Tree, envs: Array | None = None) -> None:
        """Keep the actions that are about to be taken.

        Args:
            acts: Actions, `(E, *act_shape)`, or one for each of `envs`.
            envs: Which environments take them, shape `(n,)`, int; None: all, which then step together.

        Raises:
            ProtocolError: If there was no reset, or the last actions wait for their step.
            BufferFullError: If the next step would hold more than `max_transitions`.
            ShapeError, DtypeError, StructureError: If the actions are not like those held.
        """
        plain = self._arena.plain_acts
        if envs is None and self._room > 0 and self._ready and not self.is_pending and plain is not None:
            # Most steps come this way.
            lane, lane_dtype, shape, dtype = plain
            if type(acts) is np.ndarray and acts.dtype is dtype and acts.shape == shape:
                if self._arena.is_staged:
                    self._staged_acts = acts.tobytes()
                else:
                    lane[self._arena.row] = acts if lane_dtype is None else acts.ravel().view(lane_dtype)
                self.is_pending = True
                return
        if (self.is_pending and envs is None) or not self._ready:
            raise self._out_of_order("expected step_wait(): the last actions still wait for their step")
        self._settle()
        self._staged_acts = None
        if self._room < 1:
            self._make_room()
        arena = self._arena
        rows = arena.row if envs is None else arena.row[envs]
        leaves = arena.known_acts(acts)
        if leaves is None or not _write(arena.act_columns, rows, leaves):
            # Actions of other environments may wait in the same columns.
            is_fixed = self.held > 0 or (envs is not None and bool(arena.act_columns))
            leaves = arena.fit_acts(acts, rows, is_fixed)
            _write(arena.act_columns, rows, leaves)
        self.is_pending = True

    def withdraw(self) -> None:
        """Forget the actions last given to `act`: the environment refused them."""
        self.is_pending = False
        self._staged_acts = None

    def abort(self) -> None:
        """The step failed: forget it. What was recorded before stays; stepping goes on after a reset of all."""
        self._failed = self._failed or self._ready
        self._ready = self.is_pending = False
        self._staged_acts = None

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
            restarts: The waiting environments that were reset in the place of being stepped. What the others that wait
                return means nothing.
            envs: Which environments stepped, shape `(n,)`, int, each at most once; None: all.

        Raises:
            ProtocolError: If no actions wait for a step.
            ShapeError: If something has another shape than what was recorded before. The step is then not recorded;
                what was recorded before can be popped; `abort` and a reset must follow.
            DtypeError: If it has another dtype, likewise.
            StructureError: If it has other entries, likewise.
        """
        if self.is_pending and envs is None and self._step_plainly(obs, rews, infos, endings, restarts):
            return
        self.check_step()
        self._settle()
        arena = self._arena
        if self._staged_acts is not None:
            write_acts(arena, self._staged_acts)
            self._staged_acts = None
        if not arena.obs_columns:
            self._fit_obs(obs, arena.row if envs is None else arena.row[envs], is_fixed=False)
        rows = arena.row if envs is None else arena.row[envs]
        column = arena.rew_column
        if type(rews) is not np.ndarray or column is None or not column.write(rows, rews):
            rews = arena.fit_rews(rews, rows, is_fixed=self.held > 0)
            arena.rew_column.write(rows, rews)  # type: ignore[union-attr]  # there is one now
            self._room = 0  # from now on, steps may be staged
        if len(infos) != len(rows):
            raise ShapeError(f"infos: expected {len(rows)} dicts, one an environment, got {len(infos)}")
        leaves = [obs] if type(obs) is np.ndarray and arena.layout.obs is None else arena.obs_leaves(obs)
        following = np.add(rows, arena.one if envs is None else 1)
        if not _write(arena.obs_columns, following, leaves):
            arena.check(arena.obs_columns, leaves, rows)
        if endings:
            self._splice(endings, following, leaves)
        if self._keeps_infos:
            arena.block.infos.write(rows, (self._selected(infos),))
        now = following
        if envs is not None:
            now = arena.row.copy()
            now[envs] = following
        # Rows of environments whose episode was over are no transitions.
        steps = len(rows) - (len(self._waiting_among(envs)) if self.waiting else 0)
        has_changes = bool(endings or self.waiting)
        waiting = self._waiting_after(endings, restarts, envs)
        before = self._mark() if has_changes else None
        # Up to here, rows were written that do not count yet. Now they do, all at once: without calls in between, no
        # interrupt comes between.
        arena.row = now
        self.waiting = waiting
        self._stepped += steps
        self._room -= 2 if endings else 1
        self.is_pending = envs is not None
        if before is None:
            return
        try:
            changes: list[Change] = [*restarts, *endings]
            self._change_episodes([(change, int(following[change.at])) for change in changes], envs)
        except BaseException:
            self._return_to(before)
            raise
        self._drain()

    def _step_plainly(
        self,
        obs: Tree,
        rews: Array,
        infos: Sequence[Info] | BatchedInfos,
        endings: Sequence[Ending],
        restarts: Sequence[Restart],
    ) -> bool:
        """What `step` does, for most steps: plain arrays of the known kind. False, and nothing done, if others."""
        arena = self._arena
        if arena.plain_step is None or type(obs) is not np.ndarray or type(rews) is not np.ndarray:
            return False
        lane, lane_dtype, shape, dtype, rew_lane, rew_shape, rew_dtype = arena.plain_step
        if obs.dtype is not dtype or obs.shape != shape or rews.dtype is not rew_dtype or rews.shape != rew_shape:
            return False
        if len(infos) != self.num_envs:
            return False
        acts = self._staged_acts
        if acts is not None:
            changes: Sequence[Change] = endings
            lasts: list[bytes | None] = []
            waiting, skipped = self.waiting, len(self.waiting)
            if endings or restarts:
                lasts = [None] * len(restarts)
                item = shape[1:]
                for ending in endings:
                    last = ending.final_obs
                    if type(last) is np.ndarray and last.dtype is dtype and last.shape == item:
                        lasts.append(last.tobytes())
                    elif last is not None:
                        lasts.append(self._final_leaves(ending)[0].tobytes())
                    elif ending.drops_last:
                        return False
                    else:
                        lasts.append(None)
                if None in lasts:
                    waiting = self._waiting_after(endings, restarts)
                    changes = [*restarts, *endings]
            kept = self._selected(infos) if self._keeps_infos else ()
            step = acts, rews.tobytes(), obs.tobytes(), kept, changes, lasts
            # Without calls in between, no interrupt comes between. With the last of these lines, the step counts.
            self._staged_acts = None
            self._room -= 2 if endings else 1
            self.is_pending = False
            self.waiting = waiting
            self._stepped -= skipped
            self._staged.append(step)
            if endings and self._sink is not None:
                self._settle()
                self._drain()
            return True
        if endings or self.waiting:
            return False
        row = arena.row
        rew_lane[row] = rews
        following = np.add(row, arena.one)
        lane[following] = obs if lane_dtype is None else obs.ravel().view(lane_dtype)
        if self._keeps_infos:
            arena.block.infos.write(row, (self._selected(infos),))
        arena.row = following
        self._stepped += self.num_envs
        self._room -= 1
        self.is_pending = False
        return True

    def _settle(self) -> None:
        """Write the staged steps to the arena, and let the episodes that ended in them end."""
        staged = self._staged
        if not staged:
            return
        arena = self._arena
        before = self._mark()
        try:
            arena.row, changes = write_staged(arena, staged)
            self._change_episodes(changes)
            transitions = len(staged) * self.num_envs
            # No calls from here on: an interrupt cannot come between.
            self._staged = []
            self._stepped += transitions
        except BaseException:
            self._return_to(before)
            raise

    def close(self) -> None:
        """Close the running episodes (`"closed"`); they can then be popped as finished ones, or go to the sink."""
        self._failed = True
        self._ready = self.is_pending = False
        self.close_running()
        if self._leave_sink is not None:
            self._leave_sink()
            self._leave_sink = None

    def close_running(self) -> None:
        """As `close`, but stepping goes on: what follows of the episodes are further fragments."""
        self._settle()
        self._close_running(np.arange(self.num_envs), "closed")

    # What is popped

    def pop_finished_trajectories(self) -> tuple[list[TrajectoryWithRew], list[int]]:
        """Finished trajectories in the order of their ends, and the whole lengths of the episodes completed."""
        self._settle()
        return self._pop([])

    def pop_trajectories(self) -> tuple[list[TrajectoryWithRew], list[int]]:
        """Finished trajectories, then running fragments by environment; the lengths of the episodes completed."""
        return self._pop(self.running())

    def pop_transitions(self) -> TransitionsWithRew:
        """All transitions held, in the order of `pop_trajectories`.

        Raises:
            EmptyBufferError: If there are none.
        """
        running = self.running()
        runs = [*self._finished, *running]
        if not runs:
            raise EmptyBufferError(
                "pop_transitions() on an empty buffer: no transitions were recorded since the last pop"
            )
        transitions = to_transitions(runs, self._arena.layout)
        self._forget(len(transitions), running)
        return transitions

    def _pop(self, running: list[Run]) -> tuple[list[TrajectoryWithRew], list[int]]:
        runs = [*self._finished, *running]
        trajectories = [to_trajectory(run, self._arena.layout) for run in runs]
        lengths = [run.episode_steps for run in self._finished if run.terminal]
        self._forget(sum(run.steps for run in runs), running)
        return trajectories, lengths

    def _forget(self, popped: int, running: list[Run]) -> None:
        """Let go of the finished runs and these running ones."""
        rows = self._arena.row.tolist()
        open_runs = [*self._open]
        for run in running:
            env = run.fragment.env
            open_runs[env] = run.fragment.next_fragment(rows[env])
        finished: deque[Run] = deque()
        # No calls from here on: an interrupt cannot come between.
        self.popped += popped
        self._finished = finished
        self._finished_steps = self._room = 0
        self._open = open_runs
        self._starts_over = popped > 0 and not self.held

    def running(self) -> list[Run]:
        """The running fragments as they stand, by environment; those without steps are left out."""
        self._settle()
        block, rows = self._arena.block, self._arena.row.tolist()
        return [Run(run, row, block) for run, row in zip(self._open, rows, strict=True) if run.steps(row)]

    # The state as a whole

    def state_dict(self) -> dict[str, Array]:
        """Everything held and counted, as a flat dict of arrays that need no pickle to be stored.

        Raises:
            StateError: If an info holds something that is neither plain data nor an array.
        """
        self._settle()
        return dump(self._snapshot())

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put a state from `state_dict` in the place of everything held and counted.

        Raises:
            StateError: If the state does not fit this buffer, which then stays as it is.
        """
        snapshot = restore(state, self.num_envs, self._keeps_infos)
        self._settle()
        arena = self._arena
        before = self._mark()
        try:
            if snapshot.specs:
                arena.adopt(snapshot.layout, snapshot.specs)
                for column, leaf in zip(arena.obs_columns, snapshot.current, strict=True):
                    column.write(arena.row, leaf)
            counters = snapshot.counters
            self._stepped, self.popped = counters["stepped"], counters["popped"]
            self.sunk, self.dropped = counters["sunk"], counters["dropped"]
            self._finished = deque(snapshot.finished)
            self._finished_steps = sum(run.steps for run in snapshot.finished)
            self._open = [run.fragment for run in snapshot.running]
            self.waiting = frozenset(snapshot.waiting)
            self._begin_pieces()
            self._next_id = snapshot.next_id
            self._ready, self._failed = snapshot.is_ready, not snapshot.is_ready
            self.is_pending, self._room = False, 0
        except BaseException:
            self._return_to(before)
            raise
        self._join_sink()

    def __reduce__(self) -> tuple[Any, ...]:
        """For `copy.deepcopy` and pickle, which would tear apart the views of one memory that columns are made of."""
        options = {
            "num_envs": self.num_envs,
            "record_infos": self.info_keys if self.info_keys is not None else "all" if self._keeps_infos else "none",
            "sink": self._sink,
            "max_transitions": self._max_transitions,
            "on_full": self._on_full,
            "early_reset": "drop" if self._drops_running else "close",
        }
        return _with_options, (options,), self.state_dict()

    __setstate__ = load_state_dict

    def _snapshot(self) -> Snapshot:
        arena = self._arena
        rows = arena.row.tolist()
        return Snapshot(
            counters={name: getattr(self, name) for name in ("stepped", "popped", "sunk", "dropped")},
            next_id=self._next_id,
            is_ready=self._ready,
            waiting=sorted(self.waiting),
            layout=arena.layout,
            specs=arena.specs,
            finished=list(self._finished),
            running=[Run(run, row, arena.block) for run, row in zip(self._open, rows, strict=True)],
            current=[column.rows[arena.row] for column in arena.obs_columns],
        )

    # All or nothing

    def _mark(self) -> _Mark:
        """What the recording is now, to return to if an interrupt or an error comes while it is being altered."""
        mark = _RECORDING(self), _MEMORY(self._arena), len(self._finished)
        # This is altered; the mark keeps the old one. At the end of `_finished` there may be more afterwards.
        self._open = [*self._open]
        return mark

    def _return_to(self, mark: _Mark) -> None:
        recording, memory, finished = mark
        for name, value in zip(_RECORDING_NAMES, recording, strict=True):
            setattr(self, name, value)
        for name, value in zip(_MEMORY_NAMES, memory, strict=True):
            setattr(self._arena, name, value)
        while len(self._finished) > finished:
            self._finished.pop()

    # Runs

    def _begin_episode(self, env: int, row: int, seed: int | None, info: Info | None, start_step: int = 0) -> None:
        self._open[env] = OpenRun(env, self._next_id, seed, info, start_step, (), 0, row)
        self._next_id += 1

    def _finish(self, run: Run) -> None:
        self._finished.append(run)
        self._finished_steps += run.steps

    def _close_running(self, envs: Array, ended_by: EndedBy | None, is_dropped: bool = False) -> None:
        """End running fragments from outside; those without steps leave nothing behind."""
        arena = self._arena
        before = self._mark()
        try:
            for env in envs.tolist():
                run, row = self._open[env], int(arena.row[env])
                steps = run.steps(row)
                if steps and is_dropped:
                    self.dropped += steps
                elif steps:
                    self._finish(Run(run, row, arena.block, ended_by))
                self._open[env] = run.next_fragment(row)
        except BaseException:
            self._return_to(before)
            raise
        self._drain()

    def _splice(self, endings: Sequence[Ending], following: Array, leaves: Sequence[Array]) -> None:
        """Put true last observations before the next episodes' first ones, which stand in their rows so far."""
        arena = self._arena
        # All of them, before anything is written: one that does not fit raises.
        finals = [None if ending.final_obs is None else self._final_leaves(ending) for ending in endings]
        for ending, final in zip(endings, finals, strict=True):
            if final is None:
                continue
            at = ending.at
            row = int(following[at])
            for column, last, first in zip(arena.obs_columns, final, leaves, strict=True):
                # The dots: an object without dimensions would else go in as an array.
                column.rows[row, ...] = last
                column.rows[row + 1] = first[at]
            following[at] = row + 1

    def _change_episodes(self, changes: Sequence[tuple[Change, int]], envs: Array | None = None) -> None:
        """Let episodes end and begin, each with the row of the environment's observation."""
        last_infos: dict[int, Info] = {}  # by row
        for change, row in changes:
            env = change.at if envs is None else int(envs[change.at])
            if type(change) is Ending:
                has_next = change.final_obs is not None
                if change.info is not None:
                    last_infos[row - 1 - has_next] = change.info
                self._end_episode(env, row - has_next, change)
                if not has_next and not change.drops_last:
                    continue
            self._begin_episode(env, row, None, change.reset_info)
        if last_infos and self._keeps_infos:
            self._arena.block.infos.write(np.array([*last_infos]), (self._selected(last_infos.values()),))
        for env in self.waiting:
            self._open[env] = self._open[env].resting(int(self._arena.row[env]))

    def _end_episode(self, env: int, row: int, ending: Ending) -> None:
        """An environment's episode ends, with its last observation in this row."""
        fragment, block = self._open[env], self._arena.block
        if ending.drops_last:
            self.dropped += 1
            run = Run(fragment, row - 1, block)
            if not run.steps:
                return
        else:
            ended_by: EndedBy = "terminated" if ending.terminated else "truncated"
            run = Run(fragment, row, block, ended_by, ending.terminated, ending.truncated)
        self._finish(run)

    def _waiting_among(self, envs: Array | None) -> frozenset[int]:
        return self.waiting if envs is None else self.waiting.intersection(envs.tolist())

    def _waiting_after(
        self, endings: Sequence[Ending], restarts: Sequence[Restart], envs: Array | None = None
    ) -> frozenset[int]:
        """Environments whose episode is over after a step."""
        begun = [restart.at for restart in restarts]
        over = [ending.at for ending in endings if ending.final_obs is None and not ending.drops_last]
        if envs is not None:
            begun, over = envs[begun].tolist(), envs[over].tolist()
        return self.waiting.difference(begun).union(over)

    def _fit_obs(self, obs: Tree, rows: Array, is_fixed: bool) -> list[Array]:
        """Leaves of first observations, in a block that takes them."""
        arena = self._arena
        block = arena.block
        leaves = arena.fit_obs(obs, rows, is_fixed and bool(arena.obs_columns))
        if arena.block is not block:
            self._begin_pieces()
        return leaves

    def _final_leaves(self, ending: Ending) -> list[Array]:
        """Leaves of an episode's last observation.

        An environment's own observation is often a Python number, or of another precision than the array that the
        vector environment copies all of them into; it is cast as it would have been there.
        """
        arena = self._arena
        final = ending.final_obs
        if type(final) is np.ndarray and arena.layout.obs is None and arena.obs_columns[0].takes_item(final):
            return [final]
        where = f"last observation of environment {ending.at}"
        pairs = list(zip(arena.obs_columns, arena.obs_leaves(final, where), strict=True))
        finals = [leaf.astype(column.dtype, copy=False) for column, leaf in pairs]
        for (column, _), leaf in zip(pairs, finals, strict=True):
            column.spec.check(leaf, column.spec.shape, f" ({where})")
        return finals

    def _selected(self, infos: Iterable[Info]) -> Iterable[Info]:
        """The infos with the keys that are kept; they are dicts of our own then."""
        if type(infos) is BatchedInfos:
            return infos
        keys = self.info_keys
        return tuple(infos) if keys is None else tuple({key: i[key] for key in keys if key in i} for i in infos)

    def _drain(self) -> None:
        """Hand finished trajectories to the sink; one that it refuses stays held, and so do those behind it."""
        if self._sink is None:
            return
        while self._finished:
            run = self._finished[0]
            self._sink.append(to_trajectory(run, self._arena.layout))
            if not self._finished or self._finished[0] is not run:
                continue  # the sink popped it meanwhile
            self.sunk += run.steps
            self._finished_steps -= run.steps
            self._finished.popleft()

    def _join_sink(self) -> None:
        """Let a sink that closes by itself ask for the running fragments before."""
        before_close = getattr(self._sink, "before_close", None)
        if self._leave_sink is None and before_close is not None:
            self._leave_sink = before_close(self.close_running)

    # Room for the next step

    def _make_room(self) -> None:
        if self._starts_over:
            # Not before: until the next step, what was popped last may have been let go of, and its memory be free.
            self._starts_over = False
            if not self.held:
                self._start_over()
        # A step takes one row, and one more where an episode ends: the last one for which there is room may take two.
        if self._arena.is_full():
            self._roll()
        room = self._arena.free_rows() - 1
        if self._arena.is_staged:
            room = min(room, self._arena.staged_steps)
        limit = self._max_transitions
        if limit is not None:
            if self._on_full == "hand_over" and self.held + self.num_envs > limit:
                self._close_running(np.arange(self.num_envs), None)
            while self._on_full == "drop_oldest" and self._finished and self.held + self.num_envs > limit:
                oldest = self._finished[0]
                self.dropped += oldest.steps
                self._finished_steps -= oldest.steps
                self._finished.popleft()
            if self.held + self.num_envs > limit:
                cure = {
                    "refuse": 'pop them, or pass on_full="drop_oldest"',
                    "drop_oldest": "raise max_transitions",
                    "hand_over": "the sink has to take them",
                }[self._on_full]
                raise BufferFullError(
                    f"{self.held} transitions are held, {self.num_envs} more would exceed max_transitions={limit}; "
                    f"{cure}. The environments were not stepped"
                )
            room = min(room, (limit - self.held) // self.num_envs)
        self._room = room

    def _start_over(self) -> None:
        """Nothing is held: take up memory again."""
        try:
            self._arena.start_over()
            self._begin_pieces()
        except BaseException:
            # The current observations may not have come along.
            self._begin_pieces()
            self.abort()
            raise

    def _roll(self) -> None:
        """The block is full: running fragments go on in another."""
        arena = self._arena
        before = self._mark()
        try:
            rows = arena.row.tolist()
            self._open = [run.next_piece(row, arena.block) for run, row in zip(self._open, rows, strict=True)]
            kept = self._rows_kept()
            # Where most of what went through the block is gone again, it is large enough.
            grow = 2 * kept[arena.block] > arena.block.capacity * self.num_envs
            rows_taken = sum(block.num_envs * block.capacity for block in kept)
            if len(kept) > _FEW_BLOCKS and rows_taken > _SPARSE * self.held:
                self._pack()
                kept = self._rows_kept()
            arena.roll(kept, grow)
            self._begin_pieces()
        except BaseException:
            self._return_to(before)
            raise

    def _rows_kept(self) -> Counter[Block]:
        """How many rows of each block the runs lie in, without the pieces that running fragments have begun."""
        kept: Counter[Block] = Counter()
        for run in self._finished:
            steps = run.row - run.fragment.piece_row
            if steps:  # its last piece, which is the only one of most
                kept[run.block] += steps + 1
        for earlier in chain(self._open, (run.fragment for run in self._finished)):
            for piece in earlier.pieces:
                kept[piece.block] += piece.steps + 1
        return kept

    def _pack(self) -> None:
        """A few long runs keep many blocks from being freed: copy them, and let go of the blocks."""
        runs = [*(run.pieces for run in self._finished), *(run.pieces for run in self._open)]
        copies = iter(packed(runs, self._arena.layout))
        self._finished = deque(run.moved(next(copies)) for run in self._finished)
        self._open = [replace(run, pieces=next(copies)) for run in self._open]

    def _begin_pieces(self) -> None:
        rows = self._arena.row.tolist()
        self._open = [run.moved(row) for run, row in zip(self._open, rows, strict=True)]

    def _out_of_order(self, message: str) -> ProtocolError:
        if self._ready:
            return ProtocolError(message)
        return ProtocolError("expected reset() first: nothing was reset yet, or the last step failed")


def _with_options(options: dict[str, Any]) -> RolloutBuffer:
    return RolloutBuffer(**options)


def _write(columns: Sequence[Column], rows: Array, leaves: Sequence[Array]) -> bool:
    """Copy arrays into columns; False if they do not fit, in which case some may have been copied."""
    if len(columns) != len(leaves):
        return False
    # A plain loop: all() with a generator, and strict=, cost time at every step.
    for column, leaf in zip(columns, leaves):  # noqa: B905, SIM110
        if not column.write(rows, leaf):
            return False
    return True


def _check_options(
    num_envs: int,
    record_infos: RecordInfos,
    sink: Sink | None,
    max_transitions: int | None,
    on_full: str,
    early_reset: str,
) -> None:
    if isinstance(record_infos, str) and record_infos not in ("all", "none"):
        raise OptionError(f'record_infos: expected "all", "none" or a list of keys, got {record_infos!r}')
    if max_transitions is not None and max_transitions < num_envs:
        raise OptionError(
            f"max_transitions: expected at least {num_envs}, one step of all environments, got {max_transitions}"
        )
    if on_full not in get_args(OnFull):
        raise OptionError(f'on_full: expected "refuse", "drop_oldest" or "hand_over", got {on_full!r}')
    if on_full == "hand_over" and sink is None:
        raise OptionError('on_full: "hand_over" hands over to a sink, expected one as sink=, got none')
    if early_reset not in ("close", "drop"):
        raise OptionError(f'early_reset: expected "close" or "drop", got {early_reset!r}')
