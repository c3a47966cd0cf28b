"""What a recorded step costs, and what it costs to get the data out again."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from benchmarks.contenders import BARE, CPPRB, FLOOR, IMITATION, OURS, SB3, Bare, Wrapper, recorders
from benchmarks.report import Table, at_least, at_most, number
from benchmarks.timing import Phases, Stopwatch, fastest, ignored_by_gc
from benchmarks.workloads import WORKLOADS, write_script

_STEP_AIMS = {"cp8": 25, "cp64": 85, "cp1024": 120, "mj64": 11, "at8": 4.5, "at64": 5}
"""Times faster than imitation, a recorded step."""
_STEP_AND_POP_AIMS = {"cp8": 15, "cp64": 30, "cp1024": 45, "mj64": 7, "at8": 2.4, "at64": 4}
"""Times faster than imitation, a recorded step and its share of `pop_transitions`."""
_TRAJECTORY_AIM_NS = 100
"""Most nanoseconds a transition for `pop_trajectories`, whatever the size of the observations."""

_RECORD, _TRANSITIONS, _TRAJECTORIES = "record", "pop_transitions", "pop_trajectories"

Figures = dict[str, dict[str, float]]
"""Nanoseconds a transition: for each phase those of each contender."""


def step_table(names: list[str], runs: int) -> Table:
    """Measure what recording adds to a step.

    Args:
        names: Workloads to run.
        runs: Rounds that count.

    Returns:
        Ratios to the other recorders, then the nanoseconds.
    """
    return _step_table({name: _measured(name, runs, _record) for name in names})


def recording_tables(names: list[str], runs: int) -> list[Table]:
    """Measure what recording adds to a step, and what it costs to take the data out.

    Args:
        names: Workloads to run.
        runs: Rounds that count.

    Returns:
        What `step_table` returns, and likewise a table of popping.
    """
    measured = {name: _measured(name, runs, _record_and_pop) for name in names}
    return [_step_table(measured), _pop_table(measured)]


def _step_table(measured: Mapping[str, Figures]) -> Table:
    others = (IMITATION, SB3, CPPRB, FLOOR)
    rows = []
    for name, figures in measured.items():
        added = _added(figures)
        aims = {IMITATION: _STEP_AIMS.get(name), SB3: 1, CPPRB: 1}
        ratios = (at_least(_ratio(added, other), aims.get(other)) for other in others)
        rows.append(
            (name, *ratios, *(number(added.get(who)) for who in (OURS, *others)), number(figures[_RECORD][BARE]))
        )
    columns = ("", *(f"{other} / {OURS}" for other in others), *(f"{who} ns" for who in (OURS, *others, BARE)))
    note = (
        "What recording adds to a step: how many times as much the others cost (the aim in brackets), then "
        "nanoseconds a transition. The cost of the bare environment is subtracted."
    )
    return Table("Step", columns, rows, note)


def _pop_table(measured: Mapping[str, Figures]) -> Table:
    who = (OURS, IMITATION)
    rows = []
    for name, figures in measured.items():
        added, popped, views = _added(figures), figures[_TRANSITIONS], figures[_TRAJECTORIES]
        both = {contender: added[contender] + popped[contender] for contender in popped}
        rows.append(
            (
                name,
                at_least(_ratio(both, IMITATION), _STEP_AND_POP_AIMS.get(name)),
                at_most(views.get(OURS), _TRAJECTORY_AIM_NS),
                number(views.get(IMITATION)),
                *(number(each.get(contender)) for each in (both, popped) for contender in who),
            )
        )
    methods = (_TRAJECTORIES, f"step + {_TRANSITIONS}", _TRANSITIONS)
    columns = (
        "",
        f"step + pop_transitions, {IMITATION} / {OURS}",
        *(f"{method}, {contender} ns" for method in methods for contender in who),
    )
    note = "All that was recorded, taken out at once (the aim in brackets); nanoseconds a transition."
    return Table("Getting the data out", columns, rows, note)


def _measured(name: str, runs: int, run: Callable[[Bare], Phases]) -> Figures:
    script = write_script(WORKLOADS[name])

    def once(kind: type[Bare]) -> Callable[[], Phases]:
        return lambda: run(kind(script))

    with ignored_by_gc():
        best = fastest({contender: once(kind) for contender, kind in recorders().items()}, runs)
    phases = {phase for seconds in best.values() for phase in seconds}
    return {
        phase: {who: seconds[phase] / script.transitions * 1e9 for who, seconds in best.items() if phase in seconds}
        for phase in phases
    }


def _record(contender: Bare) -> Phases:
    watch = Stopwatch()
    contender.reset()
    with watch.phase(_RECORD):
        contender.record()
    return watch.phases


def _record_and_pop(contender: Bare) -> Phases:
    watch = Stopwatch()
    contender.reset()
    with watch.phase(_RECORD):
        contender.record()
    if not isinstance(contender, Wrapper):
        return watch.phases
    with watch.phase(_TRANSITIONS):
        transitions = contender.pop_transitions()
    _check_length(contender, len(transitions))
    del transitions
    contender.record()
    with watch.phase(_TRAJECTORIES):
        trajectories, _ = contender.pop_trajectories()
    _check_length(contender, sum(map(len, trajectories)))
    del trajectories
    return watch.phases


def _check_length(contender: Bare, length: int) -> None:
    expected = contender.script.transitions
    if length != expected:
        raise RuntimeError(f"{contender.name}: expected {expected} transitions, got {length}")


def _added(figures: Figures) -> dict[str, float]:
    bare = figures[_RECORD][BARE]
    return {who: figure - bare for who, figure in figures[_RECORD].items() if who != BARE}


def _ratio(figures: Mapping[str, float], other: str) -> float | None:
    return figures[other] / figures[OURS] if OURS in figures and other in figures else None
