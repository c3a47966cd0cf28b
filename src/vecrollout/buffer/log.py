"""The log of E environments: one record a step. Committed records never change, so whatever refers to them can wait."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from vecrollout._typing import Array
from vecrollout.buffer.episodes import Ending, Note
from vecrollout.buffer.layout import Layout, check_shape, fitted, part_of, widened
from vecrollout.buffer.memory import Chunk, Lanes
from vecrollout.buffer.table import LEAVES, PLACE, TOTAL, WAITING, Place
from vecrollout.data.foreign import as_array, as_arrays
from vecrollout.data.kinds import Part
from vecrollout.data.trees import Tree
from vecrollout.errors import DtypeError, ShapeError, StructureError

_ndarray = np.ndarray

NOBODY: frozenset[int] = frozenset()


class StepLog:
    """Takes what happened as records. Each method commits by one assignment, its last one.

    Args:
        num_envs: Number of environments, E.
        keeps_infos: Whether records have infos.
        has_sink: Whether trajectories leave at once, so that less memory is reserved.
        most_steps: The most steps to hold; None: no limit.
        dtypes: Trees of dtypes that observations and actions are cast to; None: they keep their own.
    """

    def __init__(
        self,
        num_envs: int,
        keeps_infos: bool,
        has_sink: bool,
        most_steps: int | None,
        dtypes: tuple[Any, Any] | None = None,
    ) -> None:
        self.num_envs = num_envs
        self.chunks: tuple[Chunk, ...] = ()
        """The chunks that are needed; the last one takes the records. Replaced, never altered."""
        self.keeps_infos = keeps_infos
        """Whether records have infos."""
        self._has_sink = has_sink
        self._most_steps = most_steps
        self._dtypes = (
            {"obs": None, "acts": None} if dtypes is None else dict(zip(("obs", "acts"), dtypes, strict=True))
        )
        # Where some environments act at a time: what actions are made of, and the last ones, by environment.
        self._sent_part: Part | None = None
        self._sent: list[Array] = []

    @property
    def waiting(self) -> frozenset[int]:
        """Environments whose episode is over, or that have not begun any."""
        if self.chunks:
            return self.chunks[-1].records[-1][WAITING]  # type: ignore[no-any-return]
        return frozenset(range(self.num_envs))

    @property
    def total(self) -> int:
        """Transitions recorded so far."""
        return int(self.chunks[-1].records[-1][TOTAL]) if self.chunks else 0

    @property
    def layout(self) -> Layout:
        """What the next records are made of."""
        return self.chunks[-1].layout

    def current(self) -> list[Array]:
        """Leaves of the environments' current observations, shape `(E, *item)` each, as copies."""
        chunk = self.chunks[-1]
        return [chunk.current(LEAVES + leaf) for leaf in range(len(chunk.layout.obs.items))]

    # Chunks

    def begin(
        self,
        layout: Layout,
        leaves: Sequence[Array],
        waiting: frozenset[int],
        notes: Sequence[Note] = (),
        total: int | None = None,
        reuses_lanes: bool = False,
    ) -> None:
        """Begin a chunk, with the environments' current observations."""
        last = self.chunks[-1] if self.chunks else None
        lanes = last.lanes if last is not None and reuses_lanes and layout.obs == last.layout.obs else None
        if lanes is None or lanes.is_shared:
            lanes = Lanes.of(layout, self._has_sink, self._most_steps)
        place = None
        if lanes is not None:
            lanes.write(lanes.first, [leaves[i] for i in layout.large])
            place = Place(None, None, lanes.first)
        total = self.total if total is None else total
        opening = (total, waiting, notes or None, None, place, None, *_small(layout, leaves))
        number = 0 if last is None else last.number + 1
        self.chunks = (*self.chunks, Chunk(layout, number, lanes, opening))

    def roll(
        self,
        layout: Layout | None = None,
        waiting: frozenset[int] | None = None,
        reuses_lanes: bool = False,
        notes: Sequence[Note] = (),
    ) -> None:
        """Go on in another chunk."""
        old = self.chunks[-1]
        leaves: Sequence[Array] = self.current()
        if layout is not None and layout.obs is not old.layout.obs:
            leaves = widened(layout.obs, leaves, "obs")
        waiting = self.waiting if waiting is None else waiting
        self.begin(layout or old.layout, leaves, waiting, notes, reuses_lanes=reuses_lanes)

    def trim(self, oldest: int) -> None:
        """Let go of the chunks before this one."""
        if self.chunks[0].number < oldest:
            self.chunks = tuple(chunk for chunk in self.chunks if chunk.number >= oldest)

    def know(self, layout: Layout) -> None:
        """Record data of another layout from here on."""
        chunk = self.chunks[-1]
        if chunk.has_steps() or layout.obs is not chunk.layout.obs:
            self.roll(layout)
        else:
            chunk.know(layout)

    # What comes in

    def take_acts(self, acts: Tree, is_fixed: bool) -> tuple[Any, ...]:
        """Actions of all environments, of any kind, as a record has them."""
        layout = self.layout
        part, leaves, _ = self._fitted(layout.acts, acts, self.num_envs, "acts", is_fixed)
        if part is not layout.acts:
            self.know(replace(layout, acts=part))
        return tuple(item.kept(leaf) for item, leaf in zip(part.items, leaves, strict=True))

    def take_acts_of(self, envs: Array, acts: Tree) -> None:
        """Actions of some environments, which a step of theirs answers later."""
        known = self.layout.acts if self.chunks else self._sent_part
        part, leaves, goes_on = self._fitted(known, acts, len(envs), "acts", is_fixed=True)
        if self.chunks and part is not known:
            self.know(replace(self.layout, acts=part))
        if self._sent_part is not part:
            if goes_on and self._sent:
                self._sent = [each.astype(item.dtype) for each, item in zip(self._sent, part.items, strict=True)]
            else:
                self._sent = [np.empty((self.num_envs, *item.shape), item.dtype) for item in part.items]
            self._sent_part = part
        for sent, leaf in zip(self._sent, leaves, strict=True):
            sent[envs] = leaf

    def take_step(
        self,
        acts: Any,
        obs: Tree,
        rews: Any,
        infos: Any,
        notes: Sequence[Note],
        envs: Array | None,
        is_fixed: bool,
    ) -> None:
        """Commit a step of any kind.

        Args:
            acts: As `take_acts` returned them; not looked at if only some environments stepped.
            obs: Observations.
            rews: Rewards.
            infos: Infos, as records have them.
            notes: Episodes that ended or began.
            envs: Which environments stepped; None: all.
            is_fixed: Whether data is held, so that rewards of another precision are widened.
        """
        rows = self.num_envs if envs is None else len(envs)
        if not self.chunks:
            # The first observations of an EnvPool: those of the other environments are still to come.
            part = part_of(as_arrays(obs, "obs"), rows, "obs", self._dtypes["obs"])
            nothing = [np.zeros((self.num_envs, *item.shape), item.dtype) for item in part.items]
            self.begin(Layout(self.num_envs, part, self._sent_part), nothing, self.waiting)
        fitting, rews = self.layout.with_rewards(rews, rows, is_fixed)
        part, leaves = fitted(fitting.obs, obs, rows, "obs", self._dtypes["obs"] is not None, is_fixed)
        if part is not fitting.obs:
            fitting = replace(fitting, obs=part)
        flatten_finals(fitting, notes)
        if fitting is not self.layout:
            self.know(fitting)
        if envs is not None and self._sent_part is not None:
            acts = [item.kept(each[envs]) for item, each in zip(self._sent_part.items, self._sent, strict=True)]
        self._append_step(leaves, acts, rews, infos, notes, envs)

    def take_reset(self, obs: Tree, notes: Sequence[Note], envs: Array | None, is_fixed: bool) -> None:
        """Commit first observations of any kind.

        Args:
            obs: Observations of all environments; those of others than `envs` are not looked at.
            notes: Which episodes begin.
            envs: Which environments were reset; None: all.
            is_fixed: Whether data is held, so that observations of another kind are refused.
        """
        known = self.layout.obs if self.chunks else None
        part, leaves, goes_on = self._fitted(known, obs, self.num_envs, "obs", is_fixed or envs is not None)
        waiting = NOBODY if envs is None else self.waiting.difference(envs.tolist())
        if goes_on:
            if part is not known:
                self.know(replace(self.layout, obs=part))
            elif self.chunks[-1].free_steps() < 1:
                self.roll()
            self._append_reset(notes, leaves if envs is None else [leaf[envs] for leaf in leaves], envs, waiting)
        else:
            self.begin(Layout(self.num_envs, part), leaves, waiting, notes)

    def _fitted(
        self, known: Part | None, tree: Tree, rows: int, where: str, is_fixed: bool
    ) -> tuple[Part, Sequence[Array], bool]:
        """A tree's part and leaves, and whether the part is the known one, widened perhaps.

        Where nothing is held, data of any kind is taken. What a sink gets keeps its dtypes as long as they do.
        """
        dtypes = self._dtypes[where]
        if known is not None and (is_fixed or self._has_sink):
            try:
                return *fitted(known, tree, rows, where, dtypes is not None, is_fixed), True
            except (ShapeError, DtypeError, StructureError):
                if is_fixed:
                    raise
        tree = as_arrays(tree, where)
        part, leaves = fitted(part_of(tree, rows, where, dtypes), tree, rows, where, dtypes is not None)
        return (known, leaves, True) if known is not None and part == known else (part, leaves, False)

    # Records

    def _append_reset(
        self, notes: Sequence[Note], leaves: Sequence[Array], envs: Array | None, waiting: frozenset[int]
    ) -> None:
        """Commit the first observations of environments, which were reset between two steps."""
        chunk = self.chunks[-1]
        chunk.has_gaps = True
        place = self.place(envs, notes, leaves)
        rows = self.num_envs if envs is None else len(envs)
        infos: tuple[Any, ...] = ({},) * rows if self.keeps_infos else ()
        acts = (None,) * (len(chunk.layout.acts.items) if chunk.layout.acts else 0)
        total = chunk.records[-1][TOTAL]
        chunk.append((total, waiting, notes, infos, place, None, *_small(chunk.layout, leaves), *acts))

    def _append_step(
        self,
        leaves: Sequence[Array],
        acts: Sequence[Any],
        rews: Array,
        infos: Any,
        notes: Sequence[Note],
        envs: Array | None,
    ) -> None:
        """Commit a step whose data fits the layout."""
        chunk = self.chunks[-1]
        before = self.waiting
        # Rows of environments whose episode was over are no transitions.
        steps = self.num_envs - len(before) if envs is None else len(envs) - len(before.intersection(envs.tolist()))
        if not acts:
            chunk.has_gaps = True  # no environment acted: each of them begins an episode
        place = self.place(envs, notes, leaves)
        total = chunk.records[-1][TOTAL] + steps
        small = _small(chunk.layout, leaves)
        waiting = waiting_after(before, notes)
        chunk.append((total, waiting, notes or None, infos, place, rews.tobytes(), *small, *acts))

    def place(self, envs: Array | None, notes: Sequence[Note], leaves: Sequence[Array]) -> Place | None:
        """Where the rows of the next record are; large ones are written there."""
        chunk = self.chunks[-1]
        lanes = chunk.lanes
        if envs is None and lanes is None and not chunk.is_ragged:
            return None
        last = chunk.records[-1][PLACE]
        clock = at = None
        if envs is not None or chunk.is_ragged:
            known = last is not None and last.clock is not None
            clock = last.clock.copy() if known else np.full(self.num_envs, len(chunk.records) - 1)
            clock[slice(None) if envs is None else envs] += 1
            chunk.is_ragged, chunk.obs_dtype = True, None
        if lanes is not None:
            at = last.at + 1
            if envs is not None:
                at = last.at.copy()
                at[envs] += 1
            for note in notes:
                if note.final_obs is not None:
                    finals = [note.final_obs[i][np.newaxis] for i in chunk.layout.large]
                    lanes.write(at[note.env : note.env + 1], finals)
                    at[note.env] += 1
            lanes.write(at if envs is None else at[envs], [leaves[i] for i in chunk.layout.large])
        return Place(envs, clock, at)


def waiting_after(waiting: frozenset[int], notes: Sequence[Note]) -> frozenset[int]:
    """Environments whose episode is over after a record with these notes."""
    over = [note.env for note in notes if not note.begins]
    if not waiting and not over:
        return waiting
    return waiting.difference([note.env for note in notes if note.begins]).union(over)


def flatten_finals(layout: Layout, notes: Sequence[Note]) -> bool:
    """Replace last observations by leaves of the log's own. Returns whether every note has a last observation.

    An environment's own observation is often a Python number, or of another precision than the array that the vector
    environment copies all of them into. It is cast as it would have been there.
    """
    items, structure = layout.obs.items, layout.obs.structure
    dtype, shape = (items[0].dtype, items[0].shape) if structure.is_leaf else (None, ())
    have_finals = True
    for note in notes:
        final = note.final_obs
        if final is None or type(note) is not Ending:
            have_finals = False
            continue
        if type(final) is _ndarray and final.dtype is dtype and final.shape == shape:
            note.final_obs = (final,)
            continue
        where = f"last observation of environment {note.env}"
        if structure.is_leaf and type(final) in (list, tuple):
            final = as_array(final, where)
        leaves = []
        for i, (leaf, item) in enumerate(zip(structure.flatten(final, where), items, strict=True)):
            array = np.array(as_array(leaf, where), dtype=item.dtype)
            if array.shape != item.shape:
                check_shape(array, item.shape, f"{structure.names('obs')[i]} ({where})")
            leaves.append(array)
        note.final_obs = leaves
    return have_finals


def _small(layout: Layout, leaves: Sequence[Array]) -> list[Any]:
    """Leaves of observations as a record keeps them; None for those in lanes."""
    large = layout.large
    if not large and len(leaves) == 1:
        return [layout.obs.items[0].kept(leaves[0])]
    pairs = enumerate(zip(layout.obs.items, leaves, strict=True))
    return [None if i in large else item.kept(leaf) for i, (item, leaf) in pairs]
