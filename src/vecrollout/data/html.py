"""A small table with a sparkline, as notebooks show trajectories and data sets."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

import numpy as np
import numpy.typing as npt

_WIDTH, _HEIGHT, _POINTS = 240, 32, 120


def card(title: str, rows: Mapping[str, object], values: npt.ArrayLike, values_name: str) -> str:
    """A title, a table of names and values, and a curve. None is left out, and all text is escaped."""
    cells = [(escape(name), escape(str(value))) for name, value in rows.items() if value is not None]
    curve = sparkline(values)
    if curve:
        cells.append((escape(values_name), curve))
    left = 'style="text-align: left; font-weight: 400"'
    body = "".join(f"<tr><th {left}>{name}</th><td {left}>{content}</td></tr>" for name, content in cells)
    return (
        f'<div style="font-variant-numeric: tabular-nums"><strong>{escape(title)}</strong>'
        f'<table style="margin: 0.25em 0"><tbody>{body}</tbody></table></div>'
    )


def sparkline(values: npt.ArrayLike) -> str:
    """A curve as SVG, as high as two lines of text; empty without two finite values. Many are averaged."""
    array = np.asarray(values, np.float64).ravel()
    array = array[np.isfinite(array)]
    if len(array) < 2:
        return ""
    if len(array) > _POINTS:
        edges = np.linspace(0, len(array), _POINTS + 1).astype(np.int64)
        array = np.add.reduceat(array, edges[:-1]) / np.diff(edges)
    low, high = float(array.min()), float(array.max())
    share = (array - low) / (high - low) if high - low > 0 else np.full(len(array), 0.5)
    x = np.linspace(1, _WIDTH - 1, len(array))
    y = _HEIGHT - 3 - share * (_HEIGHT - 6)
    points = " ".join(f"{across:.1f},{down:.1f}" for across, down in zip(x.tolist(), y.tolist(), strict=True))
    return (
        f'<svg width="{_WIDTH}" height="{_HEIGHT}" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="from {low:.6g} to {high:.6g}"><polyline points="{points}" fill="none" stroke="currentColor" '
        'stroke-width="1.5" stroke-linejoin="round"/></svg>'
    )
