"""`vecrollout ls`, `info` and `stats`."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from vecrollout.cli.options import AsJson, Trace, Where, examples
from vecrollout.cli.selecting import chosen
from vecrollout.cli.terminal import busy, say, say_facts, say_json, say_table
from vecrollout.data.sizes import size_text
from vecrollout.errors import OptionError, TraceNotFoundError
from vecrollout.storage.dataset import TraceDataset, open_traces
from vecrollout.storage.describing import stats_of
from vecrollout.storage.files.names import is_of_trace

_COLUMNS = ("number", "env", "start_step", "length", "return_", "ended_by", "seed")
_HIDDEN = ("recording", "id", "writer", "terminated", "truncated", "recorded_with")


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(
        "ls", epilog=examples("vecrollout ls", 'vecrollout ls cartpole --where "return_ > 100" --sort return_')
    )(list_traces)
    app.command("info", epilog=examples("vecrollout info cartpole"))(info)
    app.command("stats", epilog=examples("vecrollout stats cartpole --json", "vecrollout stats cartpole --by policy"))(
        stats
    )


def list_traces(
    path: Annotated[str, typer.Argument(metavar="DIR", help="A directory of traces, or one with such below.")] = ".",
    where: Where = None,
    sort: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Sort episodes by a column, largest first.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many episodes to list.")] = 20,
    as_json: AsJson = False,
) -> None:
    """List the episodes of a trace; of a directory without a trace, the traces below it."""
    if "://" not in path and not _is_trace(Path(path).expanduser()):
        _list_below(Path(path).expanduser(), as_json)
        return
    with busy("Reading the table of episodes"):
        traces = opened(path)
        numbered = traces.table.add_column(0, "number", [list(range(len(traces)))])
        if where is not None:
            numbered = numbered.take(chosen(traces, where, None).order.positions())
        if sort is not None:
            if sort not in numbered.column_names:
                raise OptionError(f"sort: expected one of {numbered.column_names}, got {sort!r}")
            numbered = numbered.sort_by([(sort, "descending")])
    shown = numbered.slice(0, limit)
    if as_json:
        say_json(shown.to_pylist())
        return
    names = [*_COLUMNS, *(name for name in shown.column_names if name not in (*_COLUMNS, *_HIDDEN))]
    say_table(names, zip(*(shown.column(name).to_pylist() for name in names), strict=True))
    if len(shown) < len(numbered):
        say(f"{len(shown):,} of {len(numbered):,} trajectories; --limit shows more")


def info(path: Trace, as_json: AsJson = False) -> None:
    """Show what is known about a trace: environment, spaces, metadata, versions, size."""
    with busy("Reading the table of episodes"):
        traces = opened(path)
        found = [_about(each) for each in traces.order.abouts.values()]
        summary = traces.summary()
    if as_json:
        say_json({"path": str(path), "trajectories": len(traces), "steps": traces.total_steps, "writers": found})
        return
    first, *others = _distinct(found) or [{}]
    for about in ({"path": traces.path, **first}, *others):
        shown = {name: _text(value) for name, value in about.items() if value not in (None, {}, "")}
        say_facts(shown, width=len("trajectories"))  # as in the summary below
    for line in summary.splitlines():
        say(line)


def stats(
    path: Trace,
    where: Where = None,
    by: Annotated[str | None, typer.Option(metavar="COLUMN", help="One row for each value of a column.")] = None,
    fragments: Annotated[bool, typer.Option("--fragments", help="Count fragments of episodes, too.")] = False,
    as_json: AsJson = False,
) -> None:
    """Returns, lengths and endings of whole episodes. Exit code 1 if there is none."""
    with busy("Reading the table of episodes"):
        traces = opened(path)
        table = chosen(traces if fragments else traces.whole_episodes(), where, None).table
    groups = {"all": table} if by is None else dict(_grouped(table, by))
    found = {name: _row(group) for name, group in groups.items() if len(group)}
    if as_json:
        say_json(found["all"] if by is None and found else found)
    elif found and by is None:
        say_table(("", "mean", "std", "min", "max"), _spreads(found["all"]))
        say_facts({"episodes": f"{found['all']['n_traj']:,}", "ended by": _counted(found["all"]["ended_by"])})
    elif found:
        names = ("n_traj", "return_mean", "return_std", "return_min", "return_max", "len_mean")
        rows = [[group, *(row.get(name) for name in names), _counted(row["ended_by"])] for group, row in found.items()]
        say_table((by or "", "episodes", *names[1:], "ended by"), rows)
    if not found:
        if not as_json:
            say(
                f"no whole episodes in {len(traces):,} trajectories; --fragments counts them"
                if len(traces)
                else "empty"
            )
        raise typer.Exit(1)


def opened(path: str) -> TraceDataset:
    """The data set in a directory."""
    check_is_trace(path)
    return open_traces(path)


def check_is_trace(path: str) -> None:
    """Refuse a local directory that holds other files only; traces near it are named."""
    if "://" in path:
        return
    directory = Path(path).expanduser()
    if not directory.is_dir():
        raise TraceNotFoundError(f"{path}: expected a directory of traces, got no such directory{_near(directory)}")
    if any(directory.iterdir()) and not _is_trace(directory):
        raise TraceNotFoundError(f"{path}: expected a directory of traces, got one without any{_near(directory)}")


def _near(directory: Path) -> str:
    """Traces in or beside a directory that is none."""
    place = directory if directory.is_dir() else directory.parent
    found = [str(each) for each, _ in zip(_traces_below(place, depth=1), range(3), strict=False)]
    return f"; traces are in {', '.join(found)}" if found else ""


def _is_trace(directory: Path) -> bool:
    if not directory.is_dir():
        raise TraceNotFoundError(f"{directory}: expected a directory of traces, got none")
    return any(map(is_of_trace, os.listdir(directory)))


def _traces_below(directory: Path, depth: int = 3) -> Iterator[Path]:
    try:
        names = sorted(os.listdir(directory))
    except OSError:
        return
    if any(map(is_of_trace, names)):
        yield directory
    elif depth:
        for name in names:
            below = directory / name
            if not name.startswith(".") and below.is_dir() and not below.is_symlink():
                yield from _traces_below(below, depth - 1)


def _list_below(directory: Path, as_json: bool) -> None:
    rows: list[dict[str, Any]] = []
    with busy("Looking for traces"):
        for place in _traces_below(directory):
            traces = open_traces(place)
            metadata = traces.metadata
            rows.append(
                {
                    "trace": str(place),
                    "trajectories": len(traces),
                    "steps": traces.total_steps,
                    "size": round(float(traces.order.sizes.sum())),
                    "environment": metadata.get("env_id") or _env_id(_about_first(traces)),
                    "policy": metadata.get("policy"),
                }
            )
    if as_json:
        say_json(rows)
    elif rows:
        say_table(
            list(rows[0]), [[*list(row.values())[:3], size_text(row["size"]), *list(row.values())[4:]] for row in rows]
        )
    else:
        say(f"no traces in {directory} or below; make one: vecrollout record CartPole-v1 --episodes 10 --out cartpole")


def _about_first(traces: TraceDataset) -> Any:
    return traces.about(0)["env_spec"] if len(traces) else None


def _env_id(spec: Any) -> Any:
    try:
        return json.loads(spec)["id"]
    except (ValueError, TypeError, KeyError):
        return spec


def _about(about: dict[str, Any]) -> dict[str, Any]:
    spaces = about["spaces"] or (None, None)
    return {
        "environment": _env_id(about["env_spec"]),
        "observations": None if spaces[0] is None else str(spaces[0]),
        "actions": None if spaces[1] is None else str(spaces[1]),
        "metadata": about["metadata"],
        "versions": about["versions"],
        "compression": about["compression"],
    }


def _distinct(abouts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return list({repr(each): each for each in abouts}.values())


def _text(value: Any) -> str:
    if not isinstance(value, dict):
        return str(value)
    told = {name: f"({_text(each)})" if isinstance(each, dict) else str(each) for name, each in value.items()}
    return ", ".join(f"{name}: {text}" for name, text in told.items() if text not in ("None", "()"))


def _grouped(table: Any, by: str) -> Iterator[tuple[str, Any]]:
    if by not in table.column_names:
        raise OptionError(f"by: expected one of {table.column_names}, got {by!r}")
    numbers: dict[Any, list[int]] = {}
    for number, value in enumerate(table.column(by).to_pylist()):
        numbers.setdefault(value, []).append(number)
    for value, members in numbers.items():
        yield str(value), table.take(members)


def _row(table: Any) -> dict[str, Any]:
    endings = Counter(each or "not ended" for each in table.column("ended_by").to_pylist())
    return {**stats_of(table), "ended_by": dict(endings.most_common())}


def _spreads(row: dict[str, Any]) -> list[list[Any]]:
    named = {"return": "return", "length": "len"}
    return [
        [name, *(row.get(f"{key}_{statistic}") for statistic in ("mean", "std", "min", "max"))]
        for name, key in named.items()
        if f"{key}_mean" in row
    ]


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items())
