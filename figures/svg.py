"""Drawings that are readable in light and dark pages, and on a phone."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from itertools import pairwise

# A picture in an `img` element cannot take the page's colors. It has its own background and follows `color-scheme`.
_STYLE = """
:root { --paper: #fff; --ink: #1c2230; --soft: #5a6373; --line: #aeb6c4; --obs: #d5e4fd; --act: #fde4c4;
  --rew: #d3f0da; --end: #f9d3d9; --rest: #eceff4; --accent: #2456d6;
  --a: #2456d6; --b: #8f98a8; --c: #c77700; --d: #1f8a5b }
@media (prefers-color-scheme: dark) { :root { --paper: #16181f; --ink: #e8ebf2; --soft: #a3adbf; --line: #596276;
  --obs: #203f75; --act: #6b4312; --rew: #1d5431; --end: #702735; --rest: #2a2f3a; --accent: #8fb2ff;
  --a: #8fb2ff; --b: #6d778a; --c: #f0b45c; --d: #63cf9d } }
text { font-family: system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; fill: var(--ink) }
.soft { fill: var(--soft) }
.code { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, monospace }
""".strip()


class Drawing:
    """Shapes on a canvas; lengths are in pixels of a canvas that a phone shows at about its own size.

    Args:
        width: Width of the canvas.
        height: Height of the canvas.
        title: What the picture shows, for readers who do not see it.
    """

    def __init__(self, width: int, height: int, title: str) -> None:
        self.width, self.height, self._title = width, height, title
        self._shapes: list[str] = []

    def text(
        self,
        x: float,
        y: float,
        text: str,
        *,
        size: int = 13,
        anchor: str = "middle",
        kind: str = "",
        bold: bool = False,
    ) -> None:
        """Write one line, its baseline at `y`."""
        weight = ' font-weight="600"' if bold else ""
        self._shapes.append(
            f'<text x="{x:g}" y="{y:g}" font-size="{size}" text-anchor="{anchor}"{_class(kind)}{weight}>'
            f"{escape(text)}</text>"
        )

    def box(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        *lines: str,
        fill: str = "rest",
        size: int = 13,
        kind: str = "",
        dashed: bool = False,
        border: str = "line",
    ) -> None:
        """Draw a rectangle around lines of text; the first of several is bold."""
        dash = ' stroke-dasharray="4 3"' if dashed else ""
        self._shapes.append(
            f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="4" '
            f'style="fill: var(--{fill}); stroke: var(--{border})"{dash}/>'
        )
        top = y + height / 2 - (len(lines) - 1) * (size + 4) / 2 + size * 0.36
        for number, line in enumerate(lines):
            is_title = number == 0 and len(lines) > 1
            self.text(
                x + width / 2,
                top + number * (size + 4),
                line,
                size=size if number == 0 else size - 1,
                kind=kind if number == 0 else "soft",
                bold=is_title,
            )

    def bar(self, x: float, y: float, width: float, height: float, color: str) -> None:
        """Draw a filled rectangle without a border."""
        self._shapes.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" style="fill: var(--{color})"/>'
        )

    def dots(self, points: Sequence[tuple[float, float]], color: str, *, radius: float = 1.6) -> None:
        """Draw translucent dots."""
        circles = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}"/>' for x, y in points)
        self._shapes.append(f'<g style="fill: var(--{color})" opacity="0.45">{circles}</g>')

    def line(self, *points: tuple[float, float], color: str = "line", width: float = 1, dashed: bool = False) -> None:
        """Draw a line through points."""
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        dash = ' stroke-dasharray="4 3"' if dashed else ""
        self._shapes.append(
            f'<polyline points="{path}" style="fill: none; stroke: var(--{color})" stroke-width="{width:g}"{dash}/>'
        )

    def arrow(self, *points: tuple[float, float], color: str = "soft") -> None:
        """Draw a line through points, with a head at the last one."""
        self.line(*points, color=color, width=1.4)
        (x0, y0), (x, y) = list(pairwise(points))[-1]
        length = max(abs(x - x0), abs(y - y0))
        dx, dy = (x - x0) / length, (y - y0) / length
        left, right = (x - 7 * dx - 4 * dy, y - 7 * dy + 4 * dx), (x - 7 * dx + 4 * dy, y - 7 * dy - 4 * dx)
        head = " ".join(f"{px:.1f},{py:.1f}" for px, py in ((x, y), left, right))
        self._shapes.append(f'<polygon points="{head}" style="fill: var(--{color})"/>')

    def svg(self) -> str:
        """The picture as the text of a file."""
        shapes = "\n".join(self._shapes)
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {self.height}" width="{self.width}" '
            f'height="{self.height}" role="img">\n<title>{escape(self._title)}</title>\n<style>\n{_STYLE}\n</style>\n'
            f'<rect width="100%" height="100%" rx="6" style="fill: var(--paper)"/>\n{shapes}\n</svg>\n'
        )


def _class(kind: str) -> str:
    return f' class="{kind}"' if kind else ""
