"""The look that the report and the viewer share."""

from __future__ import annotations

from pathlib import Path

THEME = Path(__file__).parent / "theme.css"
"""Colors, type and tables."""
