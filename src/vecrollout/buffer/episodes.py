"""How episodes begin and end in a buffer."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from contextlib import suppress

import numpy as np

from vecrollout._typing import Array, Info
from vecrollout.buffer.accounts import Accounts
from vecrollout.buffer.endings import Ending, Restart
from vecrollout.buffer.gather import to_trajectory
from vecrollout.buffer.infos import BatchedInfos
from vecrollout.buffer.runs import OpenRun, Run
from vecrollout.buffer.stage import Change, write_staged
from vecrollout.data.trajectory import EndedBy


class Episodes(Accounts):
    """Runs that begin, go on, end, and go to the sink."""

    @property
    def held(self) -> int:
        """Transitions that can be popped."""
        self._settle()
        rows = self._arena.row.tolist()
        return self._finished_steps + sum(run.steps(row) for run, row in zip(self._open, rows, strict=True))

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

    def deliver(self) -> None:
        """Hand over what has finished, to a sink that may get it late. What it raises passes through.

        The sink may ask in another thread than the one that steps, in the middle of a step: then the next step does it.
        """
        self._is_asked = True
        if not self._is_in_use():
            with self._to_itself():
                self._deliver()

    def _take_turn(self) -> None:
        """What a call begins with that looks at the arena or at runs."""
        if self._is_wanted:
            self._await_turn()
        self._settle()

    def _deliver(self) -> None:
        self._settle()
        self._drain()

    def deliver_before(self) -> None:
        """Before what is held is looked at: the sink gets what it is to have.

        What it refuses stays held. It is offered again, and the error raised, when the next steps are handed over.
        """
        self._take_turn()
        if self._may_be_late:
            with suppress(Exception):
                self._drain()

    def close_running(self) -> None:
        """End the running episodes as `"closed"`, and go on: what follows of them are further fragments.

        The sink may ask for it in another thread than the one that steps.
        """
        with self._to_itself():
            self._settle()
            self._close_running(np.arange(self.num_envs), "closed")

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
            seed = change.seed if type(change) is Restart else None
            self._begin_episode(env, row, seed, change.reset_info)
        if last_infos and self.keeps_infos:
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

    def _begin_pieces(self) -> None:
        rows = self._arena.row.tolist()
        self._open = [run.moved(row) for run, row in zip(self._open, rows, strict=True)]

    def _selected(self, infos: Iterable[Info]) -> Iterable[Info]:
        """The infos with the keys that are kept; they are dicts of our own then."""
        if type(infos) is BatchedInfos:
            return infos
        keys = self.info_keys
        return tuple(infos) if keys is None else tuple({key: i[key] for key in keys if key in i} for i in infos)

    def _drain(self) -> None:
        """Hand finished trajectories to the sink; one that it refuses stays held, and so do those behind it."""
        if self._sink is None or self._hands_over:
            return  # a sink that asks for more while it takes one gets it next
        self._is_asked = False
        self._hands_over = threading.get_ident()
        try:
            while self._finished:
                run = self._finished[0]
                steps = run.steps
                self._sink.append(to_trajectory(run, self._arena.layout))
                if not self._finished or self._finished[0] is not run:
                    continue  # the sink popped it meanwhile
                # No calls from here on: an interrupt cannot come between.
                self.sunk += steps
                self._finished_steps -= steps
                self._finished.popleft()
        finally:
            self._hands_over = 0
            self._owes = bool(self._finished)  # what it refused it is offered again after the next step

    def _join_sink(self) -> None:
        """Let a sink ask for what it has to have before it closes, or flushes."""
        if self._is_joined:
            return
        self._is_joined = True
        for name, callback in (("before_close", self.close_running), ("before_flush", self.deliver)):
            ask = getattr(self._sink, name, None)
            call_off = None if ask is None else ask(callback)
            if call_off is not None:
                self._call_off.append(call_off)
                self._may_be_late = name == "before_flush"

    def _leave_sink(self) -> None:
        for call_off in self._call_off:
            call_off()
        self._call_off = []
        self._is_joined = self._may_be_late = False
