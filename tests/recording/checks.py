"""Comparing what was recorded with what a scenario says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from vecrollout.testing import Recorded, Scenario


def run(venv: Any, scenario: Scenario, start: int, stop: int) -> None:
    for call in range(start, stop):
        venv.step(scenario.actions(call))


def assert_recorded(
    trajectories: Sequence[Any], expected: Sequence[Recorded], reward_dtype: type[np.floating] = np.float32
) -> None:
    assert [len(each) for each in trajectories] == [len(each) for each in expected]
    for trajectory, recorded in zip(trajectories, expected, strict=True):
        recorded.assert_recorded_as(trajectory, reward_dtype=reward_dtype, sees_both=False)
