"""Ways to choose and to cut trajectories, and what they come to in a plain list."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import strategies as st

from vecrollout import TrajectoryWithRew


@st.composite
def choices(draw: st.DrawFn, count: int) -> tuple[Any, list[int]]:
    """A slice, a list of numbers or a mask, of so many items, and the numbers of the items that it chooses."""
    kind = draw(st.sampled_from(["slice", "list", "mask"]))
    if kind == "slice":
        bounds = st.integers(-count - 1, count + 1) | st.none()
        key = slice(draw(bounds), draw(bounds), draw(st.sampled_from([1, 2, -1, -3])))
        return key, [*range(count)][key]
    if kind == "list":
        numbers = draw(st.lists(st.integers(-count, count - 1), max_size=8)) if count else []
        return numbers, [range(count)[number] for number in numbers]
    mask = draw(st.lists(st.booleans(), min_size=count, max_size=count))
    return np.array(mask, bool), [number for number, is_chosen in enumerate(mask) if is_chosen]


def cut_as(trajectory: Any, start: int, stop: int | None) -> Any:
    """The steps of a slice, by definition; None if there are none."""
    begin, end, _ = slice(start, stop).indices(len(trajectory))
    if begin >= end:
        return None
    is_end, episode = end == len(trajectory), trajectory.episode
    return TrajectoryWithRew(
        trajectory.obs[begin : end + 1],
        trajectory.acts[begin:end],
        None if trajectory.infos is None else trajectory.infos[begin:end],
        trajectory.terminal and is_end,
        rews=trajectory.rews[begin:end],
        terminated=trajectory.terminated and is_end,
        truncated=trajectory.truncated and is_end,
        episode=replace(episode, start_step=episode.start_step + begin, ended_by=episode.ended_by if is_end else None),
    )
