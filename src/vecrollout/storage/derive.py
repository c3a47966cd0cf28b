"""What a shard holds, found by reading it from its start."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import numpy.typing as npt

from vecrollout.errors import DamagedTraceError
from vecrollout.storage.arrays import bits, validity, values
from vecrollout.storage.arrow import ArrowErrors, checksum, ipc
from vecrollout.storage.index import BATCH_COLUMNS, TRAJECTORY_COLUMNS, ShardIndex
from vecrollout.storage.shard import Shard
from vecrollout.storage.sums import NO_SUMS, Sums

_CONTINUATION = b"\xff\xff\xff\xff"
DERIVED_FROM = ("episode", "step", "env", "terminated", "truncated", "episode_json")


def derive(shard: Shard, sums: Sums = NO_SUMS) -> tuple[ShardIndex, str | None]:
    """The index of what a shard holds: whole batches, and of them what makes whole trajectories.

    Args:
        shard: The shard.
        sums: The checksums of what was flushed of it, as far as they are known.

    Returns:
        The index, with checksums where the shard is finished; and what follows behind it that is not whole, None
        where there is nothing.
    """
    return Derivation().advance(shard, sums)


class Derivation:
    """Derives the index of a shard that grows, and reads each of its batches once."""

    def __init__(self) -> None:
        # A tuple a batch, of `BATCH_COLUMNS`, and the `TRAJECTORY_COLUMNS` of those that end in it.
        self._batches: list[tuple[int, int, int]] = []
        self._ended: list[dict[str, npt.NDArray[Any]]] = []
        self._opened: dict[str, Any] | None = None
        # So many batches make whole trajectories.
        self._whole = 0
        self.altered: str | None = None
        """What of the shard is not as it was flushed; None: nothing that is known."""

    def add(self, batch: Any, at: int, size: int) -> None:
        """Note the next batch.

        Args:
            batch: The `pyarrow.RecordBatch`, with the columns that an index is derived from at least.
            at: Where in the file its message begins.
            size: Bytes of the message with its body.

        Raises:
            DamagedTraceError: If its rows do not go on where those before it ended.
        """
        try:
            ended, self._opened = _trajectories(batch, len(self._batches), self._opened)
        except DamagedTraceError:
            raise
        except ArrowErrors as error:
            raise DamagedTraceError(f"batch {len(self._batches)}: expected rows of a trace: {error}") from error
        self._ended.append(ended)
        self._batches.append((at, size, batch.num_rows))
        self._whole = self._whole if self._opened else len(self._batches)

    def index(self, size: int) -> ShardIndex:
        """The index of the batches so far, and of the whole trajectories in them, without checksums.

        Args:
            size: Of the shard, in bytes.
        """
        # Joined once: a shard that grows is asked again and again.
        self._ended = [
            {
                name: np.concatenate([np.empty(0, dtype), *(each[name] for each in self._ended)], dtype=dtype)
                for name, dtype in TRAJECTORY_COLUMNS.items()
            }
        ]
        keep = self._ended[0]["batch"] < self._whole
        whole = self._batches[: self._whole]
        return ShardIndex(
            size,
            {name: np.array([row[i] for row in whole], dtype) for i, (name, dtype) in enumerate(BATCH_COLUMNS.items())},
            {name: column[keep] for name, column in self._ended[0].items()},
            None,
        )

    def advance(self, shard: Shard, sums: Sums = NO_SUMS) -> tuple[ShardIndex, str | None]:
        """Read on to the end of the shard, as `derive` does.

        Args:
            shard: The same as before, longer or not.
            sums: The checksums of what was flushed of it, as far as they are known.
        """
        trouble = self._read(shard, sums)
        if trouble is None and self._opened:
            trouble = f"{shard.name}: batch {self._opened['batch']}: a trajectory without its end"
        if trouble is None and shard.is_finished and shard.listed_batches != len(self._batches):
            trouble = f"{shard.name}: footer: expected {len(self._batches)} batches, got {shard.listed_batches}"
        index = self.index(shard.size)
        return (index.with_checksums(shard.file) if shard.is_finished and trouble is None else index), trouble

    def _read(self, shard: Shard, sums: Sums) -> str | None:
        """Read the batches behind those that are known; what comes behind the last that is none."""
        self.altered = None
        at = sum(self._batches[-1][:2]) if self._batches else 0
        while at < shard.size or at in sums:
            if at in sums:
                end, expected = sums[at]
                if checksum(shard.file.read(at, end)) != expected:
                    place = f"batch {len(self._batches)}" if at else "schema"
                    what = f"bytes {at} to {end} were altered or cut off since they were flushed"
                    self.altered = f"{shard.name}: {place}: {what}"
                    return self.altered
            if not at:
                at = shard.first_batch
                continue
            try:
                message = _message(shard, at)
                if message is None:
                    break
                # A footer vouches for a batch; without one all of it has to make sense.
                batch = shard.decoded(len(self._batches), message, DERIVED_FROM if shard.is_finished else None)
                self.add(batch, at, message.size)
            except DamagedTraceError as error:
                return f"{shard.name}: {str(error).removeprefix(f'{shard.name}: ')}"
            except ArrowErrors as error:
                return f"{shard.name}: batch {len(self._batches)}: {error}"
            at += message.size
        return None


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


def _trajectories(
    batch: Any, number: int, opened: dict[str, Any] | None
) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any] | None]:
    """The trajectories that end in a batch, in columns, and the one that goes on behind it.

    Raises:
        DamagedTraceError: If the rows are not whole trajectories, one after the other.
    """
    steps = batch.column("step").to_numpy()
    if not len(steps):
        raise DamagedTraceError(f"batch {number}: expected rows, got none")
    episodes = batch.column("episode").to_numpy()
    environments = np.where(validity(batch.column("env")), values(batch.column("env"), np.int32), -1)
    is_first = validity(batch.column("episode_json"))
    is_last = ~validity(batch.column("terminated"))
    # A trajectory begins behind the last row of the one before; the first may have begun in an earlier batch.
    begins = np.concatenate(([0], np.flatnonzero(is_last[:-1]) + 1))
    ends = np.concatenate((begins[1:], [len(steps)]))
    lengths = ends - begins
    expected = np.repeat(np.arange(len(begins)), lengths)
    goes_on = np.zeros(len(steps), dtype=bool)
    goes_on[begins] = True
    if opened is not None:
        goes_on[0] = False
    _check(is_first == goes_on, number, "the first row of a trajectory, or the next")
    first_steps, first_rows = steps[begins], begins.copy()
    if opened is not None:
        first_steps[0], first_rows[0] = opened["start_step"], -opened["rows"]
        same = episodes[0] == opened["episode"] and environments[0] == opened["env"]
        _check(np.full(1, same), number, "one episode's steps in order")
    in_order = steps == (first_steps - first_rows)[expected] + np.arange(len(steps))
    in_order &= episodes == episodes[begins][expected]
    in_order &= environments == environments[begins][expected]
    _check(in_order, number, "one episode's steps in order")
    found = {
        "batch": np.full(len(begins), number),
        "row": begins,
        "rows": ends - first_rows,
        "episode": episodes[begins],
        "env": environments[begins],
        "start_step": first_steps,
    }
    if opened is not None:
        found["batch"][0], found["row"][0] = opened["batch"], opened["row"]
    unfinished = None if is_last[-1] else {name: int(column[-1]) for name, column in found.items()}
    whole = slice(None) if unfinished is None else slice(-1)
    # The row before the last one has the flags; a split never parts the two.
    _check(lengths[whole] >= 2, number, "a step before the last observation")
    for name in ("terminated", "truncated"):
        found[name] = bits(batch.column(name))[ends - 2]
    return {name: column[whole] for name, column in found.items()}, unfinished


def _check(is_right: npt.NDArray[np.bool_], number: int, expected: str) -> None:
    if not is_right.all():
        raise DamagedTraceError(f"batch {number}: row {int(is_right.argmin())}: expected {expected}")
