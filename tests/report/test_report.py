"""The report: one file that needs nothing else."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vecrollout import Episode, TraceWriter, TrajectoryWithRew, open_traces
from vecrollout.errors import OptionError, TraceNotFoundError
from vecrollout.report import write_report
from vecrollout.report.svg import ticks
from vecrollout.report.theme import THEME
from vecrollout.report.thinning import thinned, trend

HOSTILE = "</style><script>alert('in')</script><img src=x onerror=alert(1)>"


def write(directory: Path, lengths: list[int], **options: Any) -> Path:
    with TraceWriter(directory, **options) as writer:
        for number, steps in enumerate(lengths):
            acts, rews = np.zeros(steps, np.int64), np.ones(steps)
            told = Episode(number, number % 3, ended_by="terminated", recording="r")
            obs = np.arange(2.0 * (steps + 1)).reshape(-1, 2)
            writer.append(TrajectoryWithRew(obs, acts, None, True, rews=rews, episode=told))
    return directory


class Elements(HTMLParser):
    """Tags and attributes, and whether each tag is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "link", "br", "img"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_a_report(tmp_path: Path) -> None:
    write(tmp_path / "trace", [3, 5, 8, 4, 3, 5, 4, 5, 90], env_spec='{"id": "Some-v0"}')
    report = write_report(tmp_path / "trace", tmp_path / "report.html")
    found = Elements(report.read_text("utf-8"))
    assert found.open == []
    assert {"Some-v0", "Outliers", "obs[1]", "terminated"} <= {text.strip() for text in found.texts}
    assert sum(tag == "svg" for tag, _ in found.tags) == 4
    assert sum(tag == "circle" for tag, _ in found.tags) == 2 * 9
    assert list(tmp_path.glob(".*")) == []


def test_it_loads_and_runs_nothing(tmp_path: Path) -> None:
    write(tmp_path / "trace", [3, 5], env_spec=HOSTILE, metadata={HOSTILE: 1})
    text = write_report(tmp_path / "trace", tmp_path / "report.html").read_text("utf-8")
    found = Elements(text)
    assert not {"script", "img", "link", "iframe", "object"} & {tag for tag, _ in found.tags}
    assert not [name for _, attributes in found.tags for name in attributes if name.startswith(("on", "src", "href"))]
    (policy,) = [each["content"] for tag, each in found.tags if each.get("http-equiv") == "Content-Security-Policy"]
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    assert "url(" not in text
    assert HOSTILE in "".join(found.texts)


def test_it_stays_small(tmp_path: Path) -> None:
    write(tmp_path / "trace", [1 + number % 7 for number in range(5000)])
    assert write_report(tmp_path / "trace", tmp_path / "report.html").stat().st_size < 400_000


def test_an_empty_trace(tmp_path: Path) -> None:
    (tmp_path / "trace").mkdir()
    assert "No episodes" in write_report(tmp_path / "trace", tmp_path / "report.html").read_text("utf-8")


def test_one_episode_and_no_rewards(tmp_path: Path) -> None:
    from vecrollout import Trajectory

    with TraceWriter(tmp_path / "trace") as writer:
        writer.append(Trajectory(np.zeros((2, 1)), np.zeros(1), None, True))
    assert "1 steps" not in write_report(tmp_path / "trace", tmp_path / "report.html").read_text("utf-8")


def test_no_trace(tmp_path: Path) -> None:
    with pytest.raises(TraceNotFoundError):
        write_report(tmp_path / "nothing", tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


def test_a_path_that_cannot_be_written(tmp_path: Path) -> None:
    write(tmp_path / "trace", [3])
    for output in (tmp_path, tmp_path / "missing" / "report.html", tmp_path / "\0"):
        with pytest.raises(OptionError, match="output: expected a file that can be written"):
            write_report(tmp_path / "trace", output)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 500, [0, 100, 200, 300, 400, 500]),
        (-1, 1, [-1, -0.5, 0, 0.5, 1]),
        (0.01, 0.02, [0.01, 0.012, 0.014, 0.016, 0.018, 0.02]),
        (3, 3, [3]),
    ],
)
def test_ticks_are_round(low: float, high: float, expected: list[float]) -> None:
    assert ticks(low, high) == pytest.approx(expected)


def test_thinning_keeps_peaks() -> None:
    values = np.zeros(10_001)
    values[[17, 5000, 10_000]] = 9, -9, 5
    values[100:200] = np.nan
    numbers = thinned(values, 100)
    assert {17, 5000, 10_000} <= set(numbers.tolist())
    assert len(numbers) <= 100
    assert (np.diff(numbers) > 0).all()
    assert thinned(values[:100], 100).tolist() == list(range(100))


def test_the_trend_is_a_mean() -> None:
    assert trend(np.array([1.0, np.nan, 3.0]), 10) == [(0, 2.0), (1, 2.0), (2, 2.0)]
    assert trend(np.array([]), 10) == []


# WCAG 2.2, level AA: 4.5 for text, 3 for what tells controls and graphics apart.
TEXT = [
    *((color, ground) for color in ("ink", "muted", "accent") for ground in ("ground", "surface")),
    *(("ink", ground) for ground in ("raised", "tint")),
    ("on-accent", "accent"),
    ("surface", "ink"),
]
GRAPHICS = [
    *(("control", ground) for ground in ("ground", "surface")),
    *((name, "surface") for name in ("accent", "terminated", "truncated", "reset_early", "closed", "not-ended")),
]


def luminance(color: str) -> float:
    channels = [int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [each / 12.92 if each <= 0.04045 else ((each + 0.055) / 1.055) ** 2.4 for each in channels]
    return sum(share * each for share, each in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize(("theme", "number"), [("light", 0), ("dark", 1)])
def test_the_palette_has_contrast(theme: str, number: int) -> None:
    found = re.findall(r"--([\w-]+): light-dark\((#[0-9a-f]{6}), (#[0-9a-f]{6})\)", THEME.read_text("utf-8"))
    palette = {name: colors[number] for name, *colors in found}
    for least, pairs in ((4.5, TEXT), (3, GRAPHICS)):
        for front, back in pairs:
            dark, light = sorted(luminance(palette[name]) for name in (front, back))
            assert (light + 0.05) / (dark + 0.05) >= least, (theme, front, back)


def test_a_data_set_in_a_notebook(tmp_path: Path) -> None:
    traces = open_traces(write(tmp_path / "<script>", [3, 5, 8]))
    found = Elements(traces._repr_html_())
    assert found.open == []
    assert [tag for tag, _ in found.tags if tag in ("script", "svg")] == ["svg"]
    assert any("<script>" in text for text in found.texts)
    assert {"steps", "16"} <= set(found.texts)
    assert "svg" not in open_traces(tmp_path / "<script>")[:1]._repr_html_()


def test_a_trajectory_in_a_notebook() -> None:
    rows = np.arange(4.0)
    trajectory = TrajectoryWithRew(
        {"<b>": rows}, rows[1:], None, True, rews=rows[1:], episode=Episode(7, ended_by=None)
    )  # type: ignore[arg-type]
    found = Elements(trajectory._repr_html_())
    assert found.open == []
    assert "b" not in {tag for tag, _ in found.tags}
    assert {"TrajectoryWithRew of 3 steps", "7", "6"} <= set(found.texts)
