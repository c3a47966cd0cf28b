"""A trace's columns, written and read with pyarrow alone: no identity, no infos, no checksums, no thread."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import ipc

from benchmarks.episodes import Episodes

_BATCH_ROWS = 2048
_LARGE_EPISODE_BYTES = 8 << 20


def write(episodes: Episodes, path: Path, compression: str | None) -> None:
    """Write episodes to one file, in batches of at least 2048 rows or of a large episode, and make it durable."""
    schema = _batch(episodes, 0, 1).schema
    with path.open("wb") as file:
        with ipc.new_file(file, schema, options=ipc.IpcWriteOptions(compression=compression)) as writer:
            rows = max(map(len, episodes.obs[:100]))
            at_once = 1 if episodes.obs[0].nbytes > _LARGE_EPISODE_BYTES else -(-_BATCH_ROWS // rows)
            for first in range(0, len(episodes.obs), at_once):
                writer.write_batch(_batch(episodes, first, first + at_once))
        file.flush()
        os.fsync(file.fileno())


def scan(path: Path, out: np.ndarray) -> None:
    """Decode all columns of all batches; each batch copies its observations to the beginning of `out`."""
    with pa.memory_map(str(path)) as source:
        reader = ipc.open_file(source)
        for number in range(reader.num_record_batches):
            batch = reader.get_batch(number)
            for name in ("action", "reward", "terminated", "truncated"):
                batch.column(name).drop_null().to_numpy(zero_copy_only=False)
            values = batch.column("obs").values.to_numpy(zero_copy_only=True)
            out[: len(values)] = values


def random_reader(paths: Sequence[Path]) -> tuple[np.ndarray, Callable[[int], Any]]:
    """The rows of each record batch of some files, and a function from a batch's number to the batch."""
    readers = [ipc.open_file(pa.memory_map(str(path))) for path in paths]
    places = [(reader, i) for reader in readers for i in range(reader.num_record_batches)]
    rows = np.array([reader.get_batch(i).num_rows for reader, i in places])

    def read(number: int) -> Any:
        reader, i = places[number]
        return reader.get_batch(i)

    return rows, read


def _batch(episodes: Episodes, first: int, end: int) -> Any:
    obs = _joined(episodes.obs[first:end])
    lengths = [len(each) for each in episodes.obs[first:end]]
    is_last = np.zeros(len(obs), dtype=bool)
    is_last[np.cumsum(lengths) - 1] = True
    width = int(np.prod(obs.shape[1:]))
    flags = np.zeros(len(obs), dtype=bool)
    return pa.record_batch(
        {
            "episode": np.repeat(np.arange(first, first + len(lengths)), lengths),
            "step": np.concatenate([np.arange(length) for length in lengths]),
            "obs": pa.FixedSizeListArray.from_arrays(pa.array(obs.reshape(-1)), width),
            "action": pa.array(_with_gaps(episodes.acts[first:end], is_last), mask=is_last),
            "reward": pa.array(_with_gaps(episodes.rews[first:end], is_last), mask=is_last),
            "terminated": pa.array(flags, mask=is_last),
            "truncated": pa.array(flags, mask=is_last),
        }
    )


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _with_gaps(parts: list[np.ndarray], is_last: np.ndarray) -> np.ndarray:
    column = np.zeros(len(is_last), parts[0].dtype)
    column[~is_last] = _joined(parts)
    return column
