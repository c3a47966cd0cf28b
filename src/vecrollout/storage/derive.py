"""What a shard holds, found by reading it from its start."""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from vecrollout.errors import DamagedTraceError
from vecrollout.storage.arrow import ArrowErrors, ipc
from vecrollout.storage.index import BATCH_COLUMNS, TRAJECTORY_COLUMNS, ShardIndex
from vecrollout.storage.shard import Shard

_CONTINUATION = b"\xff\xff\xff\xff"
_DERIVED_FROM = ("episode", "step", "env", "terminated", "truncated", "episode_json")


def derive(shard: Shard) -> tuple[ShardIndex, str | None]:
    """The index of what a shard holds: whole batches, and of them what makes whole trajectories.

    Returns:
        The index, with checksums where the shard is finished; and what follows behind it that is not whole, None
        where there is nothing.
    """
    return Derivation().advance(shard)


class Derivation:
    """Derives the index of a shard that grows, and reads each of its batches once."""

    def __init__(self) -> None:
        self._batches: list[tuple[int, int, int]] = []
        self._trajectories = _arrays([])
        self._opened: dict[str, Any] | None = None
        # So many batches make whole trajectories.
        self._whole = 0

    def advance(self, shard: Shard) -> tuple[ShardIndex, str | None]:
        """Read on to the end of the shard, as `derive` does.

        Args:
            shard: The same as before, longer or not.
        """
        trouble = self._read(shard)
        if trouble is None and self._opened:
            trouble = f"{shard.name}: batch {self._opened['batch']}: a trajectory without its end"
        if trouble is None and shard.is_finished and shard.listed_batches != len(self._batches):
            trouble = f"{shard.name}: footer: expected {len(self._batches)} batches, got {shard.listed_batches}"
        keep = self._trajectories["batch"] < self._whole
        index = ShardIndex(
            shard.size,
            _columns(self._batches[: self._whole], BATCH_COLUMNS),
            {name: column[keep] for name, column in self._trajectories.items()},
            None,
        )
        if shard.is_finished and trouble is None:
            sums = tuple(shard.checksum(*index.section(section)) for section in range(self._whole + 2))
            index = replace(index, checksums=sums)
        return index, trouble

    def _read(self, shard: Shard) -> str | None:
        """Read the batches behind those that are known; what comes behind the last that is none."""
        ended: list[dict[str, Any]] = []
        trouble = None
        at = sum(self._batches[-1][:2]) if self._batches else shard.first_batch
        while trouble is None and at < shard.size:
            try:
                message = _message(shard, at)
                if message is None:
                    break
                number = len(self._batches)
                # A footer vouches for a batch; without one all of it has to make sense.
                batch = shard.decoded(number, message, _DERIVED_FROM if shard.is_finished else None)
                more, self._opened = _trajectories(batch, number, self._opened)
            except DamagedTraceError as error:
                trouble = str(error)
            else:
                self._batches.append((at, message.size, batch.num_rows))
                ended += more
                self._whole = self._whole if self._opened else len(self._batches)
                at += message.size
        if ended:
            arrays = _arrays(ended)
            self._trajectories = {name: np.concatenate([self._trajectories[name], arrays[name]]) for name in arrays}
        return trouble


def _message(shard: Shard, at: int) -> Any:
    """The bytes of the message that begins somewhere in a shard; None where the shard's end is marked.

    Raises:
        DamagedTraceError: If there is no whole message.
    """
    rest = shard.rest(at)
    head = bytes(memoryview(rest)[:8])
    if head == _CONTINUATION + bytes(4):
        return None
    where = f"{shard.name}: byte {at}: {rest.size} bytes that are no whole batch"
    if len(head) < 8 or head[:4] != _CONTINUATION:
        raise DamagedTraceError(where)
    try:
        (metadata_bytes,) = struct.unpack("<i", head[4:])
        return rest.slice(0, 8 + metadata_bytes + int(ipc.read_message(rest).body.size))
    except ArrowErrors as error:
        raise DamagedTraceError(f"{where}: {error}") from error


def _columns(rows: list[tuple[int, int, int]], dtypes: Any) -> dict[str, npt.NDArray[Any]]:
    return {name: np.array([row[i] for row in rows], dtype) for i, (name, dtype) in enumerate(dtypes.items())}


def _arrays(trajectories: list[dict[str, Any]]) -> dict[str, npt.NDArray[Any]]:
    return {name: np.array([each[name] for each in trajectories], dtype) for name, dtype in TRAJECTORY_COLUMNS.items()}


def _trajectories(
    batch: Any, number: int, opened: dict[str, Any] | None
) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
    """The trajectories that end in a batch, and the one that goes on behind it.

    Raises:
        DamagedTraceError: If the rows are not whole trajectories, one after the other.
    """
    opened = None if opened is None else dict(opened)
    steps = batch.column("step").to_numpy()
    episodes = batch.column("episode").to_numpy()
    environments = batch.column("env").fill_null(-1).to_numpy()
    is_first = batch.column("episode_json").is_valid().to_numpy(zero_copy_only=False)
    is_last = batch.column("terminated").is_null().to_numpy(zero_copy_only=False)
    terminated = batch.column("terminated").fill_null(False).to_numpy(zero_copy_only=False)
    truncated = batch.column("truncated").fill_null(False).to_numpy(zero_copy_only=False)
    ended = []
    begin = 0
    for end in [*(np.flatnonzero(is_last) + 1).tolist(), len(steps)]:
        if begin == end:
            continue
        if is_first[begin] == (opened is not None) or is_first[begin + 1 : end].any():
            raise DamagedTraceError(f"batch {number}: row {begin}: expected the first row of a trajectory, or the next")
        if opened is None:
            opened = {
                "batch": number,
                "row": begin,
                "rows": 0,
                "episode": int(episodes[begin]),
                "env": int(environments[begin]),
                "start_step": int(steps[begin]),
            }
        expected = np.arange(end - begin) + opened["start_step"] + opened["rows"]
        same = (episodes[begin:end] == opened["episode"]).all() and (environments[begin:end] == opened["env"]).all()
        if not same or (steps[begin:end] != expected).any():
            raise DamagedTraceError(f"batch {number}: row {begin}: expected one episode's steps in order")
        opened["rows"] += end - begin
        # The row before the last one has the flags; a split never parts the two.
        if is_last[end - 1]:
            if end - begin < 2:
                raise DamagedTraceError(f"batch {number}: row {begin}: expected a step before the last observation")
            flags = {"terminated": bool(terminated[end - 2]), "truncated": bool(truncated[end - 2])}
            ended.append({**opened, **flags})
            opened = None
        begin = end
    return ended, opened
