"""A trace's columns, written and read with pyarrow alone: no identity, no infos, no checksums, no thread."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import ipc

from benchmarks.episodes import Episodes

BATCH_ROWS = 2048


def write(episodes: Episodes, path: Path, compression: str | None) -> None:
    """Write episodes to one file, in batches of at least 2048 rows or of a large episode, and make it durable."""
    schema = _batch(episodes, 0, 1).schema
    with path.open("wb") as file:
        with ipc.new_file(file, schema, options=ipc.IpcWriteOptions(compression=compression)) as writer:
            rows = len(episodes.obs[0])
            at_once = 1 if episodes.obs[0].nbytes > 8 << 20 else -(-BATCH_ROWS // rows)
            for first in range(0, len(episodes.obs), at_once):
                writer.write_batch(_batch(episodes, first, first + at_once))
        file.flush()
        os.fsync(file.fileno())


def scan(path: Path, out: np.ndarray) -> None:
    """Read all batches, and copy all observations to `out`, of which each batch takes the beginning."""
    with pa.memory_map(str(path)) as source:
        reader = ipc.open_file(source)
        for number in range(reader.num_record_batches):
            batch = reader.get_batch(number)
            values = batch.column("obs").values.to_numpy(zero_copy_only=True)
            out[: len(values)] = values


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
