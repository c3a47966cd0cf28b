"""The rollout buffer: what E environments do, step after step, until it is popped."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from vecrollout._typing import Array, Info
from vecrollout.buffer.books import Bookkeeper
from vecrollout.buffer.checkpoint import dump, fill, restore
from vecrollout.buffer.delivery import Delivery
from vecrollout.buffer.discards import Discards
from vecrollout.buffer.episodes import Ending, Note, Restart, Run
from vecrollout.buffer.gather import LogColumns
from vecrollout.buffer.infos import BatchedInfos, deep_copied
from vecrollout.buffer.kept_infos import KeptInfos
from vecrollout.buffer.log import StepLog, flatten_finals, waiting_after
from vecrollout.buffer.options import RecordOptions
from vecrollout.buffer.room import Room
from vecrollout.buffer.table import TOTAL, WAITING
from vecrollout.data.trajectory import EndedBy, TrajectoryWithRew
from vecrollout.data.transitions import TransitionsWithRew
from vecrollout.data.trees import Tree
from vecrollout.errors import EmptyBufferError, OptionError, PrematureResetError, ProtocolError, ShapeError
from vecrollout.exits import leave, terminations

_ndarray = np.ndarray


class RolloutBuffer:
    """Gathers the steps of E environments and hands them out as trajectories or transitions.

    It knows no environment: a wrapper tells it what was reset (`reset`), which actions are about to be taken (`act`)
    and what came of them (`step`). Arrays are copied on entry, but for the last observations of endings. It belongs to
    the thread that steps; others may read its properties. `stepped == held + popped + delivered + dropped` after every
    call, also one that raised.
    """

    def __init__(
        self,
        num_envs: int,
        options: RecordOptions | None = None,
        *,
        dtypes: tuple[Any, Any] | None = None,
        recording: str | None = None,
    ) -> None:
        options = options or RecordOptions()
        most = options.max_transitions
        if most is not None and most < num_envs:
            raise OptionError(f"max_transitions: expected at least {num_envs}, a step of all environments, got {most}")
        self.num_envs = num_envs
        self.options = options
        self.recording = recording or secrets.token_hex(8)
        """Random name of the recording."""
        self._infos = KeptInfos(options.record_infos, num_envs)
        self.keeps_infos = self._infos.any
        self.info_keys = self._infos.keys  # None: all or none
        most_steps = None if most is None else most // num_envs
        self._dtypes = dtypes  # dtypes that observations and actions are cast to, as trees
        self._hands_over = options.sink is not None
        self._log = StepLog(num_envs, self._infos.any, self._hands_over, most_steps, dtypes)
        self._keeper = Bookkeeper(self._log, self.recording, options.early_reset == "drop")
        self._delivery = Delivery(options.sink, self._keeper, self._log)
        self._space = Room(self._log, self._keeper, self._delivery, options)
        self.discards = Discards(self._log, self._keeper, self._space)
        self._ready = False  # whether a step may follow: reset, and no failure since
        self._acts: Any = None  # copies of the actions that no step has answered yet
        self._room = 0  # steps that surely fit; 0 lets the next `act` look, also whether a step may follow

    def __repr__(self) -> str:
        return f"<RolloutBuffer: num_envs={self.num_envs}, held={self.held}>"

    # What happened

    @property
    def waiting(self) -> frozenset[int]:
        """Environments whose episode has ended, or that have not begun any."""
        return self._log.waiting

    def check_step(self) -> None:
        """Refuse a step whose actions are not known."""
        if self._acts is None:
            raise self._out_of_order("expected step_async() first: no actions wait for a step")

    def act(self, acts: Tree, envs: Array | None = None) -> None:
        """Keep the actions that are about to be taken: those of all environments, or one for each of `envs`."""
        if terminations:
            leave()
        if self._room < 1 or self._acts is not None:
            self._prepare(envs)
        if self._room > 0 and type(acts) is _ndarray and envs is None:
            chunk = self._log.chunks[-1]
            if acts.dtype is chunk.act_dtype and acts.shape == chunk.act_shape:
                self._acts = acts.tobytes()
                return
        if envs is not None:
            self._log.take_acts_of(envs, acts)
            self._acts = ()
        else:
            self._acts = self._log.take_acts(acts, is_fixed=self.held > 0)

    def annotate(self, arrays: Mapping[str, Any], envs: Array | None = None) -> None:
        """Add arrays to the infos of the step that comes next, with a row for each environment or each of `envs`."""
        if not self._ready:
            raise self._out_of_order("")
        self._infos.annotate(arrays, envs)

    def withdraw(self) -> None:
        """Forget the actions last given to `act`: the environment refused them."""
        self._acts = None

    def abort(self) -> None:
        """The step failed: forget it. What was recorded before stays; stepping goes on after a reset of all."""
        self._acts, self._ready, self._room = None, False, 0
        self._infos.forget_annotations()

    def step(
        self,
        obs: Tree,
        rews: Array,
        infos: Sequence[Info] | BatchedInfos,
        endings: Sequence[Ending] = (),
        restarts: Sequence[Restart] = (),
        envs: Array | None = None,
    ) -> None:
        """Record what came of the actions last given to `act`, of all environments or of `envs`, each at most once.

        Infos are kept by reference, but for those of `endings`. `restarts` are of waiting environments.
        """
        acts, log = self._acts, self._log
        # Plain arrays of the known kind, as most are.
        if type(acts) is bytes and type(obs) is type(rews) is _ndarray and envs is None:
            chunk = log.chunks[-1]
            if (
                obs.dtype is chunk.obs_dtype
                and rews.dtype is chunk.rew_dtype
                and obs.shape == chunk.obs_shape
                and rews.shape == chunk.rew_shape
                and len(infos) == self.num_envs
            ):
                is_plain = self._infos.are_plain and type(infos) is list
                kept = tuple(infos) if is_plain else self._infos.of_step(infos, endings)
                last = chunk.records[-1]
                waiting = last[WAITING]
                total = last[TOTAL] + self.num_envs - len(waiting)
                notes: Any = None
                have_finals = True
                if endings or restarts:
                    notes = [*restarts, *endings]
                    have_finals = flatten_finals(chunk.layout, notes)
                    if waiting or not have_finals:
                        waiting = waiting_after(waiting, notes)
                place = log.place(None, notes or (), (obs,)) if chunk.lanes else None
                self._room -= 1
                row = None if place else obs.tobytes()
                chunk.append((total, waiting, notes, kept, place, rews.tobytes(), row, acts))
                self._acts = None
                if endings and (self._hands_over or not have_finals):
                    self._deliver(endings)
                return
        self.check_step()
        rows = self.num_envs if envs is None else len(envs)
        if len(infos) != rows:
            raise ShapeError(f"infos: expected {rows} dicts, one an environment, got {len(infos)}")
        self._room -= 1
        acts = (acts,) if type(acts) is bytes else acts
        kept = self._infos.of_step(infos, endings, envs)
        log.take_step(acts, obs, rews, kept, (*restarts, *endings), envs, is_fixed=self.held > 0)
        self._acts = None if envs is None else ()
        if endings:
            self._deliver(endings)

    def check_reset(self, mask: Array | None = None) -> None:
        """Refuse a reset of these environments, or all, while transitions are held, unless their episodes are over."""
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
        """Begin an episode in every environment, or in those of a mask; running ones are closed or dropped.

        `obs` has a row for each environment, looked at or not; `start_steps` says how far the episodes have come.
        """
        envs = None if mask is None or mask.all() else np.flatnonzero(mask)
        if envs is not None and not len(envs):
            return
        # A reset of some does not mend a failure since all were reset last.
        goes_on = envs is None or self._ready or not self._log.chunks
        self._ready, self._room = False, 0
        if envs is None:
            # Also where the observations are refused: the environments were reset.
            self._acts = None
            self._infos.forget_annotations()
            self._keeper.close_running("reset_early")
        notes: list[Note] = []
        for env in range(self.num_envs) if envs is None else envs.tolist():
            info = deep_copied(infos[env]) if len(infos) else None
            seed, start_step = seeds[env] if seeds else None, start_steps[env] if start_steps else 0
            notes.append(Restart(env, info, seed, start_step))
        self._log.take_reset(obs, notes, envs, is_fixed=self.held > 0)
        self._keeper.settle()
        self._delivery.deliver()
        self._ready = goes_on

    def await_episodes(self, envs: Collection[int] | None = None) -> None:
        """These environments (None: all) are being reset: each begins an episode by a `Restart` in a step to come."""
        self._close_running("reset_early", envs)
        if self._log.chunks:
            self._space.roll(waiting=self.waiting.union(range(self.num_envs) if envs is None else envs))
        self._room = 0
        if envs is None:
            self._ready, self._acts = True, ()

    def close(self) -> None:
        """Close the running episodes (`"closed"`); they can then be popped as finished ones, or go to the sink."""
        self._ready, self._acts, self._room = False, None, 0
        self._close_running("closed")

    # What is held

    @property
    def stepped(self) -> int:
        """Transitions recorded so far."""
        return self._keeper.stepped

    @property
    def held(self) -> int:
        """Transitions that can be popped."""
        return self._keeper.held

    @property
    def popped(self) -> int:
        """Transitions popped so far."""
        return self._keeper.books.popped

    @property
    def delivered(self) -> int:
        """Transitions that the sink took so far."""
        return self._keeper.books.delivered

    @property
    def dropped(self) -> int:
        """Transitions dropped so far."""
        return self._keeper.books.dropped

    def episode_steps(self, env: int) -> int:
        """Steps of an environment's running episode so far, popped ones included."""
        span = self._keeper.settle().running[env]
        held = sum(run.steps for run in self._keeper.fragments() if run.span.env == env)
        return held + (span.start_step if span else 0)

    def current_obs(self, env: int) -> Any:
        """An environment's current observation, as a copy."""
        return self._log.layout.obs.structure.unflatten(leaf[env, ...] for leaf in self._log.current())

    def pop_finished_trajectories(self) -> tuple[list[TrajectoryWithRew], list[int]]:
        """Finished trajectories in the order of their ends, and the whole lengths of the episodes completed."""
        return self._pop_trajectories([])

    def pop_trajectories(self) -> tuple[list[TrajectoryWithRew], list[int]]:
        """Finished trajectories, then running fragments by environment; the lengths of the episodes completed."""
        return self._pop_trajectories(self._keeper.fragments())

    def pop_transitions(self) -> TransitionsWithRew:
        """All transitions held, in the order of `pop_trajectories`."""
        fragments = self._keeper.fragments()
        runs = [*self._keeper.settle().runs(), *fragments]
        if not runs:
            raise EmptyBufferError(
                "pop_transitions() on an empty buffer: no transitions were recorded since the last pop"
            )
        transitions = self._columns(runs).transitions()
        self._forget(fragments)
        return transitions  # type: ignore[return-value]  # a recorder has rewards

    def state_dict(self) -> dict[str, Array]:
        """Everything held and counted, as a flat dict of arrays that need no pickle to be stored."""
        return dump(self._log, self._keeper, self._ready)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put a state from `state_dict` in place of everything held and counted."""
        snapshot = restore(state, self.num_envs, self.keeps_infos)
        other = RolloutBuffer(self.num_envs, self.options, dtypes=self._dtypes, recording=snapshot.recording)
        fill(other._log, other._keeper, snapshot)
        other._ready = snapshot.is_ready
        vars(self).update(vars(other))

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies are made of the state: a log shares memory with what was handed out."""
        return _restored, (self.num_envs, self.options, self._dtypes, self.state_dict())

    def _pop_trajectories(self, fragments: list[Run]) -> tuple[list[TrajectoryWithRew], list[int]]:
        finished = self._keeper.settle().runs()
        runs = [*finished, *fragments]
        trajectories: list[Any] = self._columns(runs).trajectories() if runs else []
        lengths = [run.span.start_step + run.steps for run in finished if run.ending]
        self._forget(fragments)
        return trajectories, lengths

    def _columns(self, runs: Sequence[Run]) -> LogColumns:
        return LogColumns(runs, self._log.layout, self._infos.any)

    def _close_running(self, ended_by: EndedBy | None, envs: Collection[int] | None = None) -> None:
        self._keeper.close_running(ended_by, envs)
        self._delivery.deliver()

    def _forget(self, fragments: Sequence[Run]) -> None:
        """Let go of the finished fragments and these running ones. A pop commits here, as its last act."""
        self._room = 0
        self._keeper.pop(self._keeper.books.runs(), fragments)

    def _deliver(self, endings: Sequence[Ending]) -> None:
        """Hand over the episodes that a step ended."""
        if self._hands_over:
            self._delivery.deliver()
        elif any(ending.drops_last for ending in endings):
            self._keeper.settle()  # so that `dropped` counts them at once

    def _prepare(self, envs: Array | None) -> None:
        """Refuse what comes out of order, and see that the next step fits."""
        if not self._ready or (self._acts is not None and envs is None):
            raise self._out_of_order("expected step_wait(): the last actions still wait for their step")
        if self._room < 1:
            self._room = self._space.make()

    def _out_of_order(self, message: str) -> ProtocolError:
        if self._ready:
            return ProtocolError(message)
        return ProtocolError("expected reset() first: nothing was reset yet, the last step failed, or it was closed")


def _restored(num_envs: int, options: RecordOptions, dtypes: Any, state: Mapping[str, Any]) -> RolloutBuffer:
    buffer = RolloutBuffer(num_envs, options, dtypes=dtypes)
    buffer.load_state_dict(state)
    return buffer
