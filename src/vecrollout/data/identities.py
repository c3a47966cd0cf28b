"""Identities of several trajectories, field by field."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from vecrollout.data.episode import EndedBy, Episode

_fields_of = attrgetter("recording", "id", "env_index", "start_step", "seed", "ended_by", "reset_info")
_INTEGERS = frozenset((int, type(None)))


@dataclass
class Identities:
    """The fields of `Episode`, with a value for each trajectory. Integers become Python's own."""

    recording: list[str | None]
    id: list[int | None]
    env_index: list[int | None]
    start_step: list[int]
    seed: list[int | None]
    ended_by: list[EndedBy | None]
    reset_info: list[Mapping[str, Any] | None]

    def __post_init__(self) -> None:
        columns: tuple[list[Any], ...] = (self.id, self.env_index, self.start_step, self.seed)
        for column in columns:
            if not _INTEGERS.issuperset(map(type, column)):
                column[:] = [None if value is None else int(value) for value in column]

    @classmethod
    def of(cls, episodes: Iterable[Episode]) -> Identities:
        """The fields of at least one episode."""
        return cls(*map(list, zip(*map(_fields_of, episodes), strict=True)))

    def __len__(self) -> int:
        return len(self.id)
