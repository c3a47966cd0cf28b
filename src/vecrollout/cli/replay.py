"""`vecrollout replay`."""

from __future__ import annotations

from typing import Annotated

import typer

from vecrollout.cli.look import opened
from vecrollout.cli.options import AsJson, Episodes, Trace, Where, examples, named_values
from vecrollout.cli.outcomes import FAILED
from vecrollout.cli.selecting import chosen
from vecrollout.cli.terminal import busy, say, say_json
from vecrollout.errors import OptionError
from vecrollout.progress import with_progress

_SHOWN = 20

Env = Annotated[
    str | None,
    typer.Option(metavar="ENV", help="Id of the environment, or MODULE:FUNCTION that makes it. Default: the trace's."),
]
EnvArg = Annotated[
    list[str] | None, typer.Option("--env-arg", metavar="NAME=VALUE", help="Argument of gymnasium.make.")
]


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        epilog=examples("vecrollout replay cartpole", "vecrollout replay cartpole --episodes 0-9 --tolerance 1e-6")
    )(replay)


def replay(
    path: Trace,
    where: Where = None,
    episodes: Episodes = None,
    env: Env = None,
    env_arg: EnvArg = None,
    tolerance: Annotated[float, typer.Option(min=0.0, help="By how much numbers may differ.")] = 0.0,
    as_json: AsJson = False,
) -> None:
    """Run recorded actions in a live environment with the recorded seeds, and name the first step that differs.

    Exit code 1 if a step differs, or an episode cannot be replayed. `record` keeps a seed for each episode. Of other
    traces, an episode that began by an autoreset needs all episodes of its environment before it.
    """
    with busy("Loading the environment"):
        from vecrollout.cli.live import Replay, maker_of

        traces = opened(path)
        numbers = chosen(traces, where, episodes).order.positions().tolist()
    if not numbers:
        raise OptionError(f"{path}: expected at least one trajectory to replay, got none")
    arguments = named_values("env-arg", env_arg or ())
    replayed = Replay(traces, lambda about: maker_of(about, env, arguments, None), tolerance)
    lengths = traces.lengths
    total = int(lengths[numbers].sum())
    run = with_progress(replayed.run(set(numbers)), lambda outcome: int(lengths[outcome.number]), None, "steps", total)
    outcomes = sorted(run, key=lambda outcome: outcome.number)
    failed = [outcome for outcome in outcomes if not outcome.is_same]
    if as_json:
        found = [{"episode": each.number, "step": each.step, "what": each.what} for each in failed]
        say_json({"replayed": len(outcomes), "same": len(outcomes) - len(failed), "failed": found})
    else:
        for each in failed[:_SHOWN]:
            at = "" if each.step is None else f"step {each.step}: "
            say(f"episode {each.number}: {at}{each.what}")
        if len(failed) > _SHOWN:
            say(f"and {len(failed) - _SHOWN:,} more")
        say(f"{len(outcomes) - len(failed):,} of {len(outcomes):,} trajectories are the same")
    if failed:
        raise typer.Exit(FAILED)
