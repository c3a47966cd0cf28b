"""What a recorded step costs, and what it costs to get the data out again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache

from benchmarks.baseline import COMMIT, POP_TRAJECTORIES_NS
from benchmarks.contenders import BARE, CPPRB, FLOOR, IMITATION, LIMIT, OURS, SB3, Bare, RowWrites, Wrapper, recorders
from benchmarks.options import Options, scaled
from benchmarks.report import Table, at_least, at_most, number, ratio
from benchmarks.timing import Phases, Stopwatch, fastest, ignored_by_gc
from benchmarks.workloads import WORKLOADS, Script, write_script

_FLOOR_AIMS = {"cp8": 2.5, "cp64": 3, "cp1024": 5, "mj64": 1.25, "at8": 1.1, "at64": 1.1}
"""Most times the cost of row writes, a recorded step."""
_PEER_AIMS = {"cp8": 4, "cp64": 2, "cp1024": 2.5, "mj64": 1.8, "at8": 1.8, "at64": 1.8}
"""Times quicker than the quicker of SB3 and cpprb, a recorded step."""
_IMITATION_AIMS = {"cp8": 20, "cp64": 40, "cp1024": 50}
"""Times quicker than imitation, a recorded step and its share of `pop_transitions`."""
_COPY_AIMS = dict.fromkeys(("mj64", "at8", "at64"), 1.1)
"""Most times the cost of row writes and of copies of `obs` and `next_obs`, for the same."""
_VIEW_AIMS_NS = dict.fromkeys(("mj64", "at8", "at64"), 150)
"""Most nanoseconds a transition of `pop_trajectories`, where trajectories are views."""
_EARLIER_AIMS = dict.fromkeys(("cp8", "cp64", "cp1024"), 1)
"""Most times the cost of the earlier `pop_trajectories`."""

_RECORD, _TRANSITIONS, _TRAJECTORIES = "record", "pop_transitions", "pop_trajectories"
_EARLIER = "earlier"

Figures = Mapping[str, Mapping[str, float]]
"""Nanoseconds a transition: for each phase those of each contender."""


def recording_tables(options: Options) -> list[Table]:
    """What recording adds to a step, and what it costs to take the data out."""
    measured = {name: _measured(name, options) for name in options.workloads}
    return [_step_table(measured), _pop_table(measured)]


def _step_table(measured: Mapping[str, Figures]) -> Table:
    rows = []
    for name, figures in measured.items():
        added = _added(figures)
        ours, floor, limit, imitation = (added.get(who) for who in (OURS, FLOOR, LIMIT, IMITATION))
        peer = min((added[who] for who in (SB3, CPPRB) if who in added), default=None)
        ratios = (
            at_most(ratio(ours, floor), _FLOOR_AIMS.get(name), ratio(limit, floor)),
            at_least(ratio(peer, ours), _PEER_AIMS.get(name), ratio(peer, limit)),
            number(ratio(imitation, ours)),
        )
        shown = (*(added.get(who) for who in (OURS, FLOOR, LIMIT, SB3, CPPRB, IMITATION)), figures[_RECORD][BARE])
        rows.append((name, *ratios, *map(number, shown)))
    columns = (
        *("", "x row writes", "ahead of the quicker of SB3 and cpprb", "ahead of imitation"),
        *(f"{who} ns" for who in (OURS, FLOOR, LIMIT, SB3, CPPRB, IMITATION, BARE)),
    )
    note = (
        "What recording adds to a step: ratios with their aims, then nanoseconds a transition. The cost of the bare "
        "environment is subtracted. The limit of the first two ratios is row writes that also keep references to the "
        "info dicts, which touches each dict, that copy the info and the last observation of each episode that ends, "
        "and that put the large observations of each environment behind one another, so that trajectories are views."
    )
    return Table("Step", columns, rows, note)


def _pop_table(measured: Mapping[str, Figures]) -> Table:
    rows = []
    for name, figures in measured.items():
        both = {who: _added(figures)[who] + popped for who, popped in figures[_TRANSITIONS].items()}
        ours, floor, limit, imitation = (both.get(who) for who in (OURS, FLOOR, LIMIT, IMITATION))
        views = figures.get(_TRAJECTORIES, {})
        popped, earlier = views.get(OURS), views.get(_EARLIER, POP_TRAJECTORIES_NS.get(name))
        whole, whole_earlier = (
            _added(figures)[who] + views[who] if who in views and who in figures[_RECORD] else None
            for who in (OURS, _EARLIER)
        )
        cells = (
            at_least(ratio(imitation, ours), _IMITATION_AIMS.get(name), ratio(imitation, limit)),
            at_most(ratio(ours, floor), _COPY_AIMS.get(name), ratio(limit, floor)),
            at_most(popped, _VIEW_AIMS_NS.get(name)),
            at_most(ratio(popped, earlier), _EARLIER_AIMS.get(name)),
            number(ratio(whole, whole_earlier)),
        )
        rows.append((name, *cells, *map(number, (earlier, views.get(IMITATION), ours, floor, limit, imitation))))
    both_phases = f"step + {_TRANSITIONS}"
    columns = (
        *("", f"{both_phases}, ahead of imitation", f"{both_phases}, x row writes and copies"),
        *(f"{_TRAJECTORIES} ns", f"x {COMMIT}", f"step + {_TRAJECTORIES}, x {COMMIT}"),
        *(f"{COMMIT} ns", "imitation ns"),
        *(f"{both_phases}, {who} ns" for who in (OURS, "row writes and copies", "those and infos", IMITATION)),
    )
    note = (
        "Everything that was recorded, taken out at once; nanoseconds a transition. The copies are `np.copyto` of "
        "`obs` and `next_obs`. The limit of the first two ratios is the limit of a step, with these copies and an "
        "array of the info dicts. `17f2fdd` copied a finished episode in its last step already, so its "
        "`pop_trajectories` had less to do, and its steps more."
    )
    return Table("Getting the data out", columns, rows, note)


def _measured(name: str, options: Options) -> dict[str, dict[str, float]]:
    script = _script(name, options.is_quick)

    def once(kind: type[Bare]) -> Callable[[], Phases]:
        return lambda: _record_and_pop(kind(script))

    contenders = {who: once(kind) for who, kind in recorders().items()}
    if options.baseline:
        contenders[_EARLIER] = options.baseline.contender(record_and_pop_ours, name, options.is_quick)
    with ignored_by_gc():
        best = fastest(contenders, options.runs)
    return {
        phase: {who: each[phase] / script.transitions * 1e9 for who, each in best.items() if phase in each}
        for phase in (_RECORD, _TRANSITIONS, _TRAJECTORIES)
    }


def record_and_pop_ours(name: str, is_quick: bool) -> Phases:
    """One run of this package's recorder on a workload."""
    return _record_and_pop(recorders()[OURS](_script(name, is_quick)))


@lru_cache(maxsize=1)
def _script(name: str, is_quick: bool) -> Script:
    workload = WORKLOADS[name]
    return write_script(workload, scaled(workload.steps, is_quick))


def _record_and_pop(contender: Bare) -> Phases:
    watch = Stopwatch()
    contender.reset()
    with watch.phase(_RECORD):
        contender.record()
    if isinstance(contender, Wrapper | RowWrites):
        with watch.phase(_TRANSITIONS):
            transitions = contender.pop_transitions()
        _check_length(contender, len(transitions))
        del transitions
    if isinstance(contender, Wrapper):
        contender.record()
        with watch.phase(_TRAJECTORIES):
            trajectories, _ = contender.pop_trajectories()
        _check_length(contender, sum(map(len, trajectories)))
        del trajectories
    return watch.phases


def _check_length(contender: Bare, length: int) -> None:
    expected = contender.script.transitions
    if isinstance(contender, Wrapper) and length != expected:
        raise RuntimeError(f"{contender.name}: expected {expected} transitions, got {length}")


def _added(figures: Figures) -> dict[str, float]:
    bare = figures[_RECORD][BARE]
    return {who: figure - bare for who, figure in figures[_RECORD].items() if who != BARE}
