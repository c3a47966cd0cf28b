"""Writing traces, beside bare pyarrow."""

from __future__ import annotations

import gc
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import bare_arrow
from benchmarks.episodes import (
    ATARI,
    COMPRESSIONS,
    LONG,
    SHORT,
    Episodes,
    episodes_from,
    episodes_of,
    trajectories_of,
)
from benchmarks.options import Options
from benchmarks.report import Table, at_least, number
from benchmarks.timing import Phases, Stopwatch, fastest
from benchmarks.workloads import WORKLOADS, Script, ScriptedVecEnv, write_script

_READY_AIM = 0.6
"""Of pyarrow's throughput, ready trajectories."""
_RECORDER_AIM = 1.5
"""Of pyarrow's throughput, a recorder's batches of short episodes."""

_RECORDED = "cp8 short"
_SCRIPT_STEPS = 2_200
_REPEATS = 38
_BARE, _OURS = "pyarrow", "vecrollout"
_WALL, _PROCESSOR = "wall", "processor"

_COLUMNS = (
    *("", "compression", "of pyarrow's throughput", "in processor time"),
    *("vecrollout MB/s", "pyarrow MB/s", "vecrollout us a step", "pyarrow us a step"),
)


class _Batches(list[Any]):
    """A sink that keeps a recorder's batches as they are."""

    def extend(self, batch: Any) -> None:
        self.append(batch)


def writing_tables(options: Options) -> list[Table]:
    """Throughput of ready trajectories and of a recorder's batches."""
    with tempfile.TemporaryDirectory() as directory:
        ready = [
            _ready_row(name, compression, Path(directory), options)
            for name in (ATARI, LONG, SHORT)
            for compression in COMPRESSIONS
        ]
        recorded = [_recorder_row(compression, Path(directory), options) for compression in COMPRESSIONS]
    note = (
        "Throughput of `TraceWriter` from the first `extend` to the end of `close`, beside bare pyarrow, which "
        "writes the same columns, joined from the arrays of the episodes, and makes them durable too. Wall time "
        "counts (with the aim); the next column has the ratio in processor time."
    )
    return [
        Table("Writing ready trajectories", _COLUMNS, ready, note),
        Table(
            "Writing from a recorder",
            _COLUMNS,
            recorded,
            "Batches that a recorder of eight environments handed to its sink, one whenever episodes ended; episodes "
            "of 22 steps, without infos. The recording itself is not timed.",
        ),
    ]


def _ready_row(name: str, compression: str | None, directory: Path, options: Options) -> tuple[str, ...]:
    episodes = episodes_of(name, options.is_quick)
    trajectories = trajectories_of(episodes)
    write = partial(_write, lambda: [trajectories], directory, compression)
    return (name, *_cells(episodes, compression, write, directory, options.runs, _READY_AIM))


def _recorder_row(compression: str | None, directory: Path, options: Options) -> tuple[str, ...]:
    script = write_script(WORKLOADS[_RECORDED], _SCRIPT_STEPS)
    record = partial(_record, script, options.scaled(_REPEATS, 2))
    episodes = episodes_from(trajectory for batch in record() for trajectory in batch)
    write = partial(_write, record, directory, compression)
    return (SHORT, *_cells(episodes, compression, write, directory, options.runs, _RECORDER_AIM))


def _record(script: Script, repeats: int) -> list[Any]:
    from vecrollout import BufferingWrapper

    batches = _Batches()
    recorder = BufferingWrapper(ScriptedVecEnv(script), sink=batches, record_infos="none")
    recorder.reset()
    for _ in range(repeats):
        for actions in script.actions:
            recorder.step(actions)
    recorder.close()
    return batches


def _cells(
    episodes: Episodes,
    compression: str | None,
    write: Callable[[], Phases],
    directory: Path,
    runs: int,
    aim: float,
) -> tuple[str, ...]:
    bare_write = partial(_timed, bare_arrow.write, episodes, directory / "bare.arrow", compression)
    best = fastest({_BARE: bare_write, _OURS: write}, runs)
    ours, bare = best[_OURS], best[_BARE]
    return (
        compression or "none",
        at_least(bare[_WALL] / ours[_WALL], aim),
        number(bare[_PROCESSOR] / ours[_PROCESSOR]),
        *(number(episodes.size_bytes / each[_WALL] / 1e6) for each in (ours, bare)),
        *(number(each[_WALL] / episodes.steps * 1e6) for each in (ours, bare)),
    )


def _write(parts: Callable[[], list[Any]], directory: Path, compression: Any) -> Phases:
    """Hand the parts, made anew, to a writer."""
    from vecrollout import TraceWriter

    made = parts()
    with tempfile.TemporaryDirectory(dir=directory) as target:
        writer = TraceWriter(target, compression=compression)

        def extend_and_close() -> None:
            with writer:
                for part in made:
                    writer.extend(part)

        return _timed(extend_and_close)


def _timed(function: Callable[..., object], *arguments: Any) -> Phases:
    gc.collect()  # what was recorded before is not the writer's to look through
    wall, processor = Stopwatch(time.perf_counter), Stopwatch(time.process_time)
    with wall.phase(_WALL), processor.phase(_PROCESSOR):
        function(*arguments)
    return wall.phases | processor.phases
