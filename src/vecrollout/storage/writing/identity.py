"""Which episode a trajectory is of, by its recording and id, and which of its steps a writer got before."""

from __future__ import annotations

from collections.abc import Mapping
from operator import index
from typing import Any, TypeAlias, get_args

from vecrollout.data.trajectory import EndedBy, Episode
from vecrollout.errors import ArgumentTypeError, OptionError

# A dict, which an ending that is no text at all is no key of.
_ENDINGS = dict.fromkeys((None, *get_args(EndedBy)))
_INT32, _INT64 = 1 << 31, 1 << 63

# Python itself writes no number that is much longer.
_SEED = 1 << 4096

_ID_BITS = 40
_PAGE_BITS = 15

Steps: TypeAlias = tuple[int, int]
"""First step and the one behind the last."""


def check_episode(episode: Any, steps: int) -> None:
    """Refuse an identity that cannot be written."""
    # One condition, as it is asked of every trajectory.
    number, env_index, seed = episode.id, episode.env_index, episode.seed
    try:
        if (
            (number is None or -_INT64 <= index(number) < _INT64)
            and (env_index is None or -_INT32 <= index(env_index) < _INT32)
            and 0 <= index(episode.start_step) < _INT64 - steps
            and (seed is None or -_SEED < index(seed) < _SEED)
            and episode.ended_by in _ENDINGS
            and (episode.reset_info is None or isinstance(episode.reset_info, Mapping))
            and (episode.recording is None or type(episode.recording) is str)
        ):
            return
    except (TypeError, AttributeError) as error:
        raise ArgumentTypeError(f"episode: expected an Episode of integers and text, got another: {error}") from error
    if not isinstance(episode.reset_info, Mapping | None):
        raise ArgumentTypeError(f"episode.reset_info: expected a dict or None, got {type(episode.reset_info).__name__}")
    if not isinstance(episode.recording, str | None):
        raise ArgumentTypeError(f"episode.recording: expected text or None, got {type(episode.recording).__name__}")
    if episode.ended_by not in _ENDINGS:
        raise OptionError(f"episode.ended_by: expected one of {tuple(_ENDINGS)}, got {episode.ended_by!r}")
    raise OptionError(
        "episode: expected an id and steps of 64 bits, an env_index of 32 and a seed of 4096 at most, got "
        f"id {number}, env_index {env_index}, {steps} steps from {episode.start_step} on"
    )


class Recording:
    """What came of one recording."""

    def __init__(self, rank: int) -> None:
        self.first = rank << _ID_BITS
        """Number of the episode whose id is 0."""
        # Episodes of which every step came: a bit each, as there can be millions.
        self._whole: dict[int, bytearray] = {}
        # Of all others, the steps that came, in order.
        self._parts: dict[int, list[Steps]] = {}
        # Of those that ended, the number of steps.
        self._ends: dict[int, int] = {}

    def new_steps(self, number: int, start: int, stop: int, has_ended: bool) -> list[Steps]:
        """Which of these steps did not come before; from now on they did."""
        page, bit = number >> _PAGE_BITS, number & ((1 << _PAGE_BITS) - 1)
        whole = self._whole.get(page)
        if whole is not None and whole[bit >> 3] >> (bit & 7) & 1:
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
            if whole is None:
                whole = self._whole[page] = bytearray(1 << _PAGE_BITS - 3)
            whole[bit >> 3] |= 1 << (bit & 7)
        else:
            self._parts[number] = parts
        return new


class Numbering:
    """Numbers of episodes that are unique in a trace, recording by recording in the order of their first trajectories.

    The first recording's ids are taken as they are. Trajectories without a recording are never taken for repeated: an
    id that comes again begins another recording, and one without an id is an episode of its own.
    """

    def __init__(self) -> None:
        self._recordings: dict[str, Recording] = {}
        self._unnamed: Recording | None = None
        self._without_id: Recording | None = None
        self._next_without_id = 0
        self._ranks = 0

    def place(self, episode: Episode, steps: int) -> tuple[int, list[Steps]]:
        """The number of a trajectory's episode, and which of its own steps are new."""
        start, has_ended = int(episode.start_step), episode.ended_by is not None
        number = episode.id
        if number is None or not 0 <= number < 1 << _ID_BITS:
            return self._number_without_id(), [(0, steps)]
        number = int(number)
        if episode.recording is not None:
            recording = self._recordings.get(episode.recording)
            if recording is None:
                recording = self._recordings[episode.recording] = self._begun()
            new = recording.new_steps(number, start, start + steps, has_ended)
            return recording.first + number, [(begin - start, end - start) for begin, end in new]
        for _ in range(2):
            if self._unnamed is None:
                self._unnamed = self._begun()
            if self._unnamed.new_steps(number, start, start + steps, has_ended) == [(start, start + steps)]:
                break
            self._unnamed = None  # of another recording, which has the same ids
        return (self._unnamed or self._begun()).first + number, [(0, steps)]

    def _begun(self) -> Recording:
        self._ranks += 1
        return Recording(self._ranks - 1)

    def _number_without_id(self) -> int:
        if self._without_id is None:
            self._without_id = self._begun()
        self._next_without_id += 1
        return self._without_id.first + self._next_without_id - 1


def _without(parts: list[Steps], start: int, stop: int) -> list[Steps]:
    """What of [start, stop) is in no part."""
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
