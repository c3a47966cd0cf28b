"""How `pop_transitions` compares with a plain copy of what it returns, both into memory that is new to the process.

A process of its own measures that, since the others' keeps the memory it has used.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.contenders import OURS, recorders
from benchmarks.report import Table, at_most, number
from benchmarks.timing import Phases, Stopwatch, fastest, ignored_by_gc, touch_memory
from benchmarks.workloads import WORKLOADS, Script, write_script

_LARGE_OBS = ("mj64", "at8", "at64")
_AIM = 1.4
_TRANSITIONS, _COPY = "pop_transitions", "copy"


def copy_table(runs: int) -> Table:
    """Measure large observations.

    Args:
        runs: Rounds that count.

    Returns:
        Times the cost of a plain copy, then nanoseconds a transition.
    """
    rows = []
    for name in _LARGE_OBS if OURS in recorders() else ():
        phases = _measured_in_child(name, runs)
        ratio = phases[_TRANSITIONS] / phases[_COPY]
        rows.append((name, at_most(ratio, _AIM), number(phases[_TRANSITIONS]), number(phases[_COPY])))
    note = (
        "The plain copy is `np.copyto` of the popped `obs` and `next_obs`; both get memory that the process has not "
        "used before (the aim in brackets)."
    )
    return Table(
        "pop_transitions beside a plain copy", ("", "times a copy", "pop_transitions ns", "copy ns"), rows, note
    )


def _measured_in_child(workload: str, runs: int) -> Phases:
    command = [sys.executable, "-m", "benchmarks.copies", workload, str(runs)]
    child = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1])
    phases: Phases = json.loads(child.stdout)
    return phases


def _measured(workload: str, runs: int) -> Phases:
    script = write_script(WORKLOADS[workload])
    with ignored_by_gc():
        best = fastest({OURS: lambda: _pop_and_copy(script)}, runs)[OURS]
    return {phase: seconds / script.transitions * 1e9 for phase, seconds in best.items()}


def _pop_and_copy(script: Script) -> Phases:
    recorder: Any = recorders()[OURS](script)
    watch = Stopwatch()
    recorder.reset()
    recorder.record()
    touch_memory(5 * script.raw_bytes)
    with watch.phase(_TRANSITIONS):
        transitions = recorder.pop_transitions()
    with watch.phase(_COPY):
        copies = [np.empty(obs.shape, obs.dtype) for obs in (transitions.obs, transitions.next_obs)]
        for copy, obs in zip(copies, (transitions.obs, transitions.next_obs), strict=True):
            np.copyto(copy, obs)
    return watch.phases


if __name__ == "__main__":
    print(json.dumps(_measured(sys.argv[1], int(sys.argv[2]))))
