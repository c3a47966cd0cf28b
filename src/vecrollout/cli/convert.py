"""`vecrollout convert`."""

from __future__ import annotations

import dataclasses
import json
from typing import Annotated, Any

import typer

from vecrollout.cli import formats
from vecrollout.cli.look import check_is_trace
from vecrollout.cli.options import AsJson, Episodes, Where, examples
from vecrollout.cli.outcomes import INTERRUPTED
from vecrollout.cli.selecting import chosen
from vecrollout.cli.terminal import busy, note, say, say_json
from vecrollout.errors import OptionError

_NAMES = ", ".join(formats.FORMATS)


def _matching(incomplete: str) -> list[str]:
    return [name for name in formats.FORMATS if name.startswith(incomplete)]


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        epilog=examples(
            "vecrollout convert cartpole --to parquet --out cartpole.parquet",
            "vecrollout convert cartpole --to lerobot --fps 50 --out lerobot/cartpole",
            "vecrollout convert ~/.minari/datasets/cartpole/random-v0 --from minari --to trace --out from_minari",
        )
    )(convert)


def convert(
    path: Annotated[str, typer.Argument(metavar="PATH", help="A directory of traces, or what --from says.")],
    target: Annotated[str, typer.Option("--to", metavar="FORMAT", help=f"One of {_NAMES}.", autocompletion=_matching)],
    out: Annotated[str, typer.Option("--out", "-o", metavar="PATH", help="The new file or directory.")],
    source: Annotated[
        str, typer.Option("--from", metavar="FORMAT", help="Format of PATH.", autocompletion=_matching)
    ] = "trace",
    where: Where = None,
    episodes: Episodes = None,
    fps: Annotated[int | None, typer.Option(min=1, help="Steps a second, for lerobot.")] = None,
    task: Annotated[str | None, typer.Option(help="What the robot is to do, for lerobot.")] = None,
    robot_type: Annotated[str | None, typer.Option("--robot-type", help="For lerobot.")] = None,
    dataset_id: Annotated[
        str | None, typer.Option("--dataset-id", help="For minari, such as cartpole/mine-v0.")
    ] = None,
    env_args: Annotated[str | None, typer.Option("--env-args", metavar="JSON", help="For robomimic.")] = None,
    form: Annotated[str | None, typer.Option(help="columns or episodes, for rllib.")] = None,
    final: Annotated[str | None, typer.Option(help="append or drop: last observations of episodes.")] = None,
    compression: Annotated[str | None, typer.Option(help="Codec, for parquet.")] = None,
    compressed: Annotated[bool | None, typer.Option("--compressed", help="For npz.")] = None,
    drop_last: Annotated[
        bool | None, typer.Option("--drop-last", help="Reading: leave out steps without a next observation.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Convert a trace to another library's format, or that library's data to a trace.

    The result appears when it is complete. What the format cannot hold is counted. Reading sb3 unpickles the file.
    """
    given = {
        "fps": fps,
        "task": task,
        "robot_type": robot_type,
        "dataset_id": dataset_id,
        "env_args": None if env_args is None else _document(env_args),
        "form": form,
        "final": final,
        "compression": compression,
        "compressed": compressed,
        "drop_last": drop_last,
    }
    options = {name: value for name, value in given.items() if value is not None}
    formats.check_options(source, target, options)
    try:
        report = _converted(path, source, target, out, where, episodes, options)
    except KeyboardInterrupt:
        note(f"vecrollout: interrupted; nothing was written to {out}, and {path} is as it was")
        raise typer.Exit(INTERRUPTED) from None
    if as_json:
        say_json({**dataclasses.asdict(report), "is_lossless": report.is_lossless})
    else:
        say(f"{out}: {repr(report)[len('<ConversionReport ') : -1]}")


def _converted(
    path: str,
    source: str,
    target: str,
    out: str,
    where: str | None,
    episodes: str | None,
    options: dict[str, Any],
) -> Any:
    with busy(f"Opening {path}"):
        if source == "trace":
            check_is_trace(path)
        data = formats.read(source, path, options)
        if source == "trace":
            data = chosen(data, where, episodes)
        elif where is not None or episodes is not None:
            raise OptionError("where, episodes: expected with --from trace only; convert to a trace first")
    if not len(data):
        raise OptionError(f"{path}: expected at least one trajectory, got none; there is nothing to convert")
    return formats.write(target, data, out, options)


def _document(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise OptionError(f"env-args: expected JSON, got {text!r}: {error}") from error
