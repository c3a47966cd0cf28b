"""Settings of the whole suite."""

from __future__ import annotations

from pathlib import Path

from hypothesis import settings

# No time limit an example: a busy machine must not fail a test. All else as Hypothesis has it, which on a CI machine
# means the same examples in every run.
settings.register_profile("vecrollout", settings.default, deadline=None)
settings.load_profile("vecrollout")


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Leaves scripts and plugins alone, which `--doctest-modules` would import to look for doctests."""
    return True if collection_path.suffix == ".py" and not collection_path.name.startswith("test_") else None
