"""The page of a report: HTML with the style sheet and SVG in it, without a script."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from vecrollout._version import __version__
from vecrollout.data.sizes import size_text
from vecrollout.report.svg import histogram, scatter, tick
from vecrollout.report.theme import THEME

_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_STYLE = """
svg.plot { width: 100%; height: auto; display: block; font-family: var(--sans); }
.plot text { font-size: 11px; fill: var(--muted); text-anchor: middle; }
.plot .left text { text-anchor: end; }
.plot .grid line { stroke: var(--line); }
.plot .points circle { fill: var(--control); opacity: 0.5; }
.plot .line { fill: none; stroke: var(--accent); stroke-width: 2.25; stroke-linejoin: round; }
.plot .bars rect { fill: var(--accent); }
.page > header .muted { overflow-wrap: anywhere; }
footer { border-top: 1px solid var(--line); padding-top: 1rem; }
@media print { .card { break-inside: avoid; } }
"""

_ENDINGS = {"reset_early": "reset early", "closed": "recorder closed", "not ended": "goes on"}
_STATISTICS = ("min", "mean", "median", "max", "std")


def page(overview: dict[str, Any], columns: dict[str, Any]) -> str:
    """The HTML of a report of an `overview` and `columns_of`. All text of the trace is escaped."""
    title = overview["env_spec"] or "Trace"
    sections = [_facts(overview), *(_with_episodes(overview, columns) if overview["trajectories"] else [_nothing()])]
    head = [
        '<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(title)} · vecrollout</title>",
        f"<style>{THEME.read_text('utf-8')}{_STYLE}</style>",
    ]
    body = [
        f"<header><h1>{escape(title)}</h1>",
        f'<p class="muted small">{escape(overview["name"])}</p>',
        f'<p class="muted small">{_spaces(overview)}</p></header>',
        *sections,
        f'<footer class="muted small">Made by vecrollout {escape(__version__)}.</footer>',
    ]
    parts = [
        '<html lang="en">',
        "<head>",
        *head,
        "</head>",
        "<body>",
        '<main class="page">',
        *body,
        "</main>",
        "</body>",
    ]
    return "\n".join(["<!doctype html>", *parts, "</html>", ""])


def _with_episodes(overview: dict[str, Any], columns: dict[str, Any]) -> Iterable[str]:
    yield _card("How episodes ended", _endings(overview))
    plots = []
    for name, curve in overview["over_recording"].items():
        if curve["number"]:
            trend = list(zip(curve["trend_number"], curve["trend"], strict=True))
            drawn = scatter(curve["number"], curve["value"], trend, label=f"{name} of each episode, and its trend")
            shown = "extremes and trend" if curve["is_thinned"] else "each, and trend"
            note = f"{overview['counted']}; {shown}"
            plots.append(_card(f"{name.capitalize()} over the recording", drawn, note))
    for name, bins in overview["distributions"].items():
        if bins["counts"]:
            drawn = histogram(bins["edges"], bins["counts"], label=f"Distribution of the {name}")
            plots.append(_card(f"Distribution of {name}s", drawn, overview["counted"]))
    yield f'<div class="columns">{"".join(plots)}</div>'
    yield (
        f'<div class="columns">{_card("Outliers", _outliers(overview), "farthest from the middle half first")}'
        f"{_card('Environments', _environments(overview))}</div>"
    )
    note = f"steps: a sample of {columns['sampled']:,}" if columns["sampled"] else columns["reason"] or ""
    yield _card("Columns", _columns(overview, columns), note)


def _nothing() -> str:
    return _card("No episodes", '<p class="muted">The trace holds no episode that has ended.</p>')


def _card(title: str, content: str, note: str = "") -> str:
    noted = f'<span class="muted">{escape(note)}</span>' if note else ""
    return f'<section class="card"><header><h2>{escape(title)}</h2>{noted}</header>{content}</section>'


def _spaces(overview: dict[str, Any]) -> str:
    parts = {"Observations": overview["observation_space"], "actions": overview["action_space"]}
    return " · ".join(f"{name}: {escape(space)}" for name, space in parts.items() if space)


def _facts(overview: dict[str, Any]) -> str:
    returns, lengths = overview["statistics"]
    steps, size = overview["steps"], overview["bytes"]
    facts = [("Episodes", f"{overview['trajectories']:,}", ""), ("Steps", f"{steps:,}", "")]
    for name, row in (("Mean return", returns), ("Mean length", lengths)):
        if row["mean"] is not None:
            facts.append((name, f"{row['mean']:,.1f}", f"± {row['std']:,.1f}"))
    if overview["environments"]:
        facts.append(("Environments", f"{len(overview['environments']):,}", ""))
    facts.append(("On disk", size_text(size), f"{size / max(steps, 1):,.1f} bytes a step"))
    cells = "".join(
        f"<div><dt>{name}</dt><dd>{value}{f'<small>{small}</small>' if small else ''}</dd></div>"
        for name, value, small in facts
    )
    return f'<section class="card"><dl class="facts">{cells}</dl></section>'


def _endings(overview: dict[str, Any]) -> str:
    total = overview["trajectories"]
    bar = "".join(
        f'<span class="{_class(each["name"])}" style="width: calc({100 * each["count"] / total:.3f}% - 2px)"></span>'
        for each in overview["endings"]
    )
    items = "".join(
        f'<li><span class="swatch {_class(each["name"])}"></span>{_ending(each["name"])} <b>{each["count"]:,}</b> '
        f'<span class="muted">{100 * each["count"] / total:.1f} %</span></li>'
        for each in overview["endings"]
    )
    return f'<div class="endings-bar" aria-hidden="true">{bar}</div><ul class="endings-list">{items}</ul>'


def _class(ending: str) -> str:
    return escape(ending.replace(" ", "-"))


def _ending(name: str) -> str:
    return escape(_ENDINGS.get(name, name))


def _outliers(overview: dict[str, Any]) -> str:
    rows = [
        [
            f"{each['number']:,}",
            each["quantity"],
            *(_number(each[name]) for name in ("value", "median")),
            f"{each['distance']:.1f}",
        ]
        for each in overview["outliers"]
    ]
    if not rows:
        return '<p class="muted small">No return or length lies far from the others.</p>'
    return _table(["Episode", "Quantity", "Value", "Median", "Distance"], rows, texts=2)


def _environments(overview: dict[str, Any]) -> str:
    rows = [
        [
            *(f"{each[name]:,}" for name in ("env", "trajectories", "steps")),
            *(_number(each[name], 1) for name in ("length_mean", "return_mean")),
        ]
        for each in overview["environments"]
    ]
    if not rows:
        return '<p class="muted small">The trace does not say which environment an episode is of.</p>'
    return _table(["Environment", "Episodes", "Steps", "Mean length", "Mean return"], rows, texts=1)


def _columns(overview: dict[str, Any], columns: dict[str, Any]) -> str:
    rows = [
        [each["column"], *(_number(each[name]) for name in _STATISTICS), f"{each['missing']:,}"]
        for each in (*overview["statistics"], *columns["episodes"], *columns["steps"])
    ]
    return _table(["Column", *(name.capitalize() for name in _STATISTICS), "Missing"], rows, texts=1)


def _number(value: float | None, digits: int | None = None) -> str:
    if value is None:
        return "-"
    return f"{value:,.{digits}f}" if digits is not None else tick(value)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], texts: int) -> str:
    """A table whose first columns are text."""
    kinds = [' class="text"' if number < texts else "" for number in range(len(head))]
    top = "".join(f"<th{kind}>{escape(name)}</th>" for kind, name in zip(kinds, head, strict=True))
    body = "".join(
        f"<tr>{''.join(f'<td{kind}>{escape(cell)}</td>' for kind, cell in zip(kinds, row, strict=True))}</tr>"
        for row in rows
    )
    return f'<div class="scroll"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'
