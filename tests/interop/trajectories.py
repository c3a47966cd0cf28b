"""Trajectories to convert."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces as kinds
from hypothesis import strategies as st

from vecrollout import Trajectory, TrajectoryWithRew
from vecrollout.testing import assert_same
from vecrollout.testing import strategies as ours


def episode(steps: int, seed: int = 0, **flags: bool) -> TrajectoryWithRew:
    """An episode of CartPole's shapes; by default it terminates."""
    generator = np.random.default_rng(seed)
    flags = {"terminated": not flags, "truncated": False} | flags
    return TrajectoryWithRew(
        obs=generator.normal(size=(steps + 1, 4)).astype(np.float32),
        acts=generator.integers(0, 2, steps),
        rews=generator.normal(size=steps).astype(np.float32),
        infos=None,
        terminal=any(flags.values()),
        **flags,
    )


def endings() -> list[TrajectoryWithRew]:
    """One of each way to end, and a fragment."""
    ways: list[dict[str, bool]] = [
        {"terminated": True},
        {"truncated": True},
        {"terminated": True, "truncated": True},
        {"terminated": False},
    ]
    return [episode(2 + seed, seed, **way) for seed, way in enumerate(ways)]


def assert_equal(found: Trajectory, expected: Trajectory, *, dtypes: bool = True, flags: bool = True) -> None:
    """Bits, dtypes and flags; infos and identities aside."""
    for name in ("obs", "acts", "rews"):
        if dtypes:
            assert_same(getattr(found, name), getattr(expected, name), name)
        else:
            np.testing.assert_equal(unwrapped(getattr(found, name)), unwrapped(getattr(expected, name)))
    for name in ("terminal", "terminated", "truncated") if flags else ():
        assert getattr(found, name) == getattr(expected, name), name


def unwrapped(tree: Any) -> Any:
    return tree.unwrap() if hasattr(tree, "unwrap") else tree


@st.composite
def alike(draw: st.DrawFn, obs_spaces: Any, act_spaces: Any) -> tuple[tuple[Any, Any], list[TrajectoryWithRew]]:
    """Spaces, and trajectories of them."""
    spaces = draw(obs_spaces), draw(act_spaces)
    dtype = draw(st.sampled_from((np.float32, np.float64)))
    found = draw(st.lists(ours.trajectories(*spaces), min_size=1, max_size=4))
    with np.errstate(over="ignore"):
        return spaces, [with_rews(each, each.rews.astype(dtype)) for each in found]


def with_rews(trajectory: TrajectoryWithRew, rews: Any) -> TrajectoryWithRew:
    return type(trajectory)(**{**vars(trajectory), "rews": rews})


def without_empty(space: Any) -> bool:
    """Whether no array of a space is without elements."""
    if isinstance(space, kinds.Dict):
        return all(map(without_empty, space.spaces.values()))
    if isinstance(space, kinds.Tuple):
        return all(map(without_empty, space.spaces))
    return 0 not in (space.shape or ())
