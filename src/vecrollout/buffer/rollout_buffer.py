"""The rollout buffer: what E environments do, step after step, until it is popped."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from vecrollout._typing import Info, RecordInfos
from vecrollout.buffer.blocks import Block, Column, ColumnSpec, Piece
from vecrollout.buffer.gather import Layout, Run, to_trajectory, to_transitions
from vecrollout.buffer.state import dump, restore
from vecrollout.errors import BufferFullError, EmptyBufferError, OptionError, PrematureResetError, ProtocolError, ShapeError
from vecrollout.trajectory import EndedBy, Episode, Sink, TrajectoryWithRew, as_rewards
from vecrollout.transitions import TransitionsWithRew
from vecrollout.trees import Array, Structure, Tree, flatten, leaf_names, structure_of

_LARGE_ITEM_BYTES = 1024
_FIRST_BLOCK_ROWS = 1024
# A block of large items is reserved at once and takes up memory only as it is written: episodes then lie in one piece.
_FIRST_BLOCK_BYTES = 1 << 30
_FIRST_BLOCK_BYTES_WITH_SINK = 1 << 26
_FEWEST_ROWS = 16
# Below this, moving on to another block costs more than the rows that are left unused.
_SMALL_PERIOD_BYTES = 1 << 20
_SPARES = 2


class Ending(NamedTuple):
    """An episode that ended with a step, in an environment that has begun the next one already."""

    env: int
    terminated: bool
    truncated: bool
    final_obs: Tree
    """The episode's last observation; the step's own observation of this environment begins the next episode."""
    info: Info
    """The step's info, ours to keep."""
    reset_info: Info | None
    """Info of the reset that began the next episode."""


class RolloutBuffer:
    """Gathers the steps of E environments and hands them out as trajectories or transitions.

    It knows no environment: a wrapper tells it what was reset (`reset`), which actions are about to be taken (`act`)
    and what came of them (`step`). All arrays are copied on entry. `held + popped + sunk + dropped == stepped` holds
    after every call, also one that raised.

    Args:
        num_envs: Number of environments, E.
        record_infos: Which infos to keep.
        sink: Takes each finished trajectory at once, instead of its being held.
        max_transitions: The most transitions to hold; None: no limit.
        on_full: What to do when the next step would hold more: refuse it, or drop the oldest finished trajectories.
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
        on_full: Literal["refuse", "drop_oldest"] = "refuse",
        early_reset: Literal["close", "drop"] = "close",
    ) -> None:
        _check_options(num_envs, record_infos, max_transitions, on_full, early_reset)
        self.num_envs = num_envs
        self.stepped = self.popped = self.sunk = self.dropped = 0
        self._info_keys = None if isinstance(record_infos, str) else tuple(record_infos)
        # Structures and widths are those of the data; widths of 0: no data seen yet.
        self._layout = Layout(obs=None, acts=None, obs_width=0, act_width=0, keeps_infos=record_infos != "none")
        self._sink = sink
        self._max_transitions = max_transitions
        self._drops_oldest = on_full == "drop_oldest"
        self._drops_running = early_reset == "drop"

        self._ready = False  # whether a step may follow: reset, and no failure since
        self._pending = False  # whether actions were taken that no step has answered yet
        self._room = 0  # steps that surely fit before `_make_room` has to look again

        self._specs: list[ColumnSpec] = []  # of observation leaves, then of action leaves, then of rewards
        self._obs_columns: list[Column] = []
        self._act_columns: list[Column] = []
        self._rew_column: Column | None = None
        self._spares: list[Block] = []

        # In the current block: the row of each environment's current observation. An environment's current piece
        # began in row `_piece_row` at tick `_piece_tick`, so `row - _piece_row == ticks - _piece_tick`.
        self._block = Block(num_envs, 0)
        self._first = np.zeros(num_envs, dtype=np.int64)
        self._row = self._first.copy()
        self._one = np.ones(num_envs, dtype=np.int64)
        self._ticks = 0  # steps recorded so far, for all environments alike
        self._block_tick = 0  # the tick at which the current block began
        self._period_tick = 0  # the tick at which the buffer was last empty
        self._piece_row = [0] * num_envs
        self._piece_tick = [0] * num_envs

        # Running fragments: they began at tick `_run_tick`; their pieces in earlier blocks; their episodes.
        self._run_tick = [0] * num_envs
        self._run_pieces: list[list[Piece]] = [[] for _ in range(num_envs)]
        self._episodes = [Episode()] * num_envs
        self._episode_tick = [0] * num_envs
        self._next_id = 0

        self._finished: deque[Run] = deque()
        self._finished_steps = 0  # sum of their steps

    @property
    def held(self) -> int:
        """Transitions that can be popped."""
        return self._finished_steps + self._ticks * self.num_envs - sum(self._run_tick)

    def episode_steps(self, env: int) -> int:
        """Steps of an environment's running episode so far, popped ones included."""
        return self._ticks - self._episode_tick[env]

    # What a wrapper tells

    def check_reset(self) -> None:
        """Refuse a reset while transitions are held.

        Raises:
            PrematureResetError: If any are.
        """
        if self.held:
            raise PrematureResetError(
                f"reset() before samples were accessed: {self.held} transitions are held; pop them first, or pass "
                "error_on_premature_reset=False"
            )

    def reset(self, obs: Tree, seeds: Sequence[int | None] | None = None, infos: Sequence[Info] | None = None) -> None:
        """Begin an episode in every environment; running ones are closed or dropped.

        Args:
            obs: First observations, `(E, *obs_shape)`.
            seeds: Seed given to each environment's reset.
            infos: Info returned by each environment's reset.

        Raises:
            ShapeError, DtypeError, StructureError: If the observations are not like those held; these stay held.
        """
        self._ready = self._pending = False
        for env in range(self.num_envs):
            self._close_run(env, "reset_early", dropped=self._drops_running)
        self._drain()
        leaves = self._fit_observations(obs)
        if self._free_rows() < 1:
            self._roll()
        np.add(self._row, self._one, out=self._row)
        for column, leaf in zip(self._obs_columns, leaves, strict=True):
            column.write(self._row, leaf)
        for env, row in enumerate(self._row.tolist()):
            self._begin_run(env, row)
            self._begin_episode(env, None if seeds is None else seeds[env], None if infos is None else infos[env])
        self._room = 0
        self._ready = True

    def act(self, acts: Tree) -> None:
        """Keep the actions that are about to be taken.

        Args:
            acts: Actions, `(E, *act_shape)`.

        Raises:
            ProtocolError: If there was no reset, or the last actions wait for their step.
            BufferFullError: If the next step would hold more than `max_transitions`.
            ShapeError, DtypeError, StructureError: If the actions are not like those recorded before.
        """
        if not self._ready or self._pending:
            raise self._out_of_order()
        if not self._room:
            self._make_room()
        leaves = [acts] if type(acts) is np.ndarray else self._plain_leaves(acts)
        if not _fit(self._act_columns, leaves):
            leaves = self._fit_actions(acts)
        for column, leaf in zip(self._act_columns, leaves, strict=True):
            column.write(self._row, leaf)
        self._pending = True

    def withdraw(self) -> None:
        """Forget the actions last given to `act`: the environment refused them."""
        self._pending = False

    def abort(self) -> None:
        """The step failed: forget it. What was recorded before stays; stepping goes on after a reset."""
        self._ready = self._pending = False
        # A step may have been interrupted half way: the ticks say how far the recording is complete.
        for env in range(self.num_envs):
            self._row[env] = self._piece_row[env] + self._ticks - self._piece_tick[env]
        del self._block.infos[(self._ticks - self._block_tick) * self.num_envs :]

    def step(self, obs: Tree, rews: Array, infos: Sequence[Info], endings: Sequence[Ending] = ()) -> None:
        """Record what came of the actions last given to `act`.

        Args:
            obs: Observations, `(E, *obs_shape)`; of environments whose episode ended, the next episode's first.
            rews: Rewards, `(E,)`.
            infos: Info dicts, one an environment; kept by reference but for those of `endings`.
            endings: The episodes that ended, by environment index.

        Raises:
            ProtocolError: If no actions wait for a step.
            ShapeError, DtypeError, StructureError: If something is not like what was recorded before. The step is then
                not recorded; what was recorded before can be popped; a reset must follow.
        """
        if not self._pending:
            raise self._out_of_order(waiting=False)
        leaves = [obs] if type(obs) is np.ndarray else self._obs_leaves(obs)
        if not _fit(self._obs_columns, leaves):
            self._check(self._obs_columns, self._obs_leaves(obs))
        column = self._rew_column
        if column is None or rews.shape != column.row_shape or rews.dtype != column.dtype:
            column, rews = self._fit_rewards(rews)
        if len(infos) != self.num_envs:
            raise ShapeError(f"infos: expected {self.num_envs} dicts, one an environment, got {len(infos)}")
        finals = [self._final_leaves(ending) for ending in endings] if endings else ()

        row = self._row
        column.lane[row] = rews
        np.add(row, self._one, out=row)
        for column, leaf in zip(self._obs_columns, leaves, strict=True):
            column.write(row, leaf)
        if self._layout.keeps_infos:
            kept = infos if self._info_keys is None else [self._select(info) for info in infos]
            self._block.infos.extend(kept)
        self._ticks += 1
        self._room -= 1
        self.stepped += self.num_envs
        self._pending = False
        if endings:
            self._end_episodes(endings, finals, leaves)
            self._drain()

    def close(self) -> None:
        """Close the running episodes (`"closed"`); they can then be popped as finished ones, or go to the sink."""
        for env in range(self.num_envs):
            self._close_run(env, "closed")
        self._ready = self._pending = False
        self._drain()

    # What is popped

    def pop_finished_trajectories(self) -> tuple[list[TrajectoryWithRew], list[int]]:
        """Finished trajectories in the order of their ends, and the whole lengths of the episodes completed."""
        return self._pop(list(self._finished), running=False)

    def pop_trajectories(self) -> tuple[list[TrajectoryWithRew], list[int]]:
        """Finished trajectories, then running fragments by environment; the lengths of the episodes completed."""
        return self._pop([*self._finished, *self._running()], running=True)

    def pop_transitions(self) -> TransitionsWithRew:
        """All transitions held, in the order of `pop_trajectories`.

        Raises:
            EmptyBufferError: If there are none.
        """
        runs = [*self._finished, *self._running()]
        if not runs:
            raise EmptyBufferError("pop_transitions() on an empty buffer: no transitions were recorded since the last pop")
        transitions = to_transitions(runs, self._layout)
        self._forget(len(transitions), running=True)
        return transitions

    # The state as a whole

    def state_dict(self) -> dict[str, Array]:
        """Everything held and counted, as a flat dict of arrays that need no pickle to be stored.

        Raises:
            StateError: If an info holds something that is neither plain data nor an array.
        """
        return dump(self)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put a state from `state_dict` in the place of everything held and counted.

        Raises:
            StateError: If the state does not fit this buffer, which then stays as it is.
        """
        restore(self, state)

    def _adopt(
        self,
        layout: Layout,
        specs: list[ColumnSpec],
        current: list[Array],
        finished: list[Run],
        running: list[Run],
        next_id: int,
        ready: bool,
    ) -> None:
        """Hold these runs, one running one an environment, and go on from these observations."""
        self._layout, self._specs = layout, specs
        self._spares.clear()
        self._ticks = self._period_tick = 0
        if specs:
            self._enter(self._new_block(self._first_capacity()))
            for column, leaf in zip(self._obs_columns, current, strict=True):
                column.write(self._row, leaf)
        self._finished = deque(finished)
        self._finished_steps = sum(run.steps for run in finished)
        self._episodes = [run.episode for run in running]
        self._run_pieces = [run.pieces for run in running]
        self._run_tick = [-run.steps for run in running]
        self._episode_tick = [-run.episode_steps for run in running]
        self._next_id, self._ready, self._pending, self._room = next_id, ready, False, 0

    def _pop(self, runs: list[Run], running: bool) -> tuple[list[TrajectoryWithRew], list[int]]:
        trajectories = [to_trajectory(run, self._layout) for run in runs]
        lengths = [run.episode_steps for run in self._finished if run.terminal]
        self._forget(sum(run.steps for run in runs), running)
        return trajectories, lengths

    def _forget(self, popped: int, running: bool) -> None:
        """Let go of what was popped."""
        self.popped += popped
        self._finished.clear()
        self._finished_steps = 0
        self._room = 0
        if running and popped:
            self._run_tick = [self._ticks] * self.num_envs
            self._run_pieces = [[] for _ in range(self.num_envs)]
            self._start_over()

    def _running(self) -> list[Run]:
        return [self._run(env) for env in range(self.num_envs) if self._ticks > self._run_tick[env]]

    # Episodes and runs

    def _begin_episode(self, env: int, seed: int | None, info: Info | None) -> None:
        self._episodes[env] = Episode(
            id=self._next_id, env_index=env, seed=seed, reset_info=None if info is None else dict(info)
        )
        self._episode_tick[env] = self._ticks
        self._next_id += 1

    def _begin_run(self, env: int, row: int) -> None:
        self._piece_row[env] = row
        self._piece_tick[env] = self._run_tick[env] = self._ticks
        self._run_pieces[env] = []

    def _run(
        self, env: int, ended_by: EndedBy | None = None, terminated: bool = False, truncated: bool = False
    ) -> Run:
        """The environment's running fragment as it stands."""
        pieces = self._run_pieces[env] + self._current_piece(env)
        start = self._run_tick[env]
        return Run(
            pieces,
            steps=self._ticks - start,
            episode=self._episodes[env],
            start_step=start - self._episode_tick[env],
            ended_by=ended_by,
            terminated=terminated,
            truncated=truncated,
        )

    def _current_piece(self, env: int) -> list[Piece]:
        tick = self._piece_tick[env]
        if self._ticks == tick:
            return []
        return [Piece(self._block, env, self._piece_row[env], self._ticks - tick, tick - self._block_tick)]

    def _finish(self, run: Run) -> None:
        self._finished.append(run)
        self._finished_steps += run.steps

    def _close_run(self, env: int, ended_by: EndedBy, dropped: bool = False) -> None:
        """End a running fragment from outside; one without steps leaves nothing behind."""
        if self._ticks == self._run_tick[env]:
            return
        if dropped:
            self.dropped += self._ticks - self._run_tick[env]
        else:
            self._finish(self._run(env, ended_by))
        self._begin_run(env, int(self._row[env]))

    def _end_episodes(self, endings: Sequence[Ending], finals: Sequence[list[Array]], leaves: list[Array]) -> None:
        for ending, final in zip(endings, finals, strict=True):
            env = ending.env
            row = int(self._row[env])
            # The row got the next episode's first observation; it belongs to this episode's last.
            for column, last, first in zip(self._obs_columns, final, leaves, strict=True):
                column.rows[row] = last
                column.rows[row + 1] = first[env]
            self._row[env] = row + 1
            if self._layout.keeps_infos:
                self._block.infos[env - self.num_envs] = self._select(ending.info)
            ended_by: EndedBy = "terminated" if ending.terminated else "truncated"
            self._finish(self._run(env, ended_by, ending.terminated, ending.truncated))
            self._begin_run(env, row + 1)
            self._begin_episode(env, None, ending.reset_info)

    def _select(self, info: Info) -> Info:
        return info if self._info_keys is None else {key: info[key] for key in self._info_keys if key in info}

    def _drain(self) -> None:
        """Hand finished trajectories to the sink; one that it refuses stays held, and so do those behind it."""
        if self._sink is None:
            return
        while self._finished:
            run = self._finished[0]
            self._sink.append(to_trajectory(run, self._layout))
            self._let_go_of_oldest()
            self.sunk += run.steps

    def _let_go_of_oldest(self) -> None:
        self._finished_steps -= self._finished.popleft().steps

    # Fitting arrays to columns: their kind is that of the first data, and stays while anything is held

    def _obs_leaves(self, obs: Tree) -> list[Array]:
        return [np.asarray(leaf) for leaf in flatten(obs, self._layout.obs)]

    def _final_leaves(self, ending: Ending) -> list[Array]:
        """Leaves of an episode's last observation.

        An environment's own observation is often a Python number, or of another precision than the array that the
        vector environment copies all of them into; it is cast as it would have been there.
        """
        where = f"last observation of environment {ending.env}"
        leaves = flatten(ending.final_obs, self._layout.obs, where)
        pairs = zip(self._obs_columns, leaves, strict=True)
        finals = [np.asarray(leaf).astype(column.dtype, copy=False) for column, leaf in pairs]
        for column, leaf in zip(self._obs_columns, finals, strict=True):
            column.spec.check(leaf, column.spec.shape, f" ({where})")
        return finals

    def _fit_observations(self, obs: Tree) -> list[Array]:
        """Leaves of first observations, in a block that takes them."""
        if self.held:
            leaves = self._obs_leaves(obs)
            self._check(self._obs_columns, leaves)
            return leaves
        structure = structure_of(obs)
        leaves = self._plain_leaves(obs)
        specs = self._specs_of("obs", structure, leaves)
        if structure != self._layout.obs or specs != self._specs[: self._layout.obs_width]:
            self._layout = self._layout._replace(obs=structure, obs_width=len(specs), acts=None, act_width=0)
            self._specs = specs
            self._spares.clear()
            self._enter(self._new_block(self._first_capacity()))
            # `reset` goes on to the next row, which is to be the first.
            self._row -= 1
        return leaves

    def _fit_actions(self, acts: Tree) -> list[Array]:
        if self.held:
            leaves = [np.asarray(leaf) for leaf in flatten(acts, self._layout.acts, "acts")]
            self._check(self._act_columns, leaves)
            return leaves
        structure = structure_of(acts)
        leaves = self._plain_leaves(acts)
        specs = self._specs_of("acts", structure, leaves)
        self._layout = self._layout._replace(acts=structure, act_width=len(specs))
        self._replace_columns(self._layout.obs_width, specs)
        return leaves

    def _fit_rewards(self, rews: Any) -> tuple[Column, Array]:
        rews = as_rewards(rews)
        spec = ColumnSpec.of("rews", rews, self.num_envs)
        if self._rew_column is not None and self.held:
            self._rew_column.spec.check(rews, self._rew_column.row_shape)
        elif rews.ndim != 1:
            raise ShapeError(f"rews: expected shape ({self.num_envs},), one an environment, got {rews.shape}")
        elif self._rew_column is None or self._rew_column.spec != spec:
            self._replace_columns(self._layout.obs_width + self._layout.act_width, [spec])
        return self._block.columns[-1], rews

    def _plain_leaves(self, tree: Tree) -> list[Array]:
        return [np.asarray(leaf) for leaf in flatten(tree, structure_of(tree))]

    def _specs_of(self, name: str, structure: Structure, leaves: Sequence[Array]) -> list[ColumnSpec]:
        names = leaf_names(structure, name)
        return [ColumnSpec.of(each, leaf, self.num_envs) for each, leaf in zip(names, leaves, strict=True)]

    def _check(self, columns: Sequence[Column], leaves: Sequence[Array]) -> None:
        for column, leaf in zip(columns, leaves, strict=True):
            column.spec.check(leaf, column.row_shape)

    def _replace_columns(self, position: int, specs: list[ColumnSpec]) -> None:
        """Nothing is held: put columns of another kind in the place of those from `position` on."""
        self._specs = self._specs[:position] + specs
        self._block.replace(position, specs)
        self._use(self._block)

    # Memory

    def _use(self, block: Block) -> None:
        self._block = block
        obs_width, act_width = self._layout.obs_width, self._layout.act_width
        self._obs_columns = block.columns[:obs_width]
        self._act_columns = block.columns[obs_width : obs_width + act_width]
        behind = block.columns[obs_width + act_width :]
        self._rew_column = behind[0] if behind else None

    def _enter(self, block: Block) -> None:
        """Go on in the first rows of a block that nobody needs."""
        block.infos = []
        self._use(block)
        self._first = np.arange(self.num_envs, dtype=np.int64) * block.capacity
        self._row = self._first.copy()
        self._block_tick = self._ticks
        self._piece_row = self._row.tolist()
        self._piece_tick = [self._ticks] * self.num_envs
        self._room = 0

    def _move(self, block: Block) -> None:
        """Go on in another block (or anew in this one) with the current observations."""
        current = [column.rows[self._row] for column in self._obs_columns]
        if block is not self._block:
            self._spares.append(self._block)
            del self._spares[:-_SPARES]
        self._enter(block)
        for column, leaf in zip(self._obs_columns, current, strict=True):
            column.write(self._row, leaf)

    def _roll(self) -> None:
        """The block is full: running fragments go on in another."""
        spans_a_block = any(self._run_pieces)
        for env in range(self.num_envs):
            self._run_pieces[env] = self._run_pieces[env] + self._current_piece(env)
        grown = self._sink is None or spans_a_block
        self._move(self._free_block(self._block.capacity * (2 if grown else 1)))

    def _start_over(self) -> None:
        """Nothing is held: use memory again that is warm, or make a block of the size that was needed lately."""
        needed = (self._ticks - self._period_tick) * 5 // 4 + _FEWEST_ROWS
        self._period_tick = self._ticks
        for spare in self._spares:
            spare.infos = []
        if not self._block.is_shared():
            self._move(self._block if needed <= self._block.capacity else self._free_block(needed))
        elif needed * self.num_envs * self._block.item_bytes() > _SMALL_PERIOD_BYTES or self._free_rows() < needed:
            self._move(self._free_block(needed))
        else:
            self._block.infos = []
            self._block_tick = self._ticks
            self._piece_row = self._row.tolist()
            self._piece_tick = [self._ticks] * self.num_envs

    def _free_rows(self) -> int:
        """Rows left in the block for every environment."""
        return self._block.capacity - 1 - int((self._row - self._first).max())

    def _make_room(self) -> None:
        # A step takes one row, and one more where an episode ends.
        if self._free_rows() < 2:
            self._roll()
        room = self._free_rows() // 2
        if self._max_transitions is not None:
            while self._drops_oldest and self._finished and self.held + self.num_envs > self._max_transitions:
                self.dropped += self._finished[0].steps
                self._let_go_of_oldest()
            if self.held + self.num_envs > self._max_transitions:
                cure = "raise max_transitions" if self._drops_oldest else 'pop them, or pass on_full="drop_oldest"'
                raise BufferFullError(
                    f"{self.held} transitions are held, {self.num_envs} more would exceed max_transitions="
                    f"{self._max_transitions}; {cure}. The environments were not stepped"
                )
            room = min(room, (self._max_transitions - self.held) // self.num_envs)
        self._room = room

    def _first_capacity(self) -> int:
        step_bytes = self.num_envs * max(1, sum(spec.item_bytes for spec in self._specs))
        if step_bytes < self.num_envs * _LARGE_ITEM_BYTES:
            capacity = _FIRST_BLOCK_ROWS
        else:
            reserved = _FIRST_BLOCK_BYTES if self._sink is None else _FIRST_BLOCK_BYTES_WITH_SINK
            capacity = reserved // step_bytes
        if self._max_transitions is not None:
            capacity = min(capacity, 2 * self._max_transitions // self.num_envs)
        return max(capacity, _FEWEST_ROWS)

    def _free_block(self, capacity: int) -> Block:
        runs = [*self._finished, *self._running()]
        needed = {id(piece.block) for run in runs for piece in run.pieces}
        for i, spare in enumerate(self._spares):
            fits = capacity <= spare.capacity and spare.specs == self._specs
            if fits and id(spare) not in needed and not spare.is_shared():
                return self._spares.pop(i)
        return self._new_block(capacity)

    def _new_block(self, capacity: int) -> Block:
        while True:
            try:
                # An odd capacity: the environments' rows then do not fall on the same lines of the cache.
                return Block(self.num_envs, capacity | 1, self._specs)
            except MemoryError:
                if capacity <= _FEWEST_ROWS:
                    raise
                capacity //= 2

    def _out_of_order(self, waiting: bool = True) -> ProtocolError:
        if not self._ready:
            return ProtocolError("expected reset() first: nothing was reset yet, or the last step failed")
        if waiting:
            return ProtocolError("expected step_wait(): the actions of the last step_async() still wait for their step")
        return ProtocolError("expected step_async() first: there are no actions whose step could be waited for")


def _fit(columns: Sequence[Column], leaves: Sequence[Array]) -> bool:
    if len(columns) != len(leaves):
        return False
    for column, leaf in zip(columns, leaves):  # noqa: B905  # lengths were compared; strict= costs time at every step
        if leaf.shape != column.row_shape or leaf.dtype != column.dtype:
            return False
    return True


def _check_options(
    num_envs: int, record_infos: RecordInfos, max_transitions: int | None, on_full: str, early_reset: str
) -> None:
    if isinstance(record_infos, str) and record_infos not in ("all", "none"):
        raise OptionError(f'record_infos: expected "all", "none" or a list of keys, got {record_infos!r}')
    if max_transitions is not None and max_transitions < num_envs:
        raise OptionError(f"max_transitions: expected at least {num_envs}, one step of all environments, got {max_transitions}")
    if on_full not in ("refuse", "drop_oldest"):
        raise OptionError(f'on_full: expected "refuse" or "drop_oldest", got {on_full!r}')
    if early_reset not in ("close", "drop"):
        raise OptionError(f'early_reset: expected "close" or "drop", got {early_reset!r}')
