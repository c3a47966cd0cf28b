"""Traces for the tests of the viewer and of the report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vecrollout import Episode, TraceWriter, TrajectoryWithRew

HOSTILE = "<img src=x onerror=\"document.title='broken in'\"></script><script>document.title='broken in'</script>"


def episode(number: int, steps: int, **fields: Any) -> TrajectoryWithRew:
    """Rewards of 1, observations that count, an image, and outputs of a policy."""
    rows = np.arange(steps + 1)
    image = np.zeros((steps + 1, 12, 16, 3), np.uint8)
    image[rows, :, :, 0] = rows[:, None, None] % 256
    ended_by = "truncated" if number % 4 == 3 else "terminated"
    given = {
        "obs": {"camera": image, "position": np.stack([rows, -rows], axis=1).astype(np.float32)},
        "acts": rows[:-1] % 3,
        "infos": [{"policy_value": float(at) / 2, "note": f"at {at}"} for at in range(steps)],
        "terminal": True,
        "terminated": ended_by == "terminated",
        "rews": np.ones(steps),
        "episode": Episode(number, number % 2, seed=100 + number, ended_by=ended_by, recording="recorded"),  # type: ignore[arg-type]
    }
    return TrajectoryWithRew(**{**given, **fields})


def write(directory: Path, written: Sequence[TrajectoryWithRew], **options: Any) -> Path:
    with TraceWriter(directory, **options) as writer:
        for each in written:
            writer.append(each, metadata={"note": HOSTILE if each.episode.id == 2 else f"number {each.episode.id}"})
    return directory
