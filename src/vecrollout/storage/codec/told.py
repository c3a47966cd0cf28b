"""What the column `trajectory` of a record batch says of the trajectories that begin in it."""

from __future__ import annotations

from functools import cached_property
from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from vecrollout.data.fields import trusted
from vecrollout.data.trajectory import EndedBy, Episode
from vecrollout.errors import DamagedTraceError
from vecrollout.storage.arrow import ArrowErrors
from vecrollout.storage.codec.arrays import values
from vecrollout.storage.codec.encode import NO_RESET_INFO
from vecrollout.storage.codec.infos import unpacked_info
from vecrollout.storage.codec.metadata import parsed

_ENDINGS = frozenset((None, *get_args(EndedBy)))
_IDENTITY = ("recording", "id", "env_index", "start_step", "seed", "ended_by", "extra")
# Of this many values it is quicker to make lists of all.
_FEW = 50

_MAX_ROWS = 1 << 40


class Told:
    """Where trajectories begin in a record batch, and which they are.

    Args:
        column: The column `trajectory`, validated.
        where: Shard and batch, for errors.
    """

    def __init__(self, column: Any, where: str) -> None:
        self._where = where
        try:
            offsets = column.offsets.to_numpy()
            entries = column.values
            self._columns = {field.name: entries.field(i) for i, field in enumerate(entries.type)}
            steps = values(self._columns["steps"], np.int64)
            nulls = [self._columns[name].null_count for name in ("steps", "start_step", "has_infos")]
        except ArrowErrors as error:
            raise DamagedTraceError(f"{where}: expected trajectories: {error}") from error
        counts = np.diff(offsets)
        starts = np.flatnonzero(counts)
        is_sound = column.null_count == entries.null_count == 0 and not any(nulls) and offsets[0] == 0
        is_sound = is_sound and (counts == (counts > 0)).all() and len(starts) == len(entries)
        if not is_sound or not _is_tiled(starts, steps, len(column)):
            raise DamagedTraceError(f"{where}: expected trajectories that follow one another, got others")
        self.lengths: npt.NDArray[np.int64] = steps
        """Steps of each trajectory, shape `(N,)`."""
        self.starts: list[int] = starts.tolist()
        """First row of each."""
        self.steps: list[int] = steps.tolist()
        """The same as `lengths`."""
        self._episodes: list[Episode | None] = [None] * len(steps)
        # How often a value was taken out of its column.
        self._asked = 0

    @property
    def recordings(self) -> list[str | None]:
        """Recording of each trajectory."""
        recordings: list[str | None] = self._lists["recording"]
        return recordings

    @property
    def episodes(self) -> list[Episode]:
        """Identity of each trajectory."""
        return list(map(self.episode, range(len(self.steps))))

    def episode(self, i: int) -> Episode:
        """Identity of a trajectory."""
        episode = self._episodes[i]
        if episode is None:
            episode = self._episodes[i] = self._episode(i, *(self._told(name, i) for name in _IDENTITY))
        return episode

    def has_infos(self, i: int) -> bool:
        """Whether infos of a trajectory were kept."""
        return bool(self._told("has_infos", i))

    def more(self, i: int) -> dict[str, Any]:
        """What else is kept of a trajectory, as JSON."""
        text = self._told("extra", i)
        return {} if text is None else parsed(text, self._where)

    def metadata(self, i: int) -> dict[str, Any]:
        """What the user said about a trajectory."""
        return unpacked_info(self.more(i).get("metadata", {}), self._where)

    def _told(self, name: str, i: int) -> Any:
        """A value of a column."""
        if self._asked < _FEW and "_lists" not in vars(self):
            # Of a batch of which a single trajectory is wanted, the lists would take longest.
            self._asked += 1
            return self._columns[name][i].as_py()
        return self._lists[name][i]

    @cached_property
    def _lists(self) -> dict[str, list[Any]]:
        return {name: column.to_pylist() for name, column in self._columns.items()}

    def _episode(
        self,
        i: int,
        recording: str | None,
        number: int | None,
        env_index: int | None,
        start_step: int,
        seed: Any,
        ended_by: str | None,
        extra: str | None,
    ) -> Episode:
        reset_info: dict[str, Any] | None = None
        if extra == NO_RESET_INFO:
            reset_info = {}
        elif extra is not None:
            more = self.more(i)
            seed = more.get("seed", seed)
            reset_info = unpacked_info(more["reset_info"], self._where) if "reset_info" in more else None
        if ended_by not in _ENDINGS or start_step < 0 or (seed is not None and type(seed) is not int):
            raise DamagedTraceError(f"{self._where}: expected an episode's identity, got {ended_by!r}, {start_step}")
        return trusted(
            Episode,
            {
                "id": number,
                "env_index": env_index,
                "start_step": start_step,
                "seed": seed,
                "reset_info": reset_info,
                "ended_by": ended_by,
                "recording": recording,
            },
        )


def _is_tiled(starts: npt.NDArray[Any], steps: npt.NDArray[np.int64], rows: int) -> bool:
    """Whether the trajectories follow one another; a single one may go on in the batches that follow."""
    if not len(starts):
        return rows > 0
    if (steps < 1).any() or (steps > _MAX_ROWS).any():
        return False
    ends = np.cumsum(steps + 1)
    is_whole = ends[-1] == rows or (len(steps) == 1 and ends[-1] > rows >= 2)
    return bool(is_whole and starts[0] == 0 and (starts[1:] == ends[:-1]).all())
