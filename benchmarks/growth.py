"""Whether a step stays as cheap when much has been recorded."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import cycle, islice, pairwise
from typing import Any

from benchmarks.contenders import BARE, IMITATION, OURS, wrappers
from benchmarks.options import Options
from benchmarks.report import Table, at_most, number, ratio
from benchmarks.timing import Phases, fastest, ignored_by_gc
from benchmarks.workloads import WORKLOADS, Script, write_script

_WORKLOAD = "cp8"
_SCRIPT_STEPS = 10_000
_DECADES = {OURS: (3, 4, 5, 6, 7), IMITATION: (3, 4, 5, 6), BARE: (3, 4, 5, 6, 7)}
"""Powers of ten of transitions; imitation needs some 10 GB and a minute for the last."""
_QUICK_DECADES = (2, 3, 4)
_AIM = 1.1
"""Most times the cost of the second span in the last one: flat, but for what the clock does not resolve."""


def growth_table(options: Options) -> Table:
    """Cost of a step while nothing is popped, from each power of ten of transitions to the next."""
    script = write_script(WORKLOADS[_WORKLOAD], options.scaled(_SCRIPT_STEPS))
    kinds = wrappers()
    decades = dict.fromkeys(kinds, _QUICK_DECADES) if options.is_quick else _DECADES
    with ignored_by_gc():
        contenders = {name: _recording(kinds[name], script, decades[name]) for name in kinds}
        best = fastest(contenders, max(1, options.runs // 2))
    spans = _spans(decades[OURS])
    rows = []
    for name, phases in best.items():
        if name == BARE:
            continue
        added = {label: (phases[label] - best[BARE][label]) / spans[label] * 1e9 for label in phases}
        _, early, *_, late = spans
        growth = ratio(added.get(late), added[early])
        rows.append(
            (name, at_most(growth, _AIM if name == OURS else None), *(number(added.get(each)) for each in spans))
        )
    note = (
        f"Added cost of a step at {_WORKLOAD} while nothing is popped, by the number of transitions held: the last "
        "figure over the second (with the aim), and nanoseconds a transition."
    )
    return Table("Growth", ("", "last over second", *spans), rows, note)


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
