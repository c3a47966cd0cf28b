"""`vecrollout verify` and `repair`."""

from __future__ import annotations

import typer

from vecrollout.cli.look import check_is_trace
from vecrollout.cli.options import AsJson, Trace, examples
from vecrollout.cli.outcomes import FAILED
from vecrollout.cli.terminal import say, say_json, say_table
from vecrollout.storage.reading.repair import repair_traces
from vecrollout.storage.reading.verify import verify_traces


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(epilog=examples("vecrollout verify cartpole"))(verify)
    app.command(epilog=examples("vecrollout repair cartpole"))(repair)


def verify(path: Trace, as_json: AsJson = False) -> None:
    """Read everything in a trace and compare it with its checksums. Exit code 1 if there is damage."""
    check_is_trace(path)
    report = verify_traces(path, progress=None)
    problems = [{"file": each.file, "place": each.place, "problem": each.what} for each in report.problems]
    if as_json:
        say_json({"trajectories": report.trajectories, "problems": problems, "leftovers": report.leftovers})
    else:
        if problems:
            say_table(list(problems[0]), [list(each.values()) for each in problems])
        for name in report.leftovers:
            say(f"{name}: left by a process that was killed, or is at work")
        found = f"{len(problems)} problems; `vecrollout repair` keeps what is sound" if problems else "no damage"
        say(f"{report.trajectories:,} sound trajectories, {found}")
    if problems:
        raise typer.Exit(FAILED)


def repair(path: Trace, as_json: AsJson = False) -> None:
    """Keep everything sound in a damaged trace, and finish the files of killed writers. No writer may be at work."""
    check_is_trace(path)
    report = repair_traces(path, progress=None)
    changes = [{"file": each.file, "place": each.place, "done": each.what} for each in report.changes]
    if as_json:
        say_json({"trajectories": report.trajectories, "changes": changes})
        return
    if changes:
        say_table(list(changes[0]), [list(each.values()) for each in changes])
    say(f"{report.trajectories:,} trajectories{'' if changes else ', nothing to repair'}")
