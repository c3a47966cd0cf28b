"""The rollout buffer: what E environments do, step after step, until it is popped."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from vecrollout._typing import Array, Info
from vecrollout.buffer.arena import Arena
from vecrollout.buffer.infos import BatchedInfos, deep_copied
from vecrollout.buffer.options import RecordOptions
from vecrollout.buffer.popping import Popping
from vecrollout.buffer.stepping import Stepping
from vecrollout.data.structures import unflatten
from vecrollout.data.trees import Tree
from vecrollout.errors import OptionError, PrematureResetError


class RolloutBuffer(Stepping, Popping):
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
        ArgumentTypeError: If an option is of another kind, such as a `sink` without `append`.
        OptionError: If an option is not one of these.
    """

    def __init__(self, num_envs: int, options: RecordOptions | None = None) -> None:
        options = RecordOptions() if options is None else options
        max_transitions, infos, sink = options.max_transitions, options.record_infos, options.sink
        if max_transitions is not None and max_transitions < num_envs:
            raise OptionError(
                f"max_transitions: expected at least {num_envs}, one step of all environments, got {max_transitions}"
            )
        most_steps = None if max_transitions is None else max_transitions // num_envs
        arena = Arena(num_envs, infos != "none", sink is not None, most_steps)
        super().__init__(arena, None if isinstance(infos, str) else tuple(infos), sink)
        self._options = options
        self._max_transitions = max_transitions
        self._on_full = options.on_full
        self._drops_running = options.early_reset == "drop"

    @property
    def delivered(self) -> int:
        """Transitions that the sink took so far."""
        return self.sunk

    def episode_steps(self, env: int) -> int:
        """Steps of an environment's running episode so far, popped ones included."""
        self._take_turn()
        run = self._open[env]
        return run.start_step + run.steps(int(self._arena.row[env]))

    def current_obs(self, env: int) -> Any:
        """An environment's current observation, as a copy."""
        self._take_turn()
        arena = self._arena
        row = int(arena.row[env])
        return unflatten(arena.layout.obs, [column.rows[row, ...].copy() for column in arena.obs_columns])

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
        self.deliver_before()
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

        Raises:
            ShapeError, DtypeError, StructureError: If the observations are not like those held; these stay held.
        """
        if self._is_wanted:
            self._await_turn()
        if mask is None and not start_steps and self._restart_plainly(obs, seeds, infos):
            return
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
                info = deep_copied(infos[env]) if len(infos) else None
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
        self._take_turn()
        self._join_sink()
        self._close_running(np.arange(self.num_envs), "reset_early", is_dropped=self._drops_running)
        self.waiting = frozenset(range(self.num_envs))
        self._failed = False
        self._ready = self.is_pending = True

    def close(self) -> None:
        """Close the running episodes (`"closed"`); they can then be popped as finished ones, or go to the sink."""
        self._failed = True
        self._ready = self.is_pending = False
        self.close_running()
        self._leave_sink()

    def __reduce__(self) -> tuple[Any, ...]:
        """For `copy.deepcopy` and pickle, which would tear apart the views of one memory that columns are made of."""
        return RolloutBuffer, (self.num_envs, self._options), self.state_dict()

    __setstate__ = Popping.load_state_dict
