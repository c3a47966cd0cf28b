"""Traces that lie on the disk and in no cache: reading, sampling and converting them, beside raw reads and writes."""

from __future__ import annotations

import atexit
import os
import tempfile
import time
from collections.abc import Callable
from functools import lru_cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.episodes import ATARI, COMPRESSIONS, LONG, episodes_of, trajectories_of
from benchmarks.options import Options
from benchmarks.report import Table, at_most, number
from benchmarks.timing import Phases, Stopwatch, fastest

_AIM = 1.5
"""Most times the disk's own time, and that of the same work from the cache, where a trace has no compression."""
_CHUNK_BYTES = 8 << 20
_STEPS, _DRAWS, _BLOCK = 256, 8, 64
_RAW, _BATCHES, _TRAJECTORIES, _LOADER = "raw", "batches", "trajectories", "shuffled epoch"
_RAW_ROWS, _SAMPLE = "raw rows", "sample"
_CONVERSIONS = "to_parquet", "to_hf", "write"


def disk_tables(options: Options) -> list[Table]:
    """Time of reading, sampling and converting beside that of the disk; no tables where a cache cannot be emptied."""
    if not hasattr(os, "posix_fadvise"):
        return []
    cases = [(name, compression) for name in (ATARI, LONG) for compression in COMPRESSIONS]
    return [
        Table(
            "Reading from the disk",
            ("", "compression", "what", "x raw read", "x raw read and cached", "cached ms", "raw read ms", "raw MB/s"),
            [row for case in cases for row in _reading_rows(*case, options)],
            "Wall time of reading a trace of which no byte is cached. Raw is the time that the same process takes to "
            "read the bytes of its files in pieces of 8 MiB. Cached is the time of the same work when the files are in "
            "the system's cache: where it is long, the processor is the limit. The epoch is that of a `data_loader` in "
            f"batches of {_STEPS} steps, shuffled by blocks of {_BLOCK}.",
        ),
        Table(
            "Sampling from the disk",
            ("", "x raw reads", "us", "raw reads us", "raw MB/s"),
            [_sampling_row(options)],
            f"{_STEPS} random steps of a trace without compression, of which no observation is cached, beside reads of "
            "as many bytes as two observations have, at as many random places. Checksums are off, because a checksum "
            "needs a whole record batch.",
        ),
        Table(
            "Converting from the disk",
            ("", "", "x raw", "x raw and cached", "cached ms", "raw ms", "MB written"),
            [row for name in (ATARI, LONG) for row in _converting_rows(name, options)],
            "Wall time of converting a trace with zstd, of which no byte is cached, until the result is on the disk. "
            "Raw is a read of the bytes of the trace, and a write of as many bytes as the result has. Cached is the "
            "conversion when the trace is in the system's cache. `write` writes a trace without compression.",
        ),
    ]


def _reading_rows(name: str, compression: str | None, options: Options) -> list[tuple[str, ...]]:
    directory = _written(name, compression, options.is_quick)
    out = np.ones(64 << 20, np.uint8)
    reads: dict[str, Callable[[], None]] = {
        _BATCHES: partial(_read_batches, directory, out),
        _TRAJECTORIES: partial(_read_trajectories, directory, out),
    }
    if find_spec("torch"):
        reads[_LOADER] = partial(_read_epoch, directory)
    contenders = {who: partial(_cold_and_cached, directory, read) for who, read in reads.items()}
    contenders[_RAW] = partial(_cold_and_cached, directory, partial(_read_raw, directory))
    best = fastest(contenders, options.runs)
    raw = best[_RAW]["cold"]
    return [
        (
            *(name, compression or "none", who, number(best[who]["cold"] / raw)),
            at_most(best[who]["cold"] / (raw + best[who]["cached"]), _AIM if compression is None else None),
            *(number(1e3 * seconds) for seconds in (best[who]["cached"], raw)),
            number(_size(directory) / raw / 1e6),
        )
        for who in reads
    ]


def _sampling_row(options: Options) -> tuple[str, ...]:
    directory = _written(ATARI, None, options.is_quick)
    row_bytes = 2 * episodes_of(ATARI, options.is_quick).obs[0][0].nbytes
    contenders = {_RAW_ROWS: partial(_raw_rows, directory, row_bytes), _SAMPLE: partial(_sample, directory)}
    best = {who: phases["s"] / _DRAWS for who, phases in fastest(contenders, options.runs).items()}
    return (
        *(ATARI, at_most(best[_SAMPLE] / best[_RAW_ROWS], _AIM)),
        *(number(1e6 * best[who]) for who in (_SAMPLE, _RAW_ROWS)),
        number(_STEPS * row_bytes / best[_RAW_ROWS] / 1e6),
    )


def _converting_rows(name: str, options: Options) -> list[tuple[str, ...]]:
    directory = _written(name, "zstd", options.is_quick)
    sizes: dict[str, int] = {}
    contenders = {
        who: partial(_cold_and_cached, directory, partial(_convert, who, directory, sizes)) for who in _CONVERSIONS
    }
    best = fastest(contenders, options.runs)
    raws = {who: partial(_cold_and_cached, directory, partial(_copy_raw, directory, sizes[who])) for who in contenders}
    raw = {who: phases["cold"] for who, phases in fastest(raws, options.runs).items()}
    return [
        (
            *(name, who, number(best[who]["cold"] / raw[who])),
            number(best[who]["cold"] / (raw[who] + best[who]["cached"])),
            *(number(1e3 * seconds) for seconds in (best[who]["cached"], raw[who])),
            number(sizes[who] / 1e6),
        )
        for who in _CONVERSIONS
    ]


def _cold_and_cached(directory: Path, work: Callable[[], None]) -> Phases:
    watch = Stopwatch(time.perf_counter)
    _forget(directory)
    for phase in ("cold", "cached"):
        with watch.phase(phase):
            work()
    return watch.phases


def _forget(directory: Path) -> None:
    """Drop the files from the system's cache; that of a virtual machine's host is out of reach."""
    for path in directory.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _shards(directory: Path) -> list[Path]:
    return sorted(directory.glob("*.arrow"))


def _size(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())


def _read_raw(directory: Path) -> None:
    room = memoryview(bytearray(_CHUNK_BYTES))
    for path in _shards(directory):
        with path.open("rb", buffering=0) as file:
            while file.readinto(room):
                pass


def _read_batches(directory: Path, out: np.ndarray) -> None:
    from vecrollout import open_traces

    for batch in open_traces(directory).batches():
        _ = batch.acts, batch.rews
        _copied(batch.obs, out)


def _read_trajectories(directory: Path, out: np.ndarray) -> None:
    from vecrollout import open_traces

    for each in open_traces(directory):
        _copied(each.obs, out)


def _copied(obs: Any, out: np.ndarray) -> None:
    values = obs.reshape(-1).view(np.uint8)
    for begin in range(0, len(values), len(out)):
        part = values[begin : begin + len(out)]
        out[: len(part)] = part


def _read_epoch(directory: Path) -> None:
    from vecrollout import open_traces
    from vecrollout.interop.torch import data_loader

    for _ in data_loader(open_traces(directory).steps(), _STEPS, block=_BLOCK):
        pass


def _raw_rows(directory: Path, row_bytes: int) -> Phases:
    """As many reads as steps are drawn, at random places."""
    _forget(directory)
    shards = _shards(directory)
    ends = np.cumsum([path.stat().st_size for path in shards])
    places = np.random.default_rng(0).integers(max(1, ends[-1] - row_bytes), size=_DRAWS * _STEPS)
    files = [os.open(path, os.O_RDONLY) for path in shards]
    for file in files:
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_RANDOM)
    watch = Stopwatch(time.perf_counter)
    with watch.phase("s"):
        for place in places.tolist():
            shard = int(ends.searchsorted(place, "right"))
            os.pread(files[shard], row_bytes, place - (int(ends[shard - 1]) if shard else 0))
    for file in files:
        os.close(file)
    return watch.phases


def _sample(directory: Path) -> Phases:
    from vecrollout import open_traces

    _forget(directory)
    traces = open_traces(directory, check=False)
    rng = np.random.default_rng(0)
    traces.sample_transitions(1, rng)  # reads the small columns of all steps
    watch = Stopwatch(time.perf_counter)
    with watch.phase("s"):
        for _ in range(_DRAWS):
            traces.sample_transitions(_STEPS, rng)
    return watch.phases


def _convert(name: str, directory: Path, sizes: dict[str, int]) -> None:
    from vecrollout import open_traces
    from vecrollout.interop.huggingface import to_hf, to_parquet

    traces = open_traces(directory)
    with tempfile.TemporaryDirectory(dir=directory.parent) as folder:
        path = Path(folder) / "data.parquet"
        if name == "write":
            traces.write(path, compression=None, progress=False)
        else:
            (to_parquet if name == "to_parquet" else to_hf)(traces, path, progress=False)
        sizes[name] = _size(Path(folder))


def _copy_raw(directory: Path, size: int) -> None:
    _read_raw(directory)
    room = memoryview(bytearray(_CHUNK_BYTES))
    with tempfile.TemporaryFile(dir=directory.parent, buffering=0) as file:
        for begin in range(0, size, _CHUNK_BYTES):
            file.write(room[: min(_CHUNK_BYTES, size - begin)])
        os.fsync(file.fileno())


@lru_cache
def _written(name: str, compression: Any, is_quick: bool) -> Path:
    """A trace of the episodes, which is there until the process ends."""
    from vecrollout import TraceWriter

    directory = tempfile.TemporaryDirectory()
    atexit.register(directory.cleanup)
    path = Path(directory.name) / "trace"
    with TraceWriter(path, compression=compression) as writer:
        for each in trajectories_of(episodes_of(name, is_quick)):
            writer.append(each)
    return path
