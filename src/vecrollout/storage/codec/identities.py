"""Identities of trajectories, field by field."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from operator import attrgetter, index
from typing import Any, get_args

from vecrollout.data.trajectory import EndedBy, Episode
from vecrollout.errors import ArgumentTypeError, OptionError

# A dict, of which an ending that is no text at all is no key.
_ENDINGS = dict.fromkeys((None, *get_args(EndedBy)))
_INT32, _INT64 = 1 << 31, 1 << 63

# Python itself writes no number that is much longer.
_SEED = 1 << 4096

_fields_of = attrgetter("recording", "id", "env_index", "start_step", "seed", "ended_by", "reset_info")
_INTEGERS = frozenset((int, type(None)))


@dataclass
class Identities:
    """Identity of each of some trajectories, as in `Episode`; integers are Python's own."""

    recording: list[str | None]
    id: list[int | None]
    env_index: list[int | None]
    start_step: list[int]
    seed: list[int | None]
    ended_by: list[EndedBy | None]
    reset_info: list[Mapping[str, Any] | None]

    @classmethod
    def of(cls, episodes: Iterable[Episode]) -> Identities:
        """The fields of at least one episode."""
        found = cls(*map(list, zip(*map(_fields_of, episodes), strict=True)))
        columns: tuple[list[Any], ...] = (found.id, found.env_index, found.start_step, found.seed)
        for column in columns:
            if not _INTEGERS.issuperset(map(type, column)):
                column[:] = [None if value is None else int(value) for value in column]
        return found

    def __len__(self) -> int:
        return len(self.id)


def check_episode(episode: Any, steps: int) -> None:
    """Refuse an identity that cannot be written."""
    # One condition, as it is asked of every trajectory.
    try:
        number, env_index, seed, info = episode.id, episode.env_index, episode.seed, episode.reset_info
        if (
            (number is None or -_INT64 <= index(number) < _INT64)
            and (env_index is None or -_INT32 <= index(env_index) < _INT32)
            and 0 <= index(episode.start_step) < _INT64 - steps
            and (seed is None or -_SEED < index(seed) < _SEED)
            and episode.ended_by in _ENDINGS
            and (info is None or type(info) is dict or isinstance(info, Mapping))
            and (episode.recording is None or type(episode.recording) is str)
        ):
            return
    except (TypeError, AttributeError) as error:
        raise ArgumentTypeError(f"episode: expected an Episode of integers and text, got another: {error}") from error
    if not isinstance(info, Mapping | None):
        raise ArgumentTypeError(f"episode.reset_info: expected a dict or None, got {type(info).__name__}")
    if not isinstance(episode.recording, str | None):
        raise ArgumentTypeError(f"episode.recording: expected text or None, got {type(episode.recording).__name__}")
    if episode.ended_by not in _ENDINGS:
        raise OptionError(f"episode.ended_by: expected one of {tuple(_ENDINGS)}, got {episode.ended_by!r}")
    raise OptionError(
        "episode: expected an id and steps of 64 bits, an env_index of 32 and a seed of 4096 at most, got "
        f"id {number}, env_index {env_index}, {steps} steps from {episode.start_step} on"
    )
