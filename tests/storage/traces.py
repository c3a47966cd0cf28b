"""What the tests of traces share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from vecrollout import Episode, TraceWriter, Trajectory, TrajectoryWithRew
from vecrollout.testing import SPACES, assert_same, batch_of


def assert_same_trajectory(actual: Trajectory, expected: Trajectory) -> None:
    assert type(actual) is type(expected)
    assert type(actual.obs) is type(expected.obs)
    for name in ("obs", "acts", "terminal", "terminated", "truncated"):
        assert_same(getattr(actual, name), getattr(expected, name), name)
    assert_same(getattr(actual, "rews", 0), getattr(expected, "rews", 0), "rews")
    assert (actual.infos is None) == (expected.infos is None)
    if actual.infos is not None and expected.infos is not None:
        assert_same(list(actual.infos), list(expected.infos), "infos")
    for field in fields(Episode):
        assert_same(getattr(actual.episode, field.name), getattr(expected.episode, field.name), field.name)


def alike(drawn: list[TrajectoryWithRew]) -> list[TrajectoryWithRew]:
    """The trajectories with rewards of one dtype, and ids in order, as those of a recording have them."""
    for i, each in enumerate(drawn):
        with np.errstate(all="ignore"):
            object.__setattr__(each, "rews", each.rews.astype(drawn[0].rews.dtype))
        object.__setattr__(each.episode, "id", i)
    return drawn


def of_space(name: str, steps: int, number: int = 0, **fields: Any) -> TrajectoryWithRew:
    numbers = [(number + i) % 256 for i in range(steps + 1)]
    return TrajectoryWithRew(
        obs=batch_of(SPACES[name], numbers),
        acts=batch_of(SPACES[name], numbers[:-1]),
        infos=fields.pop("infos", None),
        terminal=fields.pop("terminal", True),
        rews=np.arange(steps) / 3,
        **{"episode": Episode(number, number % 3, seed=fields.pop("seed", None), ended_by="terminated"), **fields},
    )


def write(directory: Path | str, written: Sequence[Trajectory], *, flush: bool = False, **options: Any) -> None:
    """Write trajectories, all at once or each in a batch of its own."""
    with TraceWriter(directory, **options) as writer:
        for each in written:
            writer.append(each)
            if flush:
                writer.flush()
