"""What the end of an episode costs, in plain steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from benchmarks.contenders import BARE, IMITATION, OURS, Bare, wrappers
from benchmarks.options import Options
from benchmarks.report import Table, at_most, number
from benchmarks.timing import Phases, Stopwatch, fastest, ignored_by_gc
from benchmarks.workloads import WORKLOADS, Script, write_script

_WORKLOADS = ("cp8 short", "cp64 short", "at8")
_EPISODE_STEPS = 22
_ENDLESS = 10**9
_AIM = 2.0


def ending_table(options: Options) -> Table:
    """What an ended episode adds to a step, for short episodes beside episodes that never end."""
    rows = []
    for name in _WORKLOADS:
        steps = options.scaled(WORKLOADS[name].steps, least=2 * _EPISODE_STEPS)
        short, endless = (
            write_script(replace(WORKLOADS[name], episode_length=length), steps)
            for length in (_EPISODE_STEPS, _ENDLESS)
        )
        endings = sum(int(dones.sum()) for _, _, dones, _ in short.steps)
        best = _measured({"short": short, "endless": endless}, options.runs)
        for who in (OURS, IMITATION):
            if (who, "short") not in best:
                continue
            added = {kind: best[who, kind] - best[BARE, kind] for kind in ("short", "endless")}
            plain, ending = added["endless"] / steps, (added["short"] - added["endless"]) / endings
            cell = at_most(ending / plain, _AIM if who == OURS else None)
            rows.append((name.removesuffix(" short"), who, cell, number(ending * 1e6), number(plain * 1e6)))
    note = (
        f"What an episode of {_EPISODE_STEPS} steps costs at its end, beyond what its last step costs like any other: "
        "in plain steps of all environments (with the aim), then in microseconds."
    )
    return Table("Ends of episodes", ("", "", "plain steps", "an end, us", "a plain step, us"), rows, note)


def _measured(scripts: dict[str, Script], runs: int) -> dict[tuple[str, str], float]:
    def once(kind: type[Bare], script: Script) -> Callable[[], Phases]:
        return lambda: _record(kind(script))

    contenders = {
        f"{who}/{name}": once(kind, script) for who, kind in wrappers().items() for name, script in scripts.items()
    }
    with ignored_by_gc():
        best = fastest(contenders, runs)
    return {(who, name): best[f"{who}/{name}"]["record"] for who in wrappers() for name in scripts}


def _record(contender: Bare) -> Phases:
    watch = Stopwatch()
    contender.reset()
    with watch.phase("record"):
        contender.record()
    return watch.phases
