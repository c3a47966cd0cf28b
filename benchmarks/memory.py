"""How much memory a recording takes at its peak, over the data itself."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.contenders import BARE, IMITATION, OURS, wrappers
from benchmarks.report import Table, at_most
from benchmarks.workloads import WORKLOADS, write_script

_STEPS = {"cp64": 20_000, "at8": 4_000, "at64": 500}
"""Steps of a recording: at least some 36 MB of data, so that the interpreter's own growth does not count."""
_EPISODE_STEPS = {"cp64": 200, "at8": 500, "at64": 500}
_NOTHING, _TRAJECTORIES, _TRANSITIONS = "nothing", "pop_trajectories", "pop_transitions"
_AIMS = {_NOTHING: 1.05, _TRAJECTORIES: 1.1, _TRANSITIONS: 3.05}
"""Most peak memory over raw data, by what was popped at the end; large observations only."""
_LARGE_OBS = ("at8", "at64")


def memory_table() -> Table:
    """Measure each recording in a new process.

    Returns:
        Peak memory over the raw data, by what was popped at the end.
    """
    rows = []
    for workload in _STEPS:
        for contender in (OURS, IMITATION):
            if contender not in wrappers():
                continue
            peaks = {pop: _measured_in_child(contender, workload, pop) for pop in _AIMS}
            aims = _AIMS if contender == OURS and workload in _LARGE_OBS else {}
            rows.append((workload, contender, *(at_most(peak, aims.get(pop)) for pop, peak in peaks.items())))
    note = (
        "Peak resident memory over the raw data (observations, actions and rewards, once), above what the process held "
        "before recording; the aim in brackets. The info dicts belong to the environment and are not counted."
    )
    columns = ("", "", "recorded", "trajectories popped", "transitions popped")
    return Table("Peak memory over raw data", columns, rows, note)


def _measured_in_child(contender: str, workload: str, pop: str) -> float:
    command = [sys.executable, "-m", "benchmarks.memory", contender, workload, pop]
    child = subprocess.run(command, check=True, capture_output=True, text=True, cwd=Path(__file__).parents[1])
    return float(json.loads(child.stdout))


def _peak_over_raw(contender_name: str, workload_name: str, pop: str) -> float:
    script = write_script(WORKLOADS[workload_name], _EPISODE_STEPS[workload_name])
    repeats = _STEPS[workload_name] // _EPISODE_STEPS[workload_name]
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
