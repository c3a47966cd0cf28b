"""Reading traces, beside bare pyarrow: batches, trajectories, and single episodes."""

from __future__ import annotations

import atexit
import tempfile
import time
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from benchmarks import bare_arrow
from benchmarks.baseline import COMMIT, READ_US, SCAN_US
from benchmarks.episodes import ATARI, COMPRESSIONS, LONG, SHORT, episodes_of, trajectories_of
from benchmarks.options import Options
from benchmarks.report import Table, at_least, at_most, number
from benchmarks.timing import Phases, Stopwatch, fastest

_BATCH_AIM = 0.9
"""Of bare pyarrow's throughput, batches."""
_SCAN_AIM = 5
"""Times quicker than before, trajectories of 22 steps."""
_FIRST_AIM = 1.5
"""Most times pyarrow's `get_batch` and the checksum of the batch, the first read of an episode."""
_AGAIN_AIM = 20
"""Times quicker than before, reading an episode again."""
_EPISODES_READ = 40
_OUT_BYTES = 64 << 20

_BARE, _BATCHES, _UNCHECKED, _SCAN, _EARLIER = "pyarrow", "batches", "unchecked", "trajectories", "earlier"
_FIRST, _AGAIN, _HASH = "first", "again", "hash"

Case = tuple[str, str | None]
"""What is read, and how it is compressed."""


def reading_tables(options: Options) -> list[Table]:
    """Throughput of a scan, and time of single episodes."""
    cases: list[Case] = [(name, compression) for name in (ATARI, LONG, SHORT) for compression in COMPRESSIONS]
    return [
        Table(
            "Scanning traces",
            (
                *("", "compression", "batches, of pyarrow's throughput", "unchecked", "us an episode"),
                *("trajectories, us an episode", f"{COMMIT}, us an episode", f"times quicker than {COMMIT}"),
            ),
            [_scanning_row(case, options) for case in cases],
            "`TraceDataset.batches()` beside bare pyarrow: both decode observations, actions, rewards and ends, and "
            "copy the observations out. Unchecked, no checksum is compared; the limit is what pyarrow would reach if "
            "it computed the checksums of its file too. Then iteration over trajectories, with the same copies.",
        ),
        Table(
            "Reading single episodes",
            (
                *("", "compression", "first read, x get_batch and checksum", "us a first read", "us a get_batch"),
                *("us a checksum", "us a read again", f"{COMMIT}, us", f"times quicker than {COMMIT}"),
            ),
            [_single_row(case, options) for case in cases],
            "Episodes spread over a data set just opened, each from another record batch, beside pyarrow's `get_batch` "
            "of the same record batches and their checksums: a first read compares the checksum of a whole record "
            "batch. Then the same episodes again.",
        ),
    ]


def _scanning_row(case: Case, options: Options) -> tuple[str, ...]:
    name, compression = case
    episodes = episodes_of(name, options.is_quick)
    directory = _written(*case, options.is_quick)
    bare = directory / "bare"
    bare_arrow.write(episodes, bare, compression)
    out = _room(name, options.is_quick)
    contenders = {
        _BARE: partial(_timed, bare_arrow.scan, bare, out),
        _HASH: partial(_timed, _hash, bare),
        _BATCHES: partial(_timed, _scan_batches, directory, out, True),
        _UNCHECKED: partial(_timed, _scan_batches, directory, out, False),
        _SCAN: partial(scan_trajectories, *case, options.is_quick),
    }
    if options.baseline:
        contenders[_EARLIER] = options.baseline.contender(scan_trajectories, *case, options.is_quick)
    best = {who: phases["seconds"] for who, phases in fastest(contenders, options.runs).items()}
    bare_arrow_limit = best[_BARE] / (best[_BARE] + best[_HASH])
    us = {who: seconds / len(episodes.obs) * 1e6 for who, seconds in best.items()}
    earlier = us.get(_EARLIER, SCAN_US[case])
    return (
        *(name, compression or "none"),
        at_least(best[_BARE] / best[_BATCHES], _BATCH_AIM, bare_arrow_limit),
        number(best[_BARE] / best[_UNCHECKED]),
        *map(number, (us[_BATCHES], us[_SCAN], earlier)),
        at_least(earlier / us[_SCAN], _SCAN_AIM if name == SHORT else None),
    )


def _single_row(case: Case, options: Options) -> tuple[str, ...]:
    contenders = {
        "vecrollout": partial(read_episodes, *case, options.is_quick),
        _BARE: partial(_read_batches, *case, options.is_quick),
    }
    if options.baseline:
        contenders[_EARLIER] = options.baseline.contender(read_episodes, *case, options.is_quick)
    best = fastest(contenders, options.runs)
    ours, bare = best["vecrollout"], best[_BARE]
    earlier = best[_EARLIER][_AGAIN] * 1e6 if options.baseline else READ_US[case]
    return (
        *(case[0], case[1] or "none"),
        at_most(ours[_FIRST] / (bare[_FIRST] + bare[_HASH]), _FIRST_AIM),
        *(number(seconds * 1e6) for seconds in (ours[_FIRST], bare[_FIRST], bare[_HASH], ours[_AGAIN])),
        number(earlier),
        at_least(earlier / (ours[_AGAIN] * 1e6), _AGAIN_AIM if case[0] == SHORT else None),
    )


@lru_cache
def _written(name: str, compression: str | None, is_quick: bool) -> Path:
    """A trace of the episodes, which is there until the process ends."""
    from vecrollout import TraceWriter

    directory = tempfile.TemporaryDirectory()
    atexit.register(directory.cleanup)
    with TraceWriter(directory.name, compression=compression) as writer:
        for each in trajectories_of(episodes_of(name, is_quick)):
            writer.append(each)
    return Path(directory.name)


@lru_cache
def _room(name: str, is_quick: bool) -> np.ndarray:
    """Where observations are copied to."""
    dtype = episodes_of(name, is_quick).obs[0].dtype
    return np.ones(_OUT_BYTES // dtype.itemsize, dtype)


def scan_trajectories(name: str, compression: str | None, is_quick: bool) -> Phases:
    """Iterate over all trajectories, and copy their observations."""
    from vecrollout import open_traces

    directory, out = _written(name, compression, is_quick), _room(name, is_quick)

    def scan() -> None:
        for each in open_traces(directory):
            values = each.obs.reshape(-1)
            out[: len(values)] = values

    return _timed(scan)


def _scan_batches(directory: Path, out: np.ndarray, check: bool) -> None:
    from vecrollout import open_traces

    for batch in open_traces(directory, check=check).batches():
        _ = batch.acts, batch.rews, batch.lengths, batch.terminated, batch.truncated
        values = batch.obs.reshape(-1)
        for begin in range(0, len(values), len(out)):
            part = values[begin : begin + len(out)]
            out[: len(part)] = part


def read_episodes(name: str, compression: str | None, is_quick: bool) -> Phases:
    """Seconds of an episode of a data set just opened, and of the same one again."""
    from vecrollout import open_traces

    directory, out = _written(name, compression, is_quick), _room(name, is_quick)
    traces = open_traces(directory)
    chosen = _chosen(directory, len(traces))
    watch = Stopwatch(time.perf_counter)
    for phase in (_FIRST, _AGAIN):
        with watch.phase(phase):
            for number_ in chosen:
                values = traces[number_].obs.reshape(-1)
                out[: len(values)] = values
    return {phase: seconds / len(chosen) for phase, seconds in watch.phases.items()}


def _read_batches(name: str, compression: str | None, is_quick: bool) -> Phases:
    """The same reads with pyarrow alone, and the checksum of as many bytes as a record batch has on average."""
    directory, out = _written(name, compression, is_quick), _room(name, is_quick)
    episodes = episodes_of(name, is_quick)
    shards = sorted(directory.glob("*.arrow"))
    rows, read = bare_arrow.random_reader(shards)
    chosen = _chosen(directory, len(episodes.obs))
    begins = np.concatenate([[0], np.cumsum([len(obs) for obs in episodes.obs])])[chosen]
    ends = np.cumsum(rows)
    batches = np.searchsorted(ends, begins, side="right").tolist()
    offsets = (begins - (ends - rows)[batches]).tolist()
    width = int(np.prod(episodes.obs[0].shape[1:]))
    lengths = [episodes.obs[each].size for each in chosen]
    on_disk = np.memmap(shards[0], np.uint8, "r")
    part = sum(shard.stat().st_size for shard in shards) // len(rows)
    watch = Stopwatch(time.perf_counter)
    with watch.phase(_FIRST):
        for batch, offset, length in zip(batches, offsets, lengths, strict=True):
            values = read(batch).column("obs").values.to_numpy(zero_copy_only=True)
            values = values[offset * width : offset * width + length]
            out[: len(values)] = values
    with watch.phase(_HASH):
        for i in range(len(chosen)):
            begin = i * part % max(1, len(on_disk) - part)
            xxhash.xxh3_64_intdigest(on_disk[begin : begin + part])
    return {phase: seconds / len(chosen) for phase, seconds in watch.phases.items()}


def _chosen(directory: Path, episodes: int) -> list[int]:
    """Episodes in no order, each from another record batch as far as there are so many."""
    batches = len(bare_arrow.random_reader(sorted(directory.glob("*.arrow")))[0])
    count = min(_EPISODES_READ, batches, episodes)
    spread = (np.arange(count) + 0.5) * episodes / count
    return np.random.default_rng(0).permutation(spread.astype(int)).tolist()


def _hash(path: Path) -> None:
    xxhash.xxh3_64_intdigest(np.memmap(path, np.uint8, "r"))


def _timed(function: Callable[..., Any], *arguments: Any) -> Phases:
    watch = Stopwatch(time.perf_counter)
    with watch.phase("seconds"):
        function(*arguments)
    return watch.phases
