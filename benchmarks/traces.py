"""Traces on disk beside bare pyarrow: writing, scanning, and reading single episodes."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import bare_arrow
from benchmarks.episodes import Episodes, atari, cartpole
from benchmarks.report import Table, at_least, at_most, number
from benchmarks.timing import Phases, fastest

_WRITE_AIM = 0.6
_SCAN_AIM = 0.7
_EPISODE_AIM = 2.0
_OPENING_AIM = 0.5
_BARE, _OURS = "pyarrow", "vecrollout"
_COMPRESSIONS = ("zstd", None)
_RANDOM_READS = 40

_WRITING = ("", "compression", "of pyarrow's throughput", "vecrollout MB/s", "pyarrow MB/s", "vecrollout us a step")
_WRITING_NOTE = (
    "Sustained throughput of `TraceWriter`, from the first `append` to the end of `close`, beside bare pyarrow, which "
    "writes the same columns of the same arrays and makes them durable too (the aim in brackets)."
)
_READING = (
    *("", "compression", "scan, of pyarrow's throughput", "unchecked scan", "us an episode of a scan"),
    *("random episode over its bytes", "us a random episode"),
)
_READING_NOTE = (
    "A full scan copies all observations out, as that of bare pyarrow does; the first one compares every checksum, the "
    "second one none. Random episodes are read from a data set just opened; beside it, the time that it takes to read "
    "as many bytes from a flat file (the aims in brackets)."
)


def trace_tables(runs: int) -> list[Table]:
    """Measure writing and reading, by wall time, for a writer has a thread of its own and disks are waited for.

    Args:
        runs: Rounds that count.

    Returns:
        Throughput beside bare pyarrow's.
    """
    cases = [
        (episodes, compression)
        for episodes in (atari(), cartpole(), cartpole(30_000, 22))
        for compression in _COMPRESSIONS
    ]
    with tempfile.TemporaryDirectory() as directory:
        writing = [_writing_row(*case, Path(directory), runs) for case in cases]
        reading = [_reading_row(*case, Path(directory), runs) for case in cases]
    return [
        Table("Writing traces", _WRITING, writing, _WRITING_NOTE),
        Table("Reading traces", _READING, reading, _READING_NOTE),
        _opening_table(runs),
    ]


def _opening_table(runs: int) -> Table:
    """Many episodes, in one shard and in many."""
    from vecrollout import TraceWriter, open_traces

    trajectories = _trajectories(cartpole(100_000, 2))
    rows = []
    for shards, shard_bytes in (("one", 1 << 30), ("some", 1 << 19)):
        with tempfile.TemporaryDirectory() as directory:
            with TraceWriter(directory, max_shard_bytes=shard_bytes, compression=None) as writer:
                for each in trajectories:
                    writer.append(each)
            count = sum(path.suffix == ".arrow" for path in Path(directory).iterdir())
            best = fastest({_OURS: partial(_timed, "open", open_traces, directory)}, runs)[_OURS]["open"]
        rows.append((f"{shards} ({count})", at_most(best, _OPENING_AIM)))
    note = f"Seconds that `open_traces` takes for {len(trajectories):,} episodes (the aim in brackets)."
    return Table("Opening traces", ("shards", "seconds"), rows, note)


def _writing_row(episodes: Episodes, compression: str | None, directory: Path, runs: int) -> tuple[str, ...]:
    trajectories = _trajectories(episodes)
    contenders: dict[str, Callable[[], Phases]] = {
        _BARE: partial(_timed, "write", bare_arrow.write, episodes, directory / "bare.arrow", compression),
        _OURS: partial(_write_ours, trajectories, directory, compression),
    }
    best = fastest(contenders, runs)
    ours, bare = best[_OURS]["write"], best[_BARE]["write"]
    return (
        episodes.name,
        compression or "none",
        at_least(bare / ours, _WRITE_AIM),
        number(episodes.size_bytes / ours / 1e6),
        number(episodes.size_bytes / bare / 1e6),
        number(ours / episodes.steps * 1e6),
    )


def _reading_row(episodes: Episodes, compression: str | None, directory: Path, runs: int) -> tuple[str, ...]:
    from vecrollout import TraceWriter

    bare, ours = directory / "read.arrow", directory / f"{episodes.name}-{compression}"
    bare_arrow.write(episodes, bare, compression)
    with TraceWriter(ours, compression=compression) as writer:
        for each in _trajectories(episodes):
            writer.append(each)
    flat = directory / "flat"
    np.concatenate(episodes.obs).tofile(flat)
    out = np.empty(max(64 << 20, episodes.obs[0].nbytes) // episodes.obs[0].itemsize, episodes.obs[0].dtype)
    best = fastest(
        {
            _BARE: partial(_timed, "scan", bare_arrow.scan, bare, out),
            _OURS: partial(_timed, "scan", _scan_ours, ours, out, True),
            "unchecked": partial(_timed, "scan", _scan_ours, ours, out, False),
            "random": partial(_random_episodes, ours, flat, episodes.obs[0], out),
        },
        runs,
    )
    checked, unchecked = best[_OURS]["scan"], best["unchecked"]["scan"]
    return (
        episodes.name,
        compression or "none",
        at_least(best[_BARE]["scan"] / checked, _SCAN_AIM),
        number(best[_BARE]["scan"] / unchecked),
        number(checked / len(episodes.obs) * 1e6),
        at_most(best["random"]["episodes"] / best["random"]["bytes"], _EPISODE_AIM),
        number(best["random"]["episodes"] / _RANDOM_READS * 1e6),
    )


def _write_ours(trajectories: list[Any], directory: Path, compression: Any) -> Phases:
    from vecrollout import TraceWriter

    with tempfile.TemporaryDirectory(dir=directory) as target:
        start = time.perf_counter()
        with TraceWriter(target, compression=compression) as writer:
            for each in trajectories:
                writer.append(each)
        return {"write": time.perf_counter() - start}


def _scan_ours(directory: Path, out: np.ndarray, check: bool) -> None:
    from vecrollout import open_traces

    for each in open_traces(directory, check=check):
        values = each.obs.reshape(-1)
        out[: len(values)] = values


def _random_episodes(directory: Path, flat: Path, episode: np.ndarray, out: np.ndarray) -> Phases:
    """Random episodes of a data set just opened, and as many bytes from the same places of a flat file."""
    from vecrollout import open_traces

    traces = open_traces(directory)
    numbers = np.random.default_rng(0).integers(len(traces), size=_RANDOM_READS).tolist()
    with _seconds() as episodes:
        for chosen in numbers:
            values = traces[chosen].obs.reshape(-1)
            out[: len(values)] = values
    buffer = memoryview(out).cast("B")[: episode.nbytes]
    with _seconds() as read, flat.open("rb", buffering=0) as file:
        for chosen in numbers:
            file.seek(chosen * episode.nbytes)
            file.readinto(buffer)
    return {"episodes": episodes[0], "bytes": read[0]}


def _trajectories(episodes: Episodes) -> list[Any]:
    from vecrollout import Episode, TrajectoryWithRew

    return [
        TrajectoryWithRew(obs, acts, None, True, rews=rews, episode=Episode(i, 0, ended_by="terminated"))
        for i, (obs, acts, rews) in enumerate(zip(episodes.obs, episodes.acts, episodes.rews, strict=True))
    ]


def _timed(phase: str, function: Callable[..., object], *arguments: Any) -> Phases:
    with _seconds() as taken:
        function(*arguments)
    return {phase: taken[0]}


@contextmanager
def _seconds() -> Iterator[list[float]]:
    taken: list[float] = []
    start = time.perf_counter()
    yield taken
    taken.append(time.perf_counter() - start)
