"""Charts for the documentation, drawn from the tables of README.md."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from figures.svg import Drawing

FOLDER = Path(__file__).parents[1] / "docs" / "images" / "benchmarks"

_COLORS = ("a", "c", "d", "b")
_LEFT, _RIGHT, _BAR, _GAP = 104.0, 352.0, 13.0, 12.0


@dataclass(frozen=True)
class Chart:
    """Bars for some columns of a table: a group for each row, a bar for each column."""

    table: str
    columns: Mapping[str, str]
    """The label of each column that is drawn."""
    title: str
    unit: str
    is_logarithmic: bool = False
    rows: Sequence[str] = field(default=())
    """Rows by their first cells joined with a space; all if empty."""


CHARTS = {
    "step": Chart(
        "Step",
        {"vecrollout ns": "vecrollout", "SB3 ns": "SB3", "cpprb ns": "cpprb", "imitation ns": "imitation"},
        "What recording adds to a step",
        "ns a transition",
        is_logarithmic=True,
    ),
    "retrieval": Chart(
        "Getting the data out",
        {
            "step + pop_transitions, vecrollout ns": "vecrollout",
            "step + pop_transitions, imitation ns": "imitation",
            "step + pop_transitions, row writes and copies ns": "plain row writes and copies",
        },
        "Record steps and pop them as transitions",
        "ns a transition",
        is_logarithmic=True,
    ),
    "memory": Chart(
        "Peak memory over raw data",
        {
            "recorded": "recorded",
            "trajectories popped": "trajectories popped",
            "transitions popped": "transitions popped",
        },
        "Peak memory",
        "multiples of the raw data",
        rows=(
            "cp64 vecrollout",
            "cp64 imitation",
            "at8 vecrollout",
            "at8 imitation",
            "at64 vecrollout",
            "at64 imitation",
        ),
    ),
    "writing": Chart(
        "Writing ready trajectories",
        {"vecrollout MB/s": "vecrollout", "pyarrow MB/s": "bare pyarrow"},
        "Write trajectories to disk",
        "MB/s; more is better",
        is_logarithmic=True,
    ),
    "reading": Chart(
        "Scanning traces",
        {"us an episode": "batches()", "trajectories, us an episode": "one trajectory at a time"},
        "Read a whole trace",
        "us an episode",
        is_logarithmic=True,
    ),
    "single": Chart(
        "Single environments",
        {"vecrollout us": "vecrollout", "Minari us": "Minari", "rows and pyarrow us": "the limit"},
        "Record one environment to disk",
        "us a step",
    ),
}


def draw(readme: str) -> dict[str, str]:
    """Draw the charts whose tables a README has: the text of an SVG file for each name."""
    tables = _tables(readme)
    return {name: _bars(chart, tables[chart.table]).svg() for name, chart in CHARTS.items() if chart.table in tables}


def measured_on(readme: str) -> str:
    """When and where the figures of a README were measured, as Markdown."""
    found = re.search(r"^Measured on .*?(?=\n\n## )", readme, re.DOTALL | re.MULTILINE)
    return found[0] if found else ""


def _tables(readme: str) -> dict[str, list[dict[str, str]]]:
    """The tables by their titles, a dict for each row; first cells without a column's name are joined as `""`."""
    tables = {}
    for title, body in re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", readme, re.DOTALL | re.MULTILINE):
        lines = [line for line in body.splitlines() if line.startswith("|")]
        if len(lines) < 3:
            continue
        header, _, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)
        labels = next((number for number, name in enumerate(header) if name and name != "compression"), 1)
        tables[title] = [
            {"": " ".join(filter(None, row[:labels]))} | dict(zip(header[labels:], row[labels:], strict=True))
            for row in rows
        ]
    return tables


def _value(cell: str) -> float | None:
    """The figure that a cell begins with; None where it is missing, or rounded to zero."""
    number = re.match(r"[\d.]+", cell)
    return float(number[0]) or None if number else None


def _bars(chart: Chart, table: list[dict[str, str]]) -> Drawing:
    rows = [row for row in table if not chart.rows or row[""] in chart.rows]
    values = [[_value(row.get(column, "-")) for column in chart.columns] for row in rows]
    known = [value for row in values for value in row if value is not None]
    lowest = 10.0 ** math.floor(math.log10(min(known))) if chart.is_logarithmic else 0.0
    legend = 58 + 17 * math.ceil(len(chart.columns) / 2)
    group = _BAR * len(chart.columns) + _GAP
    picture = Drawing(400, round(legend + group * len(rows) + 12), chart.title)
    scale = ", logarithmic scale" if chart.is_logarithmic else ""
    picture.text(12, 22, chart.title, anchor="start", bold=True)
    picture.text(12, 39, chart.unit + scale, anchor="start", size=12, kind="soft")
    for number, label in enumerate(chart.columns.values()):
        x, y = 12 + 190 * (number % 2), 50 + 17 * (number // 2)
        picture.bar(x, y, 11, 11, _COLORS[number])
        picture.text(x + 17, y + 10, label, anchor="start", size=12)

    def length(value: float) -> float:
        if chart.is_logarithmic:
            return (_RIGHT - _LEFT) * math.log10(value / lowest) / math.log10(max(known) / lowest)
        return (_RIGHT - _LEFT) * value / max(known)

    for row, (cells, group_values) in enumerate(zip(rows, values, strict=True)):
        top = legend + group * row
        middle = top + _BAR * len(chart.columns) / 2
        first, *others = _label(cells[""])
        picture.text(_LEFT - 8, middle + (4 if not others else -3), first, anchor="end", size=12)
        for other in others:
            picture.text(_LEFT - 8, middle + 12, other, anchor="end", size=11, kind="soft")
        for number, value in enumerate(group_values):
            y = top + _BAR * number
            if value is None:
                picture.text(_LEFT + 4, y + 10, "not measured", anchor="start", size=11, kind="soft")
                continue
            picture.bar(_LEFT, y + 1, max(length(value), 1.0), _BAR - 2, _COLORS[number])
            picture.text(_LEFT + length(value) + 4, y + 10.5, f"{value:g}", anchor="start", size=11, kind="soft")
    return picture


def _label(text: str) -> list[str]:
    """A row's label on one line, or on two where it is long."""
    if len(text) <= 10:
        return [text]
    head, _, tail = text.partition(", ") if ", " in text else text.partition(" ")
    return [head, tail]
