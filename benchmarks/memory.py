"""How much memory a recording takes at its peak, over the data itself."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.baseline import COMMIT, PEAK_MEMORY
from benchmarks.contenders import BARE, IMITATION, OURS, wrappers
from benchmarks.options import Options, scaled
from benchmarks.report import Table, at_most, number
from benchmarks.workloads import WORKLOADS, write_script

_STEPS = {"cp64": 20_000, "at8": 4_000, "at64": 500}
"""Steps of a recording: at least some 36 MB of data, so that the interpreter's own growth does not count."""
_EPISODE_STEPS = {"cp64": 200, "at8": 500, "at64": 500}
_NOTHING, _TRAJECTORIES, _TRANSITIONS = "nothing", "pop_trajectories", "pop_transitions"
_POPS = (_NOTHING, _TRAJECTORIES, _TRANSITIONS)
_UNRESOLVED = 0.05
"""A difference that the measurement does not resolve."""


def memory_table(options: Options) -> Table:
    """Peak memory over the raw data, by what was popped at the end; each recording in a new process."""
    rows = []
    for workload in _STEPS:
        peaks = {who: _peaks(who, workload, options) for who in (OURS, IMITATION) if who in wrappers()}
        earlier = PEAK_MEMORY[workload]
        if options.baseline:
            earlier = _peaks(OURS, workload, options, options.baseline.environment)
        for who, figures in peaks.items():
            aims = [value + _UNRESOLVED if who == OURS else None for value in earlier]
            rows.append((workload, who, *map(at_most, figures, aims)))
        rows.append((workload, COMMIT, *map(number, earlier)))
    note = (
        "Peak resident memory over the raw data (observations, actions and rewards, once), above what the process held "
        f"before recording. The aim is what commit {COMMIT} took, give or take {_UNRESOLVED}. The info dicts belong to "
        "the environment and do not count."
    )
    columns = ("", "", "recorded", "trajectories popped", "transitions popped")
    return Table("Peak memory over raw data", columns, rows, note)


def _peaks(
    contender: str, workload: str, options: Options, environment: Mapping[str, str] | None = None
) -> tuple[float, ...]:
    return tuple(_measured_in_child(contender, workload, pop, options.is_quick, environment) for pop in _POPS)


def _measured_in_child(
    contender: str, workload: str, pop: str, is_quick: bool, environment: Mapping[str, str] | None
) -> float:
    steps = scaled(_STEPS[workload], is_quick, _EPISODE_STEPS[workload])
    command = [sys.executable, "-m", "benchmarks.memory", contender, workload, pop, str(steps)]
    root = Path(__file__).parents[1]
    child = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=root, env=environment)
    return float(json.loads(child.stdout))


def _peak_over_raw(contender_name: str, workload_name: str, pop: str, steps: str) -> float:
    script = write_script(WORKLOADS[workload_name], _EPISODE_STEPS[workload_name])
    repeats = int(steps) // _EPISODE_STEPS[workload_name]
    _warm_up(contender_name, workload_name)
    gc.collect()
    _forget_peak()
    before = _resident_bytes("VmRSS")
    contender: Any = wrappers()[contender_name](script)
    contender.reset()
    for _ in range(repeats):
        contender.record()
    popped = None if pop == _NOTHING else getattr(contender, pop)()
    peak = _resident_bytes("VmHWM")
    del popped
    return (peak - before) / (script.raw_bytes * repeats)


def _warm_up(contender_name: str, workload_name: str) -> None:
    """Load what a recorder loads late, and let the allocator take its first memory."""
    contender: Any = wrappers()[contender_name](write_script(WORKLOADS[workload_name], 4))
    contender.reset()
    contender.record()
    contender.pop_transitions()
    bare = wrappers()[BARE](write_script(WORKLOADS[workload_name], 4))
    bare.reset()
    bare.record()


def _forget_peak() -> None:
    """Lower the process's peak to what is resident now (`man 5 proc_pid_clear_refs`)."""
    Path("/proc/self/clear_refs").write_text("5")


def _resident_bytes(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no {field}: peak memory is measured on Linux only")


if __name__ == "__main__":
    print(json.dumps(_peak_over_raw(*sys.argv[1:])))
