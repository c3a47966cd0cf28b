"""The trajectories that begin in a record batch: where they lie, and which they are."""

from __future__ import annotations

from functools import cached_property
from typing import Any, TypeAlias, get_args

import numpy as np

from vecrollout.data.fields import trusted
from vecrollout.data.trajectory import EndedBy, Episode
from vecrollout.errors import DamagedTraceError
from vecrollout.storage.arrow import Parsing
from vecrollout.storage.codec.index import BatchIndex
from vecrollout.storage.codec.infos import unpacked_info
from vecrollout.storage.codec.metadata import parsed
from vecrollout.storage.codec.schema import NO_RESET_INFO, TRAJECTORY_FIELDS

Entry: TypeAlias = tuple[int, int, bool, bool, bool, Episode]
"""First row, row of the last observation, terminated, truncated, whether infos were kept, identity."""

_ENDINGS = frozenset((None, *get_args(EndedBy)))
_NAMES = [field.name for field in TRAJECTORY_FIELDS]

# Single entries are read one by one. From so many on, and for neighbors, it is quicker to read all.
_FEW = 20


class Entries:
    """The trajectories that begin in a record batch.

    Args:
        column: The column `trajectory`.
        index: The same trajectories, as the journal or a look at all rows tells.
        where: Shard and batch, for errors.
    """

    def __init__(self, column: Any, index: BatchIndex, where: str) -> None:
        self._where = where
        self.index = index
        """Where trajectories begin and how they end."""
        with Parsing(f"{where}: expected trajectories"):
            self._entries = column.values
            # Row i has the entries from `offsets[i]` up to `offsets[i + 1]`.
            self._offsets = np.frombuffer(column.buffers()[1], np.int32)
        if column.null_count or self._entries.null_count or len(self._entries) != len(index):
            raise DamagedTraceError(f"{where}: expected the trajectories that the journal lists, got others")
        self._all: list[Entry] | None = None
        self._singles: dict[int, Entry] = {}
        self._next = -1

    def __len__(self) -> int:
        return len(self.index)

    def column(self, name: str) -> Any:
        """One of `TRAJECTORY_FIELDS` of all entries, a `pyarrow.Array`."""
        return self._sound.field(name)

    def all(self) -> list[Entry]:
        """All entries."""
        if self._all is None:
            self._all = self._read(0, len(self))
        return self._all

    def entry(self, i: int) -> Entry:
        """An entry."""
        if self._all is not None:
            return self._all[i]
        is_neighbor, self._next = i == self._next, i + 1
        if is_neighbor or len(self._singles) == _FEW:
            return self.all()[i]
        entry = self._singles.get(i)
        if entry is None:
            (entry,) = self._read(i, i + 1)
            self._singles[i] = entry
        return entry

    def more(self, i: int) -> dict[str, Any]:
        """What else is kept of a trajectory, as JSON."""
        text = self._sound.field("extra")[i].as_py()
        return {} if text is None else parsed(text, self._where)

    def metadata(self, i: int) -> dict[str, Any]:
        """What the user said about a trajectory."""
        return unpacked_info(self.more(i).get("metadata", {}), self._where)

    @cached_property
    def _sound(self) -> Any:
        """All entries, checked."""
        return self._checked(self._entries)

    def _checked(self, entries: Any) -> Any:
        """Refuse entries with text or offsets that pyarrow must not read."""
        with Parsing(f"{self._where}: expected trajectories"):
            entries.validate(full=True)
        return entries

    def _read(self, begin: int, end: int) -> list[Entry]:
        """Some neighboring entries; each is in its trajectory's first row."""
        entries, index = self._checked(self._entries.slice(begin, end - begin)), self.index
        told = [entries.field(name).to_pylist() for name in _NAMES]
        recordings, ids, envs, starts, seeds, endings, steps, has_infos, extras = told
        if not _ENDINGS.issuperset(endings) or None in starts or (starts and min(starts) < 0):
            raise DamagedTraceError(f"{self._where}: expected identities of episodes, got {endings} from {starts}")
        first, rows, ended = index.row[begin:end], index.rows[begin:end], index.ended[begin:end]
        numbers = np.arange(begin, end)
        are_placed = (self._offsets[first] == numbers).all() and (self._offsets[first + 1] == numbers + 1).all()
        if not are_placed or steps != (rows - 1).tolist():
            raise DamagedTraceError(f"{self._where}: expected the trajectories that the journal lists, got others")
        reset_infos: list[dict[str, Any] | None] = [None] * len(extras)
        if extras.count(None) < len(extras):
            for i, text in enumerate(extras):
                if text == NO_RESET_INFO:
                    reset_infos[i] = {}
                elif text is not None:
                    reset_infos[i], seeds[i] = self._reset(text, seeds[i])
        places = (each.tolist() for each in (first, first + rows - 1, ended & 1 == 1, ended >= 2))
        identities = ids, envs, starts, seeds, reset_infos, endings, recordings
        return [
            (
                row,
                last,
                terminated,
                truncated,
                has,
                trusted(
                    Episode,
                    {
                        "id": number,
                        "env_index": env,
                        "start_step": start,
                        "seed": seed,
                        "reset_info": reset_info,
                        "ended_by": ended_by,
                        "recording": recording,
                    },
                ),
            )
            for row, last, terminated, truncated, has, number, env, start, seed, reset_info, ended_by, recording in zip(
                *places, has_infos, *identities, strict=True
            )
        ]

    def _reset(self, text: str, seed: Any) -> tuple[dict[str, Any] | None, Any]:
        """Reset info and seed, as `extra` tells them."""
        more = parsed(text, self._where)
        seed = more.get("seed", seed)
        if seed is not None and type(seed) is not int:
            raise DamagedTraceError(f"{self._where}: expected a seed, got {seed!r}")
        return (unpacked_info(more["reset_info"], self._where) if "reset_info" in more else None), seed
