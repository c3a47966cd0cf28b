"""Charts as SVG without a script. Colors are those of the style sheet around them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape

WIDTH, HEIGHT = 560, 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 18, 10, 26
_TICKS = 5

Scale = Callable[[float], float]


def scatter(
    numbers: Sequence[float], values: Sequence[float], trend: Sequence[tuple[float, float]], *, label: str
) -> str:
    """Points, and a line through them."""
    x = _scale(_range(numbers), _LEFT + 4, WIDTH - _RIGHT - 4)
    low, high = _range(values)
    y = _scale((low, high), HEIGHT - _BOTTOM - 4, _TOP)
    points = "".join(
        f'<circle cx="{x(number):.1f}" cy="{y(value):.1f}" r="2"/>'
        for number, value in zip(numbers, values, strict=True)
    )
    line = " ".join(f"{x(number):.1f},{y(value):.1f}" for number, value in trend)
    drawn = f'<g class="points">{points}</g><polyline class="line" points="{line}"/>'
    return _chart(_axes(x, y, _range(numbers), (low, high)) + drawn, label)


def histogram(edges: Sequence[float], counts: Sequence[int], *, label: str) -> str:
    """A bar for each interval."""
    x = _scale((edges[0], edges[-1]), _LEFT, WIDTH - _RIGHT)
    y = _scale((0, max(counts)), HEIGHT - _BOTTOM, _TOP)
    bars = "".join(
        f'<rect x="{x(left) + 0.75:.1f}" y="{y(count):.1f}" width="{max(x(right) - x(left) - 1.5, 1):.1f}" '
        f'height="{y(0) - y(count):.1f}" rx="1"><title>{tick(left)} to {tick(right)}: {count:,}</title></rect>'
        for left, right, count in zip(edges, edges[1:], counts, strict=False)
        if count
    )
    return _chart(_axes(x, y, (edges[0], edges[-1]), (0, max(counts))) + f'<g class="bars">{bars}</g>', label)


def tick(value: float) -> str:
    """A number on an axis."""
    return f"{value:,.0f}" if value == round(value) and abs(value) < 1e9 else f"{value:,.4g}"


def ticks(low: float, high: float) -> list[float]:
    """Round numbers in a range, at equal distances."""
    if not high > low:
        return [low]
    rough = (high - low) / _TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(number * step, 12) + 0.0 for number in range(first, last + 1)]


def _range(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _scale(values: tuple[float, float], begin: float, end: float) -> Scale:
    low, high = values
    width = high - low or 1
    return lambda value: begin + (value - low) / width * (end - begin)


def _axes(x: Scale, y: Scale, across: tuple[float, float], up: tuple[float, float]) -> str:
    lines = "".join(
        f'<line x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y(value):.1f}" y2="{y(value):.1f}"/>' for value in ticks(*up)
    )
    left = "".join(f'<text x="{_LEFT - 8}" y="{y(value) + 4:.1f}">{tick(value)}</text>' for value in ticks(*up))
    below = "".join(f'<text x="{x(value):.1f}" y="{HEIGHT - 6}">{tick(value)}</text>' for value in ticks(*across))
    return f'<g class="grid">{lines}</g><g class="left">{left}</g><g class="below">{below}</g>'


def _chart(content: str, label: str) -> str:
    return f'<svg class="plot" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(label)}">{content}</svg>'
