"""Some trajectories of a batch beside the same of a plain list."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vecrollout import Episode, Trajectory, TrajectoryBatch, TrajectoryWithRew
from vecrollout.errors import ArgumentTypeError, OptionError


def made(number: int, steps: int) -> Any:
    obs = {"t": np.arange(steps + 1), "x": np.full((steps + 1, 2), number)}
    episode = Episode(id=number // 2, env_index=number % 3, start_step=number % 2, recording="r")
    infos = np.array([{"t": t} for t in range(steps)])
    return TrajectoryWithRew(
        obs, np.arange(steps) + number, infos, number % 2 == 0, rews=np.full(steps, number * 0.5), episode=episode
    )


PLAIN = [made(number, steps) for number, steps in enumerate((3, 1, 4, 1, 5, 9, 2))]
BATCH = TrajectoryBatch.from_trajectories(PLAIN)


def check(batch: TrajectoryBatch, expected: list[Any]) -> None:
    assert isinstance(batch, TrajectoryBatch)
    assert list(batch) == expected
    assert [each.episode for each in batch] == [each.episode for each in expected]
    assert batch.lengths.tolist() == list(map(len, expected))
    assert batch.total_steps == len(batch.acts) == len(batch.infos)  # type: ignore[arg-type]
    if expected:
        again = TrajectoryBatch.from_trajectories(expected)
        assert batch == again
        assert batch.transitions() == again.transitions()
        assert copy.deepcopy(batch) == again
        assert batch.steps()[:] == again.steps()[:]
        assert TrajectoryBatch.concatenate([batch, BATCH]) == TrajectoryBatch.from_trajectories([*expected, *PLAIN])


@given(st.data())
def test_keys(data: st.DataObject) -> None:
    bound = st.none() | st.integers(-9, 9)
    key = slice(data.draw(bound), data.draw(bound), data.draw(st.sampled_from([1, 2, -1, -2])))
    check(BATCH[key], PLAIN[key])
    numbers = data.draw(st.lists(st.integers(-7, 6)))
    check(BATCH[numbers], [PLAIN[i] for i in numbers])
    check(BATCH[key].select(slice(1, None)), PLAIN[key][1:])
    mask = data.draw(st.lists(st.booleans(), min_size=7, max_size=7))
    check(BATCH[np.array(mask)], [each for each, keep in zip(PLAIN, mask, strict=True) if keep])


def test_filter_and_sort() -> None:
    check(BATCH.filter(lambda each: len(each) > 2), [each for each in PLAIN if len(each) > 2])
    for name, key in (
        ("return_", lambda each: each.rews.sum()),
        ("length", len),
        ("terminated", lambda each: each.terminated),
        ("env", lambda each: each.episode.env_index),
        ("id", lambda each: each.episode.id),
    ):
        for descending in (False, True):
            check(BATCH.sort_by(name, descending=descending), sorted(PLAIN, key=key, reverse=descending))
    # Values that are not there come last.
    check(BATCH.sort_by("seed"), PLAIN)
    plain = Trajectory(np.zeros(2), np.zeros(1), None, False)
    assert len(TrajectoryBatch.from_trajectories([plain]).sort_by("return_")) == 1


def test_split_keeps_fragments_together() -> None:
    parts = BATCH.split({"a": 0.5, "b": 0.5}, np.random.default_rng(1))
    ids = [{each.id for each in part.episodes} for part in parts.values()]
    assert ids[0].isdisjoint(ids[1])
    assert sum(map(len, parts.values())) == 7
    assert {len(each) for each in ids} == {2}


def test_wrong_arguments() -> None:
    for key in ("a", 1.5, None, (1, 2), np.ones(3, bool)):
        with pytest.raises(ArgumentTypeError):
            BATCH[key]  # type: ignore[call-overload]
    for number in (7, -8, [0, 7]):
        with pytest.raises(IndexError):
            BATCH[number]  # type: ignore[index]
    with pytest.raises(ArgumentTypeError, match="condition"):
        BATCH.filter(3)  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="column"):
        BATCH.sort_by("reset_info")
    with pytest.raises(OptionError, match="fractions"):
        BATCH.split({"a": 0.4}, np.random.default_rng(0))
