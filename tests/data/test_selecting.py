"""The verbs of a batch beside the same of a plain list, wherever the batch's columns lie."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pyarrow.compute as pc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from choices import choices, cut_as
from vecrollout import (
    Episode,
    TraceWriter,
    Trajectory,
    TrajectoryBatch,
    TrajectoryWithRew,
    VectorBufferingWrapper,
    open_traces,
)
from vecrollout.errors import ArgumentTypeError, DtypeError, OptionError, ShapeError, StructureError
from vecrollout.testing import SPACES, assert_same, batch_of

ENDINGS: tuple[Any, ...] = ("terminated", None, "truncated", "closed")


def made(number: int, steps: int) -> Any:
    obs = {"t": np.arange(steps + 1), "x": np.full((steps + 1, 2), number)}
    ended_by = ENDINGS[number % 4]
    return TrajectoryWithRew(
        obs,
        np.arange(steps) + number,
        np.array([{"t": t} for t in range(steps)]),
        ended_by in ("terminated", "truncated"),
        rews=np.arange(steps) * 0.5 + number,
        terminated=ended_by == "terminated",
        truncated=ended_by == "truncated",
        episode=Episode(id=number // 2, env_index=number % 3, start_step=number % 2, recording="r", ended_by=ended_by),
    )


PLAIN = [made(number, steps) for number, steps in enumerate((3, 1, 4, 1, 5, 9, 2))]
BATCH = TrajectoryBatch.from_trajectories(PLAIN)


class Batches(list[TrajectoryBatch]):
    """A sink that keeps batches as a recorder hands them over."""

    def extend(self, delivered: Any) -> None:
        super().append(delivered)


def recorded() -> TrajectoryBatch:
    """A batch whose rows lie in a recorder's log."""
    sink = Batches()
    venv = VectorBufferingWrapper(gym.vector.SyncVectorEnv([lambda: gym.make("CartPole-v1")] * 3), sink=sink)
    venv.reset(seed=0)
    venv.action_space.seed(0)
    for _ in range(70):
        venv.step(venv.action_space.sample())
    venv.close()
    return TrajectoryBatch.concatenate(sink)


@pytest.fixture(scope="module", params=["arrays", "recorded", "traces"])
def source(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> TrajectoryBatch:
    if request.param == "arrays":
        return BATCH
    if request.param == "recorded":
        return recorded()
    path = tmp_path_factory.mktemp("traces")
    with TraceWriter(path) as writer:
        writer.extend(BATCH)
    (batch,) = open_traces(path).batches()
    return batch


def check(batch: TrajectoryBatch, expected: list[Any]) -> None:
    assert isinstance(batch, TrajectoryBatch)
    assert list(batch) == expected
    assert [each.episode for each in batch] == [each.episode for each in expected]
    assert list(batch.episodes) == [each.episode for each in expected]
    assert batch.lengths.tolist() == list(map(len, expected))
    assert batch.total_steps == len(batch.acts)
    for name in ("terminated", "truncated"):
        assert getattr(batch, name).tolist() == [getattr(each, name) for each in expected]
    if expected:
        again = TrajectoryBatch.from_trajectories(expected)
        assert batch == again
        assert batch.transitions() == again.transitions()
        assert copy.deepcopy(batch) == again
        assert batch.steps()[:] == again.steps()[:]
        assert batch.part(0, 1) == again.part(0, 1)
        assert TrajectoryBatch.concatenate([batch, batch]) == TrajectoryBatch.from_trajectories([*expected, *expected])


def doubled(trajectory: Any) -> Any:
    return trajectory.rews * 2 + len(trajectory)


CONDITIONS: dict[str, tuple[Any, Callable[[Any], Any]]] = {
    "length": (pc.field("length") > 3, lambda each: len(each) > 3),
    "return_": (pc.field("return_") < 9, lambda each: each.rews.sum(dtype=float) < 9),
    "terminated": (~pc.field("terminated"), lambda each: not each.terminated),
    "truncated": (pc.field("truncated"), lambda each: each.truncated),
    "ended_by": (pc.field("ended_by").isin(["closed", "truncated"]), lambda each: each.episode.ended_by in ENDINGS[2:]),
    "no end": (pc.field("ended_by").is_null(), lambda each: each.episode.ended_by is None),
    "env": (pc.field("env") == 1, lambda each: each.episode.env_index == 1),
    "seed": (pc.field("seed").is_valid(), lambda each: each.episode.seed is not None),
    "recording": (pc.field("recording") != "r", lambda each: each.episode.recording != "r"),
    "id": (pc.field("id") >= 2, lambda each: each.episode.id >= 2),
    "start_step": (pc.field("start_step") > 0, lambda each: each.episode.start_step > 0),
    "two": (
        (pc.field("length") > 2) & (pc.field("env") == 1),
        lambda each: len(each) > 2 and each.episode.env_index == 1,
    ),
}
VERBS = ["choose", "sort", "filter", "expression", "trim", "concat", "relabel"]


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_chain_of_verbs(source: TrajectoryBatch, data: st.DataObject) -> None:
    batch, expected = source, list[Any](source)
    for _ in range(data.draw(st.integers(1, 5), "verbs")):
        verb, count = data.draw(st.sampled_from(VERBS)), len(expected)
        if verb == "choose":
            key, numbers = data.draw(choices(count))
            batch, expected = batch[key], [expected[i] for i in numbers]
        elif verb == "sort":
            descending = data.draw(st.booleans())
            batch = batch.sort_by("return_", descending=descending)
            expected = sorted(expected, key=lambda each: float(each.rews.sum(dtype=float)), reverse=descending)
        elif verb in ("filter", "expression"):
            expression, predicate = CONDITIONS[data.draw(st.sampled_from(sorted(CONDITIONS)))]
            batch = batch.filter(predicate if verb == "filter" else expression)
            expected = [each for each in expected if predicate(each)]
        elif verb == "trim":
            start, stop = data.draw(st.integers(-6, 6)), data.draw(st.integers(-6, 12) | st.none())
            batch = batch.trim(start, stop)
            expected = [part for each in expected if (part := cut_as(each, start, stop)) is not None]
        elif verb == "concat":
            batch, expected = batch.concat(batch[:2], source[-1:]), [*expected, *expected[:2], source[-1]]
        else:
            batch, expected = batch.relabel(rews=doubled), [replace(each, rews=doubled(each)) for each in expected]
    check(batch, expected)


@pytest.mark.parametrize("name", CONDITIONS)
def test_each_condition(source: TrajectoryBatch, name: str) -> None:
    expression, predicate = CONDITIONS[name]
    check(source.filter(expression), [each for each in source if predicate(each)])


def test_data_sets_do_the_same(tmp_path: Path) -> None:
    """A batch, and a data set that was written from it."""
    batch = recorded()
    with TraceWriter(tmp_path) as writer:
        writer.extend(batch)
    traces = open_traces(tmp_path)
    batch = TrajectoryBatch.from_trajectories(traces)  # in the order of the data set
    for verb in (
        lambda given: given.trim(2, -1),
        lambda given: given.relabel(rews=doubled).sort_by("return_"),
        lambda given: given.concat(given[::2], given[:1]),
        lambda given: given.trim(-3).filter(pc.field("start_step") > 8),
        lambda given: given.split({"a": 0.3, "b": 0.7}, np.random.default_rng(0))["b"],
    ):
        view = verb(traces)
        assert len(view)
        check(verb(batch), list(view))


def test_what_was_trimmed_can_be_written(source: TrajectoryBatch, tmp_path: Path) -> None:
    part = source.filter(lambda each: each.episode.start_step == 0).trim(1, 4)
    with TraceWriter(tmp_path) as writer:
        writer.extend(part)
    again = open_traces(tmp_path).sort_by("id")
    assert list(again) == list(part.sort_by("id"))
    assert [each.episode for each in again] == list(part.sort_by("id").episodes)


@pytest.mark.parametrize("space", SPACES)
def test_every_kind_of_data(space: str) -> None:
    lengths = [2, 1, 4]
    obs = batch_of(SPACES[space], range(10))
    batch = TrajectoryBatch.from_arrays(obs, np.arange(7), lengths=lengths)
    trimmed = batch.trim(1)
    assert trimmed.lengths.tolist() == [1, 3]
    for number, (first, last) in enumerate(((1, 2), (6, 9))):
        assert_same(
            trimmed[number].obs, TrajectoryBatch.from_arrays(obs, np.arange(7), lengths=lengths).obs[first : last + 1]
        )
    both = trimmed.concat(batch)
    assert both.lengths.tolist() == [1, 3, 2, 1, 4]
    assert_same(both[4].obs, batch[2].obs)
    relabeled = batch.relabel(rews=lambda each: each.acts * 1.0)
    assert relabeled.rews is not None
    assert relabeled.rews.tolist() == list(map(float, range(7)))
    assert_same(relabeled[2].obs, batch[2].obs)
    assert isinstance(batch[0], Trajectory)
    assert not batch.has_rews


def test_nothing_is_changed() -> None:
    before = copy.deepcopy(BATCH)
    BATCH.trim(1).relabel(rews=doubled).concat(BATCH)
    assert before == BATCH
    rews = BATCH.relabel(rews=lambda each: each.rews).rews
    assert rews is not None
    assert not np.shares_memory(rews, BATCH.rews)  # type: ignore[arg-type]


def test_rewards_that_are_vectors() -> None:
    vectors = BATCH.relabel(rews=lambda each: np.stack([each.rews, -each.rews], axis=1))
    assert vectors.rews is not None
    assert vectors.rews.shape == (BATCH.total_steps, 2)
    assert len(vectors.filter(pc.field("return_").is_null())) == len(BATCH)
    assert vectors.trim(1)[0].rews.shape == (2, 2)  # type: ignore[attr-defined]
    check(vectors.relabel(rews=lambda each: each.rews[:, 0]), PLAIN)


def test_without_rewards() -> None:
    plain = TrajectoryBatch.from_trajectories([Trajectory(np.arange(3.0), np.zeros(2), None, False)])
    assert len(plain.sort_by("return_")) == 1
    assert len(plain.filter(pc.field("return_").is_valid())) == 0
    assert type(plain.trim(1)[0]) is Trajectory
    assert plain.relabel(rews=lambda each: each.obs[1:])[0].rews.tolist() == [1.0, 2.0]  # type: ignore[attr-defined]


def test_none(source: TrajectoryBatch) -> None:
    empty = source[:0]
    for each in (
        empty.trim(1),
        source.trim(99),
        empty.relabel(rews=doubled),
        empty.concat(empty),
        empty.filter(pc.field("id") > 1),
        empty.sort_by("length"),
        source.filter(pc.field("length") > 99),
    ):
        check(each, [])
        assert each.has_rews
    check(empty.concat(source, empty), list(source))
    check(source.concat(), list(source))


def test_filter_and_sort() -> None:
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


def test_split_keeps_fragments_together() -> None:
    parts = BATCH.split({"a": 0.5, "b": 0.5}, np.random.default_rng(1))
    ids = [{each.id for each in part.episodes} for part in parts.values()]
    assert ids[0].isdisjoint(ids[1])
    assert sum(map(len, parts.values())) == 7
    assert {len(each) for each in ids} == {2}


def test_numbers_that_no_array_holds() -> None:
    check(BATCH.trim(-(10**30), 10**30), PLAIN)
    check(BATCH.trim(10**30), [])
    seeds = [None, 3, 2**70]
    given = [replace(each, episode=Episode(seed=seed)) for each, seed in zip(PLAIN, seeds, strict=False)]
    # As in the table of a data set.
    assert len(TrajectoryBatch.from_trajectories(given).filter(pc.field("seed").is_valid())) == 1
    odd = TrajectoryBatch.from_trajectories([replace(PLAIN[0], episode=Episode(env_index=2**40))])
    with pytest.raises(OptionError, match=r"condition.*'env'.*function"):
        odd.filter(pc.field("length") > 0)


def test_wrong_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    for key in ("a", 1.5, None, (1, 2), np.ones(3, bool)):
        with pytest.raises(ArgumentTypeError):
            BATCH[key]  # type: ignore[call-overload]
    for number in (7, -8, [0, 7]):
        with pytest.raises(IndexError):
            BATCH[number]  # type: ignore[index]
    for condition in (pc.field("nothing") > 1, pc.field("writer") == "a", pc.field("length") + 1):
        with pytest.raises(OptionError, match=r"condition.*return_"):
            BATCH.filter(condition)
    with pytest.raises(OptionError, match="column"):
        BATCH.sort_by("reset_info")
    with pytest.raises(OptionError, match="fractions"):
        BATCH.split({"a": 0.4}, np.random.default_rng(0))
    for start, stop in (("a", None), (0, 1.5), (None, 3)):
        with pytest.raises(ArgumentTypeError, match=r"start|stop"):
            BATCH.trim(start, stop)  # type: ignore[arg-type]
    for is_installed in (True, False):
        if not is_installed:
            monkeypatch.setitem(sys.modules, "pyarrow.compute", None)
        for condition in (3, "length > 3", None):
            with pytest.raises(ArgumentTypeError, match=r"condition.*function.*expression"):
                BATCH.filter(condition)


def test_values_that_cannot_be_compared() -> None:
    given = [replace(each, episode=Episode(id=name)) for each, name in zip(PLAIN, ("a", 1), strict=False)]  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="column: expected one whose values can be compared"):
        TrajectoryBatch.from_trajectories(given).sort_by("id")


def test_batches_that_are_not_alike(tmp_path: Path) -> None:
    with TraceWriter(tmp_path) as writer:
        writer.extend(BATCH)
    for other in (PLAIN, PLAIN[0], open_traces(tmp_path), None):
        with pytest.raises(ArgumentTypeError, match=r"others.*TrajectoryBatch"):
            BATCH.concat(other)  # type: ignore[arg-type]
    steps = np.zeros(2)
    for obs, rews, error in (
        ({"t": np.arange(3), "x": np.zeros((3, 3))}, steps, ShapeError),
        ({"t": np.arange(3)}, steps, StructureError),
        ({"t": np.arange(3), "x": np.zeros((3, 2))}, None, ArgumentTypeError),
    ):
        with pytest.raises(error):
            BATCH.concat(TrajectoryBatch.from_arrays(obs, steps, rews, lengths=[2]))


def test_rewards_that_do_not_fit() -> None:
    for rewards, error in (
        (lambda each: each.rews[1:], ShapeError),
        (lambda each: each.rews[:, None], ShapeError),
        (lambda each: each.acts, DtypeError),
        (lambda each: None, ShapeError),
        (lambda each: np.zeros((len(each), 2)) if len(each) > 3 else each.rews, ShapeError),
    ):
        with pytest.raises(error, match="rews"):
            BATCH.relabel(rews=rewards)
    with pytest.raises(ArgumentTypeError, match="rews"):
        BATCH.relabel(rews=3)  # type: ignore[arg-type]

    def fails(trajectory: Any) -> Any:
        raise RuntimeError("the user's own")

    with pytest.raises(RuntimeError, match="own"):
        BATCH.relabel(rews=fails)
