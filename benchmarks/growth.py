"""Whether a step stays as cheap when much has been recorded."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import cycle, islice, pairwise
from typing import Any

from benchmarks.contenders import BARE, IMITATION, OURS, wrappers
from benchmarks.report import Table, number
from benchmarks.timing import Phases, fastest, ignored_by_gc
from benchmarks.workloads import WORKLOADS, Script, write_script

_WORKLOAD = "cp8"
_SCRIPT_STEPS = 10_000
_DECADES = {OURS: (3, 4, 5, 6, 7), IMITATION: (3, 4, 5, 6), BARE: (3, 4, 5, 6, 7)}
"""Powers of ten of transitions; imitation needs some 10 GB and a minute for the last."""


def growth_table(runs: int) -> Table:
    """Record without popping, and time the steps from each power of ten of transitions to the next.

    Args:
        runs: Rounds that count.

    Returns:
        Nanoseconds a transition by the number of transitions recorded.
    """
    script = write_script(WORKLOADS[_WORKLOAD], _SCRIPT_STEPS)
    kinds = wrappers()
    with ignored_by_gc():
        best = fastest({name: _recording(kinds[name], script, _DECADES[name]) for name in kinds}, runs)
    rows = []
    for name, phases in best.items():
        if name == BARE:
            continue
        added = {phase: seconds - best[BARE][phase] for phase, seconds in phases.items()}
        spans = _spans(_DECADES[OURS])
        figures = [added[label] / count * 1e9 if label in added else None for label, count in spans.items()]
        rows.append((name, *map(number, figures)))
    note = (
        f"Added cost of a step at {_WORKLOAD} while nothing is popped, by the number of transitions held: nanoseconds "
        "a transition. The aim is a flat row."
    )
    return Table("Growth", ("", *_spans(_DECADES[OURS])), rows, note)


def _spans(decades: tuple[int, ...]) -> dict[str, int]:
    """Labels of the spans, and the transitions in each."""
    spans = {f"to 10^{decades[0]}": 10 ** decades[0]}
    for low, high in pairwise(decades):
        spans[f"10^{low} to 10^{high}"] = 10**high - 10**low
    return spans


def _recording(kind: type[Any], script: Script, decades: tuple[int, ...]) -> Callable[[], Phases]:
    num_envs = script.workload.num_envs

    def once() -> Phases:
        contender = kind(script)
        contender.reset()
        step = contender.venv.step
        actions = cycle(script.actions)
        phases = {}
        for label, transitions in _spans(decades).items():
            start = time.process_time()
            for step_actions in islice(actions, transitions // num_envs):
                step(step_actions)
            phases[label] = time.process_time() - start
        return phases

    return once
