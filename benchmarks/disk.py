"""Traces that lie on the disk and in no cache: reading, sampling and converting them, beside raw reads and writes."""

from __future__ import annotations

import atexit
import os
import tempfile
import time
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.episodes import ATARI, COMPRESSIONS, LONG, Episodes, atari, cartpole, trajectories_of
from benchmarks.options import Options
from benchmarks.report import Table, at_most, number
from benchmarks.timing import Phases, Stopwatch, fastest

_AIM = 1.5
"""Most times the raw read of the same bytes, for traces without compression."""
_CHUNK_BYTES = 8 << 20
_STEPS, _DRAWS, _BLOCK = 256, 8, 64
_RAW, _BATCHES, _TRAJECTORIES, _LOADER = "raw", "batches", "trajectories", "loader"
_RAW_ROWS, _SAMPLE = "raw rows", "sample"
_CONVERSIONS = "to_parquet", "to_hf", "write"


def disk_tables(options: Options) -> list[Table]:
    """Time of reading, sampling and converting in multiples of the disk's; none where a cache cannot be emptied."""
    if not hasattr(os, "posix_fadvise"):
        return []
    data = {
        ATARI: atari(options.scaled(40, 2), 500 if not options.is_quick else 50),
        LONG: cartpole(options.scaled(20_000), 200),
    }
    cases = [(name, episodes, compression) for name, episodes in data.items() for compression in COMPRESSIONS]
    return [
        Table(
            "Reading from the disk",
            (
                *("", "compression", "MB", "raw read, MB/s", "batches, x raw", "trajectories, x raw"),
                *("shuffled epoch, x raw", "random rows, MB/s", "256 random steps, x rows"),
            ),
            [_reading_row(*case, options) for case in cases],
            "Wall time of reading a trace of which no byte is cached, in multiples of the time that the same process "
            "takes to read the bytes of its files in pieces of 8 MiB. The epoch is that of a `data_loader` in batches "
            f"of {_STEPS} steps, shuffled by blocks of {_BLOCK}. Random steps are beside reads of as many bytes as two "
            "observations have, at as many random places. Checksums are off for them, because a checksum needs a whole "
            "record batch.",
        ),
        Table(
            "Converting from the disk",
            ("", "raw read and write, s", *(f"{name}, x raw" for name in _CONVERSIONS), "Parquet MB"),
            [_converting_row(name, episodes, options) for name, episodes in data.items()],
            "Wall time of converting a trace with zstd, of which no byte is cached, until the result is on the disk. "
            "Raw is a read of the bytes of the trace, and a write of as many bytes as the result has. `write` writes a "
            "trace without compression.",
        ),
    ]


def _reading_row(name: str, episodes: Episodes, compression: str | None, options: Options) -> tuple[str, ...]:
    directory = _written(episodes, compression)
    out = np.ones(64 << 20, np.uint8)
    row_bytes = episodes.obs[0][0].nbytes
    contenders: dict[str, Callable[[], Phases]] = {
        _RAW: partial(_cold, directory, partial(_read_raw, directory)),
        _BATCHES: partial(_cold, directory, partial(_read_batches, directory, out)),
        _TRAJECTORIES: partial(_cold, directory, partial(_read_trajectories, directory, out)),
        _RAW_ROWS: partial(_raw_rows, directory, 2 * row_bytes),
        _SAMPLE: partial(_sample, directory),
    }
    if find_spec("torch"):
        contenders[_LOADER] = partial(_cold, directory, partial(_read_epoch, directory))
    best = {who: phases["s"] for who, phases in fastest(contenders, options.runs).items()}
    raw, rows = best[_RAW], best[_RAW_ROWS]
    aim = _AIM if compression is None else None
    loader = best.get(_LOADER)
    size = _size(directory) / 1e6
    return (
        *(name, compression or "none", number(size), number(size / raw)),
        *(at_most(best[who] / raw, aim) for who in (_BATCHES, _TRAJECTORIES)),
        at_most(loader / raw if loader else None, aim),
        number(_DRAWS * _STEPS * 2 * row_bytes / rows / 1e6),
        number(best[_SAMPLE] / rows),
    )


def _converting_row(name: str, episodes: Episodes, options: Options) -> tuple[str, ...]:
    directory = _written(episodes, "zstd")
    sizes: dict[str, int] = {}
    contenders = {who: partial(_cold, directory, partial(_convert, who, directory, sizes)) for who in _CONVERSIONS}
    best = {who: phases["s"] for who, phases in fastest(contenders, options.runs).items()}
    raws = {who: partial(_cold, directory, partial(_copy_raw, directory, sizes[who])) for who in _CONVERSIONS}
    raw = {who: phases["s"] for who, phases in fastest(raws, options.runs).items()}
    return (
        *(name, number(raw["to_parquet"])),
        *(number(best[who] / raw[who]) for who in _CONVERSIONS),
        number(sizes["to_parquet"] / 1e6),
    )


def _cold(directory: Path, read: Callable[[], object]) -> Phases:
    _forget(directory)
    watch = Stopwatch(time.perf_counter)
    with watch.phase("s"):
        read()
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


def _written(episodes: Episodes, compression: Any) -> Path:
    from vecrollout import TraceWriter

    directory = tempfile.TemporaryDirectory()
    atexit.register(directory.cleanup)
    path = Path(directory.name) / "trace"
    with TraceWriter(path, compression=compression) as writer:
        for each in trajectories_of(episodes):
            writer.append(each)
    return path
