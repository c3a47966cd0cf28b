"""Numbers of bytes as text."""

from __future__ import annotations

import pytest

from vecrollout.data.sizes import size_text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1.0 kB"),
        (12_345, "12.3 kB"),
        (1e6, "1.0 MB"),
        (3.25e9, "3.2 GB"),
        (4.5e12, "4,500.0 GB"),
    ],
)
def test_units(count: float, text: str) -> None:
    assert size_text(count) == text
