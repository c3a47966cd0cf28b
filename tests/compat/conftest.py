"""Fixtures for tests with the real imitation, which the gate installs beside the oldest and the newest versions."""

from __future__ import annotations

import importlib.metadata

import pytest


@pytest.fixture(scope="session")
def imitation_installed() -> None:
    """Skips the test where imitation 1.0.1 is not installed."""
    try:
        version = importlib.metadata.version("imitation")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("imitation is not installed")
    if version != "1.0.1":
        pytest.skip(f"imitation 1.0.1 is not installed, but {version}")
