"""The trajectories that begin in a record batch: where they lie, and which they are."""

from __future__ import annotations

from typing import Any, TypeAlias, get_args

import numpy as np

from vecrollout.data.fields import trusted
from vecrollout.data.trajectory import EndedBy, Episode
from vecrollout.errors import DamagedTraceError
from vecrollout.storage.arrow import ArrowErrors
from vecrollout.storage.codec.arrays import listed, values
from vecrollout.storage.codec.index import BatchIndex
from vecrollout.storage.codec.infos import unpacked_info
from vecrollout.storage.codec.metadata import parsed
from vecrollout.storage.codec.schema import NO_RESET_INFO, TRAJECTORY_FIELDS

Entry: TypeAlias = tuple[int, int, bool, bool, bool, Episode]
"""First row, row of the last observation, terminated, truncated, whether infos were kept, identity."""

_ENDINGS = frozenset((None, *get_args(EndedBy)))
_FIELDS = {field.name: i for i, field in enumerate(TRAJECTORY_FIELDS)}
_READ = [
    _FIELDS[name] for name in ("recording", "id", "env_index", "start_step", "seed", "ended_by", "has_infos", "extra")
]

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
        try:
            self._entries, self._offsets = column.values, values(column.offsets, np.int32)
            steps = values(self._entries.field(_FIELDS["steps"]), np.int64)
        except ArrowErrors as error:
            raise DamagedTraceError(f"{where}: expected trajectories: {error}") from error
        if column.null_count or self._entries.null_count or steps.tobytes() != (index.rows - 1).tobytes():
            raise DamagedTraceError(f"{where}: expected the trajectories that the journal lists, got others")
        self._all: list[Entry] | None = None
        self._singles: dict[int, Entry] = {}
        self._next = -1

    def __len__(self) -> int:
        return len(self.index)

    def column(self, name: str) -> Any:
        """One of `TRAJECTORY_FIELDS` of all entries, a `pyarrow.Array`."""
        return self._entries.field(_FIELDS[name])

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
            entry = self._singles[i] = self._read(i, i + 1)[0]
        return entry

    def more(self, i: int) -> dict[str, Any]:
        """What else is kept of a trajectory, as JSON."""
        text = self._entries.field(_FIELDS["extra"])[i].as_py()
        return {} if text is None else parsed(text, self._where)

    def metadata(self, i: int) -> dict[str, Any]:
        """What the user said about a trajectory."""
        return unpacked_info(self.more(i).get("metadata", {}), self._where)

    def _read(self, begin: int, end: int) -> list[Entry]:
        entries = self._entries.slice(begin, end - begin)
        try:
            entries.validate(full=True)
            recordings, ids, envs, starts, seeds, endings, has_infos, extras = (listed(entries.field(i)) for i in _READ)
        except ArrowErrors as error:
            raise DamagedTraceError(f"{self._where}: expected trajectories: {error}") from error
        if not _ENDINGS.issuperset(endings) or None in starts or (starts and min(starts) < 0):
            raise DamagedTraceError(f"{self._where}: expected identities of episodes, got {endings} from {starts}")
        first, ended = self.index.row[begin:end], self.index.ended[begin:end]
        offsets = self._offsets
        counts = [*range(begin, end + 1)]
        if offsets[first].tolist() != counts[:-1] or offsets[first + 1].tolist() != counts[1:]:
            raise DamagedTraceError(f"{self._where}: expected an entry in the first row of each trajectory, got others")
        reset_infos: list[dict[str, Any] | None] = [None] * len(starts)
        if extras.count(None) < len(extras):
            for i, text in enumerate(extras):
                if text == NO_RESET_INFO:
                    reset_infos[i] = {}
                elif text is not None:
                    reset_infos[i], seeds[i] = self._reset(text, seeds[i])
        episodes = [
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
            )
            for number, env, start, seed, reset_info, ended_by, recording in zip(
                ids, envs, starts, seeds, reset_infos, endings, recordings, strict=True
            )
        ]
        last = first + self.index.rows[begin:end] - 1
        terminated, truncated = (ended & 1).astype(bool).tolist(), (ended >= 2).tolist()
        return [*zip(first.tolist(), last.tolist(), terminated, truncated, has_infos, episodes, strict=True)]

    def _reset(self, text: str, seed: Any) -> tuple[dict[str, Any] | None, Any]:
        """Reset info and seed, as `extra` tells them."""
        more = parsed(text, self._where)
        seed = more.get("seed", seed)
        if seed is not None and type(seed) is not int:
            raise DamagedTraceError(f"{self._where}: expected a seed, got {seed!r}")
        return (unpacked_info(more["reset_info"], self._where) if "reset_info" in more else None), seed
