"""Numbers of episodes, and which of their steps a writer already has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from vecrollout.data.identities import Identities

_ID_BITS = 40
_PAGE_BITS = 15
_MANY = 8
_PAGE_MASK = (1 << _PAGE_BITS) - 1

Steps: TypeAlias = tuple[int, int]
"""First step and the one behind the last."""


class Recording:
    """The steps of one recording that a writer has."""

    def __init__(self, rank: int) -> None:
        self.first = rank << _ID_BITS
        """Number of the episode whose id is 0."""
        # Complete episodes. There can be millions, so each takes one byte of a page.
        self._whole: dict[int, npt.NDArray[np.bool_]] = {}
        # Of all other episodes, the steps so far, in order.
        self._parts: dict[int, list[Steps]] = {}
        # The number of steps of those that ended.
        self._ends: dict[int, int] = {}

    def new_steps(self, number: int, start: int, stop: int, has_ended: bool) -> list[Steps]:
        """Which of these steps are new. They are known from now on."""
        page, at = number >> _PAGE_BITS, number & _PAGE_MASK
        whole = self._whole.get(page)
        if whole is not None and whole[at]:
            return []
        parts = self._parts.pop(number, None)
        if parts is None:
            new, parts = [(start, stop)], [(start, stop)]
        else:
            new, parts = _without(parts, start, stop), _merged([*parts, (start, stop)])
        if has_ended:
            self._ends[number] = stop
        if parts == [(0, self._ends.get(number))]:
            del self._ends[number]
            self._page(page)[at] = True
        else:
            self._parts[number] = parts
        return new

    def are_new(self, numbers: npt.NDArray[np.int64]) -> bool:
        """Whether whole episodes are new, and each is given once. If so, they are known from now on."""
        pages, at = numbers >> _PAGE_BITS, numbers & _PAGE_MASK
        first, once = int(pages[0]), set(numbers.tolist())
        if len(once) < len(numbers) or not self._parts.keys().isdisjoint(once) or (pages != first).any():
            return False
        whole = self._page(first)
        if whole[at].any():
            return False
        whole[at] = True
        return True

    def _page(self, number: int) -> npt.NDArray[np.bool_]:
        page = self._whole.get(number)
        if page is None:
            page = self._whole[number] = np.zeros(1 << _PAGE_BITS, bool)
        return page


class Numbering:
    """Numbers of episodes that are unique in a trace, recording by recording in the order of their first trajectories.

    The first recording keeps its ids as numbers. Trajectories without a recording are always new: an id that is given
    again begins another recording, and a trajectory without an id is an episode of its own.
    """

    def __init__(self) -> None:
        self._recordings: dict[str, Recording] = {}
        self._unnamed: Recording | None = None
        self._without_id: Recording | None = None
        self._next_without_id = 0
        self._ranks = 0

    def place(
        self, identities: Identities, steps: Sequence[int]
    ) -> tuple[npt.NDArray[np.int64], list[list[Steps]] | None]:
        """Numbers of the trajectories' episodes, and the new steps of each; None: all steps are new."""
        numbers = self._place_whole(identities) if len(steps) >= _MANY else None
        if numbers is not None:
            return numbers, None
        columns = identities.recording, identities.id, identities.start_step, identities.ended_by, steps
        placed = [self._place(*each) for each in zip(*columns, strict=True)]
        news = [new for _, new in placed]
        is_all = all(new == [(0, length)] for new, length in zip(news, steps, strict=True))
        return np.array([number for number, _ in placed], np.int64), None if is_all else news

    def _place_whole(self, identities: Identities) -> npt.NDArray[np.int64] | None:
        """Numbers of new whole episodes of one recording; None if the trajectories are anything else."""
        names, ids = set(identities.recording), identities.id
        name = names.pop()
        if names or None in ids or any(identities.start_step) or None in identities.ended_by:
            return None
        numbers = np.array(ids, np.int64)
        if numbers.min() < 0 or numbers.max() >= 1 << _ID_BITS:
            return None
        if name is None and self._unnamed is None:
            self._unnamed = self._begun()
        recording = self._unnamed if name is None else self._recording(name)
        return numbers + recording.first if recording and recording.are_new(numbers) else None

    def _place(
        self, name: str | None, number: int | None, start: int, ended_by: str | None, steps: int
    ) -> tuple[int, list[Steps]]:
        has_ended = ended_by is not None
        if number is None or not 0 <= number < 1 << _ID_BITS:
            return self._number_without_id(), [(0, steps)]
        if name is not None:
            recording = self._recording(name)
            new = recording.new_steps(number, start, start + steps, has_ended)
            return recording.first + number, [(begin - start, end - start) for begin, end in new]
        for _ in range(2):
            if self._unnamed is None:
                self._unnamed = self._begun()
            if self._unnamed.new_steps(number, start, start + steps, has_ended) == [(start, start + steps)]:
                break
            self._unnamed = None  # another recording with the same ids begins
        return (self._unnamed or self._begun()).first + number, [(0, steps)]

    def _recording(self, name: str) -> Recording:
        recording = self._recordings.get(name)
        if recording is None:
            recording = self._recordings[name] = self._begun()
        return recording

    def _begun(self) -> Recording:
        self._ranks += 1
        return Recording(self._ranks - 1)

    def _number_without_id(self) -> int:
        if self._without_id is None:
            self._without_id = self._begun()
        self._next_without_id += 1
        return self._without_id.first + self._next_without_id - 1


def _without(parts: list[Steps], start: int, stop: int) -> list[Steps]:
    """The parts of [start, stop) that no part has."""
    found = []
    for begin, end in parts:
        if start < begin:
            found.append((start, min(begin, stop)))
        start = max(start, end)
    if start < stop:
        found.append((start, stop))
    return [(begin, end) for begin, end in found if begin < end]


def _merged(parts: list[Steps]) -> list[Steps]:
    merged: list[Steps] = []
    for begin, end in sorted(parts):
        if merged and begin <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(end, merged[-1][1])
        else:
            merged.append((begin, end))
    return merged
