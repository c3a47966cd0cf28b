"""Batches of trajectories as columns."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from gymnasium import Space, spaces
from hypothesis import given
from hypothesis import strategies as st

from vecrollout import (
    DictObs,
    Episode,
    Trajectory,
    TrajectoryBatch,
    TrajectoryWithRew,
    Transitions,
    TransitionsWithRew,
    flatten_trajectories,
    flatten_trajectories_with_rew,
)
from vecrollout.errors import ArgumentTypeError, DtypeError, ShapeError, StructureError
from vecrollout.testing import SPACES, assert_same, batch_of, leaves_of
from vecrollout.testing.strategies import leaf_spaces, nested_spaces, trajectories

LENGTHS = [2, 1, 4]
STEPS, COUNT = sum(LENGTHS), len(LENGTHS)
TERMINATED, TRUNCATED = [True, False, True], [False, False, True]


def arrays(space: str = "box", **changes: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "obs": batch_of(SPACES[space], range(STEPS + COUNT)),
        "acts": np.arange(STEPS),
        "rews": np.arange(STEPS) / 2,
        "infos": [{"t": t} for t in range(STEPS)],
        "lengths": LENGTHS,
        "terminated": TERMINATED,
        "truncated": TRUNCATED,
        "episodes": [Episode(id=i, env_index=0, ended_by=("terminated", None, "terminated")[i]) for i in range(COUNT)],
    }
    return {**fields, **changes}


def batch(space: str = "box", **changes: Any) -> TrajectoryBatch:
    return TrajectoryBatch.from_arrays(**arrays(space, **changes))


def rows(tree: Any, begin: int, end: int) -> Any:
    if isinstance(tree, dict):
        return {key: rows(child, begin, end) for key, child in tree.items()}
    return tuple(rows(child, begin, end) for child in tree) if isinstance(tree, tuple) else tree[begin:end]


def plain_trajectories(space: str = "box") -> list[TrajectoryWithRew]:
    """What `batch(space)` stands for, by the definition."""
    given = arrays(space)
    made = []
    for i, length in enumerate(LENGTHS):
        begin = sum(LENGTHS[:i])
        made.append(
            TrajectoryWithRew(
                obs=rows(given["obs"], begin + i, begin + i + length + 1),
                acts=given["acts"][begin : begin + length],
                infos=given["infos"][begin : begin + length],
                terminal=TERMINATED[i] or TRUNCATED[i],
                terminated=TERMINATED[i],
                truncated=TRUNCATED[i],
                rews=given["rews"][begin : begin + length],
                episode=given["episodes"][i],
            )
        )
    return made


def assert_same_trajectory(actual: Trajectory, expected: Trajectory) -> None:
    assert type(actual) is type(expected)
    for field in dataclasses.fields(expected):
        if field.name != "episode":
            assert_same(getattr(actual, field.name), getattr(expected, field.name), field.name)
    assert actual.episode == expected.episode


def assert_same_transitions(actual: Transitions, expected: Transitions) -> None:
    assert type(actual) is type(expected)
    for name, column in vars(expected).items():
        assert_same(vars(actual)[name], column, name)


class TestFromArrays:
    @pytest.mark.parametrize("space", ["box", "box_scalar", "image", "dict", "tuple", "nested"])
    def test_trajectories_are_rows_of_the_columns(self, space: str) -> None:
        made = batch(space)
        assert len(made) == COUNT
        assert made.total_steps == STEPS
        assert made.has_rews
        for actual, expected in zip(made, plain_trajectories(space), strict=True):
            assert_same_trajectory(actual, expected)

    @pytest.mark.parametrize("space", ["box", "dict", "tuple", "nested"])
    def test_columns_are_those_given(self, space: str) -> None:
        given = arrays(space)
        made = TrajectoryBatch.from_arrays(**given)
        for name in ("obs", "acts", "rews"):
            assert_same(getattr(made, name), given[name], name)
        assert made.infos is not None
        assert made.infos.tolist() == given["infos"]
        assert_same(made.lengths, np.array(LENGTHS))
        assert_same(made.terminated, np.array(TERMINATED))
        assert_same(made.truncated, np.array(TRUNCATED))
        assert list(made.episodes) == given["episodes"]

    def test_arrays_are_neither_copied_nor_altered(self) -> None:
        given = arrays("dict")
        made = TrajectoryBatch.from_arrays(**given)
        assert np.shares_memory(made[1].acts, given["acts"])
        assert np.shares_memory(made[1].obs.get("camera"), given["obs"]["camera"])
        for leaf in [given["acts"], given["rews"], *leaves_of(given["obs"])]:
            assert leaf.flags.writeable
        with pytest.raises(ValueError, match="read-only"):
            made[1].acts[0] = 5
        with pytest.raises(ValueError, match="read-only"):
            made.acts[0] = 5

    def test_only_what_is_needed(self) -> None:
        made = TrajectoryBatch.from_arrays(obs=np.arange(7.0), acts=np.zeros(5), lengths=[2, 3])
        assert type(made[0]) is Trajectory
        assert made.rews is None
        assert made.infos is None
        assert made[1].infos is None
        assert not made.has_rews
        assert [each.terminal for each in made] == [False, False]
        assert [each.episode for each in made] == [Episode(), Episode()]

    def test_endings_follow_the_flags(self) -> None:
        made = batch(episodes=None)
        assert [each.episode.ended_by for each in made] == ["terminated", None, "terminated"]
        assert [each.terminal for each in made] == [True, False, True]

    def test_lists_make_arrays(self) -> None:
        obs = [{"a": np.full(2, i)} for i in range(4)]
        made = TrajectoryBatch.from_arrays(obs, [0, 1], [0.5, 1.5], lengths=[1, 1], terminated=[False, True])
        assert_same(made[1].obs, DictObs({"a": np.array([[2, 2], [3, 3]])}))
        assert made[1].rews.tolist() == [1.5]  # type: ignore[attr-defined]

    def test_no_trajectories(self) -> None:
        made = TrajectoryBatch.from_arrays(np.empty((0, 3)), np.empty(0), np.empty(0), lengths=[])
        assert list(made) == []
        assert made == TrajectoryBatch.from_arrays(np.empty((0, 3)), np.empty(0), np.empty(0), lengths=[])
        with pytest.raises(ShapeError, match="expected at least one, got none"):
            made.transitions()

    @pytest.mark.parametrize(
        ("changes", "error", "message"),
        [
            ({"obs": np.zeros(STEPS)}, ShapeError, "obs: expected 10 rows .3 trajectories with 7 steps., got 7"),
            ({"acts": np.zeros(STEPS + 1)}, ShapeError, "acts: expected 7 rows .3 trajectories with 7 steps., got 8"),
            ({"rews": np.zeros(3)}, ShapeError, r"rews: .*expected shape \(7,\), got \(3,\)"),
            ({"rews": np.zeros(STEPS, int)}, DtypeError, "rews: .*int64 not a float"),
            ({"infos": [{}]}, ShapeError, r"infos: expected shape \(7,\), one a step, got \(1,\)"),
            ({"infos": {}}, ArgumentTypeError, "infos: expected one dict a step, got a dict"),
            ({"lengths": [2, 0, 5]}, ShapeError, "lengths: expected steps of each trajectory, 1 or more.*got"),
            ({"lengths": [[2, 1, 4]]}, ShapeError, "lengths: expected .* in one dimension, got"),
            ({"lengths": [2.0, 1.0, 4.0]}, ShapeError, "lengths: expected .* got"),
            ({"terminated": [True]}, ShapeError, r"terminated: .*expected shape \(3,\), got \(1,\)"),
            ({"truncated": [0, 1, 2]}, DtypeError, "truncated: .*must be boolean, got int64"),
            ({"episodes": [Episode()]}, ShapeError, "episodes: expected 3, one a trajectory, got 1"),
            ({"obs": object()}, ShapeError, "obs: expected one row a step, got no rows"),
        ],
    )
    def test_what_does_not_fit_is_refused(self, changes: Any, error: type[Exception], message: str) -> None:
        with pytest.raises(error, match=message):
            batch(**changes)


class TestFromTrajectories:
    @pytest.mark.parametrize("space", ["box", "dict", "tuple", "nested"])
    def test_the_trajectories_come_back_as_copies(self, space: str) -> None:
        given = plain_trajectories(space)
        made = TrajectoryBatch.from_trajectories(iter(given))
        for actual, expected in zip(made, given, strict=True):
            assert_same_trajectory(actual, expected)
            for ours, theirs in zip(leaves_of(actual.obs), leaves_of(expected.obs), strict=True):
                assert not np.shares_memory(ours, theirs)

    def test_a_batch_gives_the_same_batch(self) -> None:
        assert TrajectoryBatch.from_trajectories(batch("dict")) == batch("dict")

    def test_some_have_infos(self) -> None:
        first, *others = plain_trajectories()
        made = TrajectoryBatch.from_trajectories([dataclasses.replace(first, infos=None), *others])
        assert made[0].infos is not None
        assert made[0].infos.tolist() == [{}, {}]
        assert made[1] == others[0]

    def test_none_has_infos(self) -> None:
        made = TrajectoryBatch.from_trajectories(dataclasses.replace(t, infos=None) for t in plain_trajectories())
        assert made.infos is None
        assert made[0].infos is None

    def test_one_without_rewards_is_refused(self) -> None:
        first, *others = plain_trajectories()
        bare = Trajectory(first.obs, first.acts, None, True)
        with pytest.raises(ArgumentTypeError, match=r"trajectory 2: expected one with rewards .*, got a Trajectory"):
            TrajectoryBatch.from_trajectories([*others, bare])
        with pytest.raises(ArgumentTypeError, match="trajectory 1: expected one without rewards"):
            TrajectoryBatch.from_trajectories([bare, *others])

    def test_what_is_not_alike_is_refused(self) -> None:
        with pytest.raises(ShapeError, match="trajectories: expected at least one, got none"):
            TrajectoryBatch.from_trajectories([])
        with pytest.raises(ArgumentTypeError, match="trajectory 1: expected a Trajectory, got a str"):
            TrajectoryBatch.from_trajectories([*plain_trajectories()[:1], "text"])  # type: ignore[list-item]
        with pytest.raises(StructureError, match="obs"):
            TrajectoryBatch.from_trajectories([*plain_trajectories("dict"), *plain_trajectories("tuple")])
        with pytest.raises(ShapeError, match="obs: expected one shape"):
            TrajectoryBatch.from_trajectories([*plain_trajectories("box"), *plain_trajectories("image")])


class TestConcatenate:
    @pytest.mark.parametrize("space", ["box", "dict", "tuple", "nested"])
    def test_is_all_their_trajectories(self, space: str) -> None:
        joined = TrajectoryBatch.concatenate(iter([batch(space), batch(space), batch(space)]))
        assert len(joined) == 3 * COUNT
        for actual, expected in zip(joined, plain_trajectories(space) * 3, strict=True):
            assert_same_trajectory(actual, expected)

    def test_some_have_infos(self) -> None:
        joined = TrajectoryBatch.concatenate([batch(infos=None), batch()])
        assert joined.infos is not None
        assert joined.infos.tolist() == [{}] * STEPS + [{"t": t} for t in range(STEPS)]

    def test_what_is_not_alike_is_refused(self) -> None:
        with pytest.raises(ShapeError, match="batches: expected at least one, got none"):
            TrajectoryBatch.concatenate([])
        with pytest.raises(ArgumentTypeError, match="expected all with rewards or all without"):
            TrajectoryBatch.concatenate([batch(), batch(rews=None)])
        with pytest.raises(StructureError):
            TrajectoryBatch.concatenate([batch("dict"), batch("tuple")])
        with pytest.raises(ShapeError):
            TrajectoryBatch.concatenate([batch("box"), batch("image")])


class TestIndexing:
    @pytest.mark.parametrize("kind", [int, np.int64, np.uint8, np.array])
    def test_any_integer(self, kind: Any) -> None:
        for i, expected in enumerate(plain_trajectories()):
            assert_same_trajectory(batch()[kind(i)], expected)

    def test_from_the_end(self) -> None:
        assert_same_trajectory(batch()[-1], plain_trajectories()[-1])
        assert_same_trajectory(batch()[np.int8(-COUNT)], plain_trajectories()[0])

    @pytest.mark.parametrize("key", [slice(None), slice(1, None), slice(None, None, -1), slice(5, 9)])
    def test_slices(self, key: slice) -> None:
        for actual, expected in zip(batch()[key], plain_trajectories()[key], strict=True):
            assert_same_trajectory(actual, expected)

    @pytest.mark.parametrize("key", [COUNT, -COUNT - 1, 10**30])
    def test_out_of_range(self, key: int) -> None:
        with pytest.raises(IndexError, match="expected the number of one of 3 trajectories, got"):
            batch()[key]

    @pytest.mark.parametrize("key", ["text", 1.0, None])
    def test_what_is_no_index(self, key: Any) -> None:
        with pytest.raises(TypeError):
            batch()[key]

    def test_iterators_are_fresh(self) -> None:
        made = batch()
        assert next(iter(made)) == next(iter(made))


class TestEquality:
    @pytest.mark.parametrize("space", ["box", "dict", "tuple"])
    def test_identity_takes_no_part(self, space: str) -> None:
        assert batch(space) == batch(space, episodes=None)

    @pytest.mark.parametrize(
        "other",
        [
            batch(obs=batch_of(SPACES["box"], range(1, STEPS + COUNT + 1))),
            batch(acts=np.arange(STEPS) + 1),
            batch(rews=np.zeros(STEPS)),
            batch(rews=None),
            batch(infos=None),
            batch(terminated=None),
            batch(truncated=None),
            batch(lengths=[1, 2, 4]),
            batch("dict"),
            batch("image"),
            plain_trajectories(),
            np.arange(3),
            "text",
            None,
        ],
    )
    def test_anything_else_differs(self, other: Any) -> None:
        assert (batch() == other) is False
        assert (other == batch()) is False
        assert (batch() != other) is True

    def test_no_infos_equal_empty_ones(self) -> None:
        assert batch(infos=None) == batch(infos=[{} for _ in range(STEPS)])

    def test_not_hashable(self) -> None:
        with pytest.raises(TypeError):
            hash(batch())


class TestTransitions:
    @pytest.mark.parametrize("space", ["box", "dict", "tuple", "nested"])
    def test_are_the_steps_of_its_trajectories(self, space: str) -> None:
        transitions = batch(space).transitions()
        assert type(transitions) is TransitionsWithRew
        assert_same_transitions(transitions, flatten_trajectories_with_rew(plain_trajectories(space)))

    def test_without_rewards_and_infos(self) -> None:
        transitions = batch(rews=None, infos=None).transitions()
        bare = [Trajectory(t.obs, t.acts, None, t.terminal) for t in plain_trajectories()]
        assert type(transitions) is Transitions
        assert_same(transitions.obs, flatten_trajectories(bare).obs)
        assert transitions.infos.tolist() == [{}] * STEPS

    def test_are_copies(self) -> None:
        given = arrays()
        transitions = TrajectoryBatch.from_arrays(**given).transitions()
        for name in ("obs", "next_obs", "acts", "rews"):
            column = getattr(transitions, name)
            assert column.flags.writeable
            assert not np.shares_memory(column, given["obs" if name == "next_obs" else name])
        assert not np.shares_memory(transitions.obs, transitions.next_obs)


@st.composite
def alike(draw: st.DrawFn) -> list[TrajectoryWithRew]:
    """Trajectories of the same spaces."""
    obs_space: Space[Any] = draw(nested_spaces() | st.just(spaces.Text(5)))
    act_space = draw(leaf_spaces())
    made = draw(st.lists(trajectories(obs_space, act_space), min_size=1, max_size=4))
    return [dataclasses.replace(each, rews=each.rews.astype(np.float64)) for each in made]


@given(alike())
def test_a_batch_is_its_trajectories(given_trajectories: list[TrajectoryWithRew]) -> None:
    made = TrajectoryBatch.from_trajectories(given_trajectories)
    assert len(made) == len(given_trajectories)
    assert made.total_steps == sum(map(len, given_trajectories))
    with_infos = any(each.infos is not None for each in given_trajectories)
    for actual, each in zip(made, given_trajectories, strict=True):
        expected = each
        if with_infos and each.infos is None:
            expected = dataclasses.replace(each, infos=[{} for _ in range(len(each))])
        assert_same_trajectory(actual, expected)
    assert_same_transitions(made.transitions(), flatten_trajectories_with_rew(given_trajectories))
    halves = [TrajectoryBatch.from_trajectories([each]) for each in given_trajectories]
    joined = TrajectoryBatch.concatenate(halves)
    for actual, expected in zip(joined, made, strict=True):
        assert_same_trajectory(actual, expected)


class TestReprs:
    """One line each, whatever the size."""

    def test_batch(self) -> None:
        text = repr(batch("dict"))
        assert text.startswith("<TrajectoryBatch of 3 trajectories, 7 steps")
        assert "\n" not in text

    @pytest.mark.parametrize("space", ["image", "dict", "tuple", "nested"])
    def test_trajectories_and_transitions(self, space: str) -> None:
        made = batch(space)
        for text in (repr(made[0]), repr(made.transitions()), repr(Trajectory(made[0].obs, [1, 2], None, False))):
            assert "\n" not in text
            assert len(text) < 400
            assert "2 steps" in text or "7 steps" in text

    def test_say_how_the_episode_ended(self) -> None:
        assert repr(batch()[0]).endswith("episode 0, ended_by='terminated'>")
        assert repr(batch()[0]).startswith(
            "<TrajectoryWithRew of 2 steps: obs float32[3, 3], acts int64[2], rews float64"
        )

    def test_observations(self) -> None:
        assert repr(batch("tuple").obs) == "<TupleObs (float32[10, 2], int64[10])>"
        level, position = "level: int64[10]", "position: float64[10, 2]"
        assert repr(batch("dict").obs) == f"<DictObs {{camera: uint8[10, 4, 4, 1], {level}, {position}}}>"
