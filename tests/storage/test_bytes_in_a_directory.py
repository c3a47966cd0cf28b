"""The number of bytes that a line on a terminal shows while something is recorded."""

from __future__ import annotations

import time
from pathlib import Path

from vecrollout.storage.files.usage import DiskUsage


def test_a_directory_that_is_away(tmp_path: Path) -> None:
    """The line shows what was there before."""
    directory = tmp_path / "mounted"
    directory.mkdir()
    (directory / "shard").write_bytes(bytes(100))
    stored = DiskUsage(directory)
    assert stored.bytes() == 100
    directory.rename(tmp_path / "elsewhere")
    time.sleep(0.3)
    assert stored.bytes() == 100
    (tmp_path / "elsewhere").rename(directory)
    (directory / "other").write_bytes(bytes(50))
    time.sleep(0.3)
    assert stored.bytes() == 150
    assert DiskUsage("s3://bucket/prefix").bytes() is None
