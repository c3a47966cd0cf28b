"""Opening a data set of many episodes."""

from __future__ import annotations

import tempfile
import time
from functools import partial
from pathlib import Path

from benchmarks.episodes import cartpole, trajectories_of
from benchmarks.options import Options
from benchmarks.report import Table, at_most
from benchmarks.timing import Phases, Stopwatch, fastest

_EPISODES = 100_000
_STEPS = 2
_AIM_S = 0.5


def opening_table(options: Options) -> Table:
    """Seconds that `open_traces` takes, for one shard and for many."""
    from vecrollout import TraceWriter

    trajectories = trajectories_of(cartpole(options.scaled(_EPISODES), _STEPS))
    rows = []
    for shards, shard_bytes in (("one", 1 << 30), ("some", 1 << 19)):
        with tempfile.TemporaryDirectory() as directory:
            with TraceWriter(directory, max_shard_bytes=shard_bytes, compression=None) as writer:
                for each in trajectories:
                    writer.append(each)
            count = sum(path.suffix == ".arrow" for path in Path(directory).iterdir())
            best = fastest({"open": partial(_open, directory)}, options.runs)["open"]["open"]
        rows.append((f"{shards} ({count})", at_most(best, _AIM_S)))
    note = f"Seconds that `open_traces` takes for {len(trajectories):,} episodes, with the aim."
    return Table("Opening traces", ("shards", "seconds"), rows, note)


def _open(directory: str) -> Phases:
    from vecrollout import open_traces

    watch = Stopwatch(time.perf_counter)
    with watch.phase("open"):
        open_traces(directory)
    return watch.phases
