"""What a recorded step costs, and what it costs to get the data out again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from benchmarks.contenders import BARE, CPPRB, FLOOR, IMITATION, OURS, SB3, Bare, recorders, wrappers
from benchmarks.report import Table, at_least, at_most, number
from benchmarks.timing import Phases, Stopwatch, fastest, ignored_by_gc
from benchmarks.workloads import WORKLOADS, Script, write_script

_RECORD = "record"
_TRANSITIONS = "pop_transitions"
_TRAJECTORIES = "pop_trajectories"
_COPY = "copy"

_STEP_AIMS = {"cp8": 25, "cp64": 85, "cp1024": 120, "mj64": 11, "at8": 4.5, "at64": 5}
"""Times faster than imitation, a recorded step."""
_STEP_AND_POP_AIMS = {"cp8": 15, "cp64": 30, "cp1024": 45, "mj64": 7, "at8": 2.4, "at64": 4}
"""Times faster than imitation, a recorded step and its share of `pop_transitions`."""
_TRAJECTORY_AIM_NS = 100
"""Most nanoseconds a transition for `pop_trajectories`, whatever the size of the observations."""
_COPY_AIM = 1.4
"""Most times the cost of a plain copy of what `pop_transitions` returns; large observations only."""
_LARGE_OBS = ("mj64", "at8", "at64")


def step_table(names: list[str], runs: int) -> Table:
    """Measure what recording adds to a step.

    Args:
        names: Workloads to run.
        runs: Rounds that count.

    Returns:
        Ratios to the other recorders, then the nanoseconds.
    """
    rows = []
    for name in names:
        script = write_script(WORKLOADS[name])
        with ignored_by_gc():
            best = fastest(_each(recorders(), script, _record), runs)
        added = _added_ns(best, script)
        rows.append(
            (
                name,
                at_least(_ratio(added, IMITATION), _STEP_AIMS.get(name)),
                at_least(_ratio(added, SB3), 1),
                at_least(_ratio(added, CPPRB), 1),
                number(_ratio(added, FLOOR)),
                *(number(added.get(contender)) for contender in (OURS, IMITATION, SB3, CPPRB, FLOOR)),
                number(best[BARE][_RECORD] / script.transitions * 1e9),
            )
        )
    columns = ("", *(f"{other} / {OURS}" for other in (IMITATION, SB3, CPPRB, FLOOR)))
    nanoseconds = (f"{name} ns" for name in (OURS, IMITATION, SB3, CPPRB, FLOOR, BARE))
    note = (
        "Added cost of a recorded step: how many times cheaper than each of the others (the aim in brackets), then "
        "nanoseconds a transition. The cost of the bare environment is subtracted."
    )
    return Table("Step", (*columns, *nanoseconds), rows, note)


def pop_table(names: list[str], runs: int) -> Table:
    """Measure recording together with taking the data out, and taking it out alone.

    Args:
        names: Workloads to run.
        runs: Rounds that count.

    Returns:
        Ratios first, then the nanoseconds.
    """
    rows = []
    for name in names:
        script = write_script(WORKLOADS[name])
        with ignored_by_gc():
            transitions = fastest(_each(wrappers(), script, _record_and_pop_transitions), runs)
            trajectories = fastest(_each(_without_bare(), script, _record_and_pop_trajectories), runs)
        added = _added_ns(transitions, script)
        per_transition = 1e9 / script.transitions
        popped = {who: transitions[who][_TRANSITIONS] * per_transition for who in transitions if who != BARE}
        copied = {who: transitions[who][_COPY] * per_transition for who in popped}
        views = {who: trajectories[who][_TRAJECTORIES] * per_transition for who in trajectories}
        both = {who: added[who] + popped[who] for who in popped}
        copies = popped[OURS] / copied[OURS] if OURS in popped else None
        rows.append(
            (
                name,
                at_least(_ratio(both, IMITATION), _STEP_AND_POP_AIMS.get(name)),
                at_most(copies, _COPY_AIM if name in _LARGE_OBS else None),
                at_most(views.get(OURS), _TRAJECTORY_AIM_NS),
                number(views.get(IMITATION)),
                *(number(figures.get(who)) for figures in (both, popped) for who in (OURS, IMITATION)),
                number(copied.get(OURS)),
            )
        )
    columns = (
        "",
        f"step + pop_transitions, {IMITATION} / {OURS}",
        "pop_transitions / plain copy",
        f"pop_trajectories {OURS} ns",
        f"{IMITATION} ns",
        f"step + pop_transitions {OURS} ns",
        f"{IMITATION} ns",
        f"pop_transitions {OURS} ns",
        f"{IMITATION} ns",
        "plain copy ns",
    )
    note = (
        "Everything that was recorded taken out at once (the aim in brackets), nanoseconds a transition. The plain "
        "copy is `np.copyto` of the popped `obs` and `next_obs` into new memory."
    )
    return Table("Getting the data out", columns, rows, note)


Run = Callable[[Bare], Phases]


def _each(kinds: Mapping[str, type[Bare]], script: Script, run: Run) -> dict[str, Callable[[], Phases]]:
    def opened(kind: type[Bare]) -> Callable[[], Phases]:
        def once() -> Phases:
            contender = kind(script)
            contender.reset()
            return run(contender)

        return once

    return {name: opened(kind) for name, kind in kinds.items()}


def _without_bare() -> dict[str, type[Bare]]:
    return {name: kind for name, kind in wrappers().items() if name != BARE}


def _record(contender: Bare) -> Phases:
    watch = Stopwatch()
    with watch.phase(_RECORD):
        contender.record()
    return watch.phases


def _record_and_pop_transitions(contender: Any) -> Phases:
    watch = Stopwatch()
    with watch.phase(_RECORD):
        contender.record()
    if contender.name == BARE:
        return watch.phases
    with watch.phase(_TRANSITIONS):
        transitions = contender.pop_transitions()
    with watch.phase(_COPY):
        copies = [_copy(obs) for obs in (transitions.obs, transitions.next_obs)]
    _check_length(contender, len(transitions))
    del copies
    return watch.phases


def _record_and_pop_trajectories(contender: Any) -> Phases:
    watch = Stopwatch()
    with watch.phase(_RECORD):
        contender.record()
    with watch.phase(_TRAJECTORIES):
        trajectories, _ = contender.pop_trajectories()
    _check_length(contender, sum(map(len, trajectories)))
    return watch.phases


def _copy(obs: Any) -> Any:
    if not isinstance(obs, np.ndarray):
        return {key: _copy(part) for key, part in obs.items()}
    destination = np.empty(obs.shape, obs.dtype)
    np.copyto(destination, obs)
    return destination


def _check_length(contender: Bare, length: int) -> None:
    expected = contender.script.transitions
    if length != expected:
        raise RuntimeError(f"{contender.name}: expected {expected} transitions, got {length}")


def _added_ns(best: Mapping[str, Phases], script: Script) -> dict[str, float]:
    bare = best[BARE][_RECORD]
    return {name: (phases[_RECORD] - bare) / script.transitions * 1e9 for name, phases in best.items() if name != BARE}


def _ratio(figures: Mapping[str, float], other: str) -> float | None:
    return figures[other] / figures[OURS] if OURS in figures and other in figures else None
