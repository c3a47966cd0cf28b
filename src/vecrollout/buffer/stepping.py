"""How steps come into a buffer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod

import numpy as np

from vecrollout._typing import Array, Info
from vecrollout.buffer.blocks import Column
from vecrollout.buffer.endings import Ending, Restart
from vecrollout.buffer.infos import BatchedInfos, deep_copied
from vecrollout.buffer.room import Room
from vecrollout.buffer.stage import Change, write_acts
from vecrollout.data.trees import Tree
from vecrollout.errors import ProtocolError, ShapeError


class Stepping(Room):
    """Takes actions, and what came of them."""

    def check_step(self) -> None:
        """Refuse a step whose actions are not known.

        Raises:
            ProtocolError: If no actions wait for a step.
        """
        if not self.is_pending:
            raise self._out_of_order("expected step_async() first: no actions wait for a step")

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
        self._take_turn()
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
        if self._is_wanted:
            self._await_turn()
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
            if arena.rew_column is not column:
                self._room = 0  # from now on, steps may be staged
        if len(infos) != len(rows):
            raise ShapeError(f"infos: expected {len(rows)} dicts, one an environment, got {len(infos)}")
        leaves = [obs] if type(obs) is np.ndarray and arena.layout.obs is None else arena.obs_leaves(obs)
        following = np.add(rows, arena.one if envs is None else 1)
        if not _write(arena.obs_columns, following, leaves):
            arena.check(arena.obs_columns, leaves, rows)
        if endings:
            self._splice(endings, following, leaves)
        if self.keeps_infos:
            arena.block.infos.write(rows, (self._selected(infos),))
        now = following
        if envs is not None:
            now = arena.row.copy()
            now[envs] = following
        # Rows of environments whose episode was over are no transitions.
        steps = len(rows) - (len(self._waiting_among(envs)) if self.waiting else 0)
        waiting = self._waiting_after(endings, restarts, envs)
        before = self._mark() if endings or self.waiting else None
        # Up to here, rows were written that do not count yet. Now they do, all at once: without calls in between, no
        # interrupt comes between.
        arena.row = now
        self.waiting = waiting
        self._stepped += steps
        self._room -= 2 if endings else 1
        self.is_pending = envs is not None
        if before is not None:
            try:
                changes: list[Change] = [*restarts, *endings]
                self._change_episodes([(change, int(following[change.at])) for change in changes], envs)
            except BaseException:
                self._return_to(before)
                raise
        if self._finished:
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
            kept: Iterable[Info] = ()
            if self.keeps_infos:
                kept = tuple(infos) if type(infos) is list and self.info_keys is None else self._selected(infos)
            step = acts, rews.tobytes(), obs.tobytes(), kept, changes, lasts
            # Without calls in between, no interrupt comes between. With the last of these lines, the step counts.
            self._staged_acts = None
            self._room -= 2 if endings else 1
            self.is_pending = False
            self.waiting = waiting
            self._stepped -= skipped
            self._staged.append(step)
            if endings and self._sink is not None:
                self._owes = True
            if self._owes and (self._room < 1 or not self._may_be_late or self._is_asked):
                self._deliver()
            return True
        if endings or self.waiting or self._owes:
            return False
        row = arena.row
        rew_lane[row] = rews
        following = np.add(row, arena.one)
        lane[following] = obs if lane_dtype is None else obs.ravel().view(lane_dtype)
        if self.keeps_infos:
            arena.block.infos.write(row, (self._selected(infos),))
        arena.row = following
        self._stepped += self.num_envs
        self._room -= 1
        self.is_pending = False
        return True

    def _restart_plainly(self, obs: Tree, seeds: Sequence[int | None], infos: Sequence[Info] | BatchedInfos) -> bool:
        """What a reset does where all episodes have ended: staged as a step in which all environments begin.

        False, and nothing done, where that cannot be.
        """
        arena, num_envs = self._arena, self.num_envs
        if arena.plain_step is None or arena.plain_acts is None or not arena.is_staged or self._room < 1:
            return False
        if not self._ready or self.is_pending or len(self.waiting) < num_envs:
            return False
        if self._owes and not self._may_be_late:
            return False
        _, _, shape, dtype, _, rew_shape, rew_dtype = arena.plain_step
        if type(obs) is not np.ndarray or obs.dtype is not dtype or obs.shape != shape:
            return False
        _, _, act_shape, act_dtype = arena.plain_acts
        no_acts, no_rews = bytes(prod(act_shape) * act_dtype.itemsize), bytes(prod(rew_shape) * rew_dtype.itemsize)
        restarts = [
            Restart(env, deep_copied(infos[env]) if len(infos) else None, seeds[env] if seeds else None)
            for env in range(num_envs)
        ]
        no_infos: Iterable[Info] = ({},) * num_envs if self.keeps_infos else ()
        step = no_acts, no_rews, obs.tobytes(), no_infos, restarts, [None] * num_envs
        self._room -= 1
        self.waiting = frozenset()
        self._stepped -= num_envs
        self._staged.append(step)
        return True

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

    def _out_of_order(self, message: str) -> ProtocolError:
        if self._ready:
            return ProtocolError(message)
        return ProtocolError("expected reset() first: nothing was reset yet, the last step failed, or it was closed")


def _write(columns: Sequence[Column], rows: Array, leaves: Sequence[Array]) -> bool:
    """Copy arrays into columns; False if they do not fit, in which case some may have been copied."""
    if len(columns) != len(leaves):
        return False
    # A plain loop: all() with a generator, and strict=, cost time at every step.
    for column, leaf in zip(columns, leaves):  # noqa: B905, SIM110
        if not column.write(rows, leaf):
            return False
    return True
