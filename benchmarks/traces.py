"""Traces on disk beside bare pyarrow: writing, scanning, and reading single episodes."""

from __future__ import annotations

import os
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
_BARE, _OURS = "pyarrow", "vecrollout"
_COMPRESSIONS = ("zstd", None)
_RANDOM_READS = 40


def trace_tables(runs: int) -> list[Table]:
    """Measure writing and reading, by wall time, for a writer has a thread of its own and disks are waited for.

    Args:
        runs: Rounds that count.

    Returns:
        Throughput beside bare pyarrow's.
    """
    workloads = (atari(), cartpole(), cartpole(5_000, 22))
    with tempfile.TemporaryDirectory() as directory:
        written = {
            (episodes.name, compression): _write_all(episodes, compression, Path(directory), runs)
            for episodes in workloads
            for compression in _COMPRESSIONS
        }
        reading = [
            _reading_row(episodes, compression, Path(directory), runs) for episodes, compression in _cases(workloads)
        ]
    writing = [
        _writing_row(episodes, compression, written[episodes.name, compression])
        for episodes, compression in _cases(workloads)
    ]
    return [
        Table(
            "Writing traces",
            ("", "compression", "of pyarrow's throughput", "vecrollout MB/s", "pyarrow MB/s", "vecrollout us a step"),
            writing,
            "Sustained throughput of `TraceWriter`, from the first `append` to the end of `close`, beside bare pyarrow, "
            "which writes the same columns of the same arrays and makes them durable too (the aim in brackets).",
        ),
        Table(
            "Reading traces",
            (
                *("", "compression", "scan of pyarrow's throughput", "unchecked scan", "vecrollout us an episode"),
                *("episode over its bytes", "us a random episode"),
            ),
            reading,
            "A full scan copies all observations out, as that of bare pyarrow does; the first one compares every checksum, "
            "the second one none. A random episode is read by a data set that has not read any other; beside it, the time "
            "that `os.pread` takes for the bytes of its record batch (the aims in brackets).",
        ),
    ]


def _cases(workloads: tuple[Episodes, ...]) -> list[tuple[Episodes, str | None]]:
    return [(episodes, compression) for episodes in workloads for compression in _COMPRESSIONS]


def _write_all(episodes: Episodes, compression: str | None, directory: Path, runs: int) -> dict[str, Phases]:
    trajectories = _trajectories(episodes)
    contenders: dict[str, Callable[[], Phases]] = {
        _BARE: partial(_timed, "write", bare_arrow.write, episodes, directory / "bare.arrow", compression),
        _OURS: partial(_write_ours, trajectories, directory, compression),
    }
    return fastest(contenders, runs)


def _writing_row(episodes: Episodes, compression: str | None, best: dict[str, Phases]) -> tuple[str, ...]:
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
    out = np.empty(max(64 << 20, episodes.obs[0].nbytes) // episodes.obs[0].itemsize, episodes.obs[0].dtype)
    best = fastest(
        {
            _BARE: partial(_timed, "scan", bare_arrow.scan, bare, out),
            _OURS: partial(_timed, "scan", _scan_ours, ours, out, True),
            "unchecked": partial(_timed, "scan", _scan_ours, ours, out, False),
            "random": partial(_random_episodes, ours, out),
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


def _random_episodes(directory: Path, out: np.ndarray) -> Phases:
    """Random episodes, each from a data set just opened, and the bytes of the batches that they are in."""
    from vecrollout import open_traces

    rng = np.random.default_rng(0)
    numbers = rng.integers(len(open_traces(directory)), size=_RANDOM_READS)
    opened = [open_traces(directory) for _ in numbers]
    with _seconds() as episodes:
        for traces, chosen in zip(opened, numbers.tolist(), strict=True):
            values = traces[chosen].obs.reshape(-1)
            out[: len(values)] = values
    places = [traces.place(chosen) for traces, chosen in zip(opened, numbers.tolist(), strict=True)]
    with _seconds() as read:
        for path, offset, length in places:
            descriptor = os.open(path, os.O_RDONLY)
            os.pread(descriptor, length, offset)
            os.close(descriptor)
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
