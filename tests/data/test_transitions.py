"""Transitions: what they hold and refuse, how they are indexed, and how they come from trajectories."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vecrollout import (
    DictObs,
    Trajectory,
    TrajectoryWithRew,
    Transitions,
    TransitionsMinimal,
    TransitionsWithRew,
    TupleObs,
    flatten_trajectories,
    flatten_trajectories_with_rew,
)
from vecrollout.data.trees import wrap
from vecrollout.errors import ArgumentTypeError, DtypeError, FlagError, ShapeError, StructureError
from vecrollout.testing import SPACES, batch_of
from vecrollout.testing.comparison import assert_same

STEPS = 5
CLASSES = [TransitionsMinimal, Transitions, TransitionsWithRew]


def fields(space: str = "box", steps: int = STEPS) -> dict[str, Any]:
    """What transitions with rewards are made of, each value telling its step."""
    obs, next_obs = (batch_of(SPACES[space], range(i, steps + 1 + i)) for i in (0, 1))
    return {
        "obs": wrap(obs)[:steps],
        "acts": np.arange(steps) * 10,
        "infos": np.array([{"t": t} for t in range(steps)], dtype=object),
        "next_obs": wrap(next_obs)[:steps],
        "dones": np.arange(steps) % 2 == 1,
        "terminated": np.arange(steps) % 4 == 1,
        "truncated": np.arange(steps) % 4 == 3,
        "rews": np.arange(steps, dtype=np.float32),
    }


def made(cls: Any = TransitionsWithRew, space: str = "box", steps: int = STEPS, **changes: Any) -> Any:
    names = [each.name for each in dataclasses.fields(cls)]
    return cls(**{**{name: value for name, value in fields(space, steps).items() if name in names}, **changes})


class TestFields:
    def test_names_order_and_defaults(self) -> None:
        def positional(cls: Any) -> list[str]:
            return [each.name for each in dataclasses.fields(cls) if not each.kw_only]

        assert positional(TransitionsMinimal) == ["obs", "acts", "infos"]
        assert positional(Transitions) == ["obs", "acts", "infos", "next_obs", "dones"]
        assert positional(TransitionsWithRew) == ["obs", "acts", "infos", "next_obs", "dones", "rews"]

    @pytest.mark.parametrize("cls", CLASSES)
    @pytest.mark.parametrize("space", SPACES)
    @pytest.mark.parametrize("steps", [1, STEPS])
    def test_length_counts_steps(self, cls: Any, space: str, steps: int) -> None:
        assert len(made(cls, space, steps)) == steps

    @pytest.mark.parametrize("cls", CLASSES)
    def test_there_may_be_none(self, cls: Any) -> None:
        empty = made(cls)[:0]
        assert len(empty) == 0
        assert list(empty) == []
        again = cls(**vars(empty))
        assert again == empty
        assert len(dataclasses.replace(empty, infos=np.array([]))) == 0

    @pytest.mark.parametrize("cls", CLASSES)
    def test_arrays_are_neither_copied_nor_altered(self, cls: Any) -> None:
        kept = {name: value for name, value in fields().items() if name in vars(made(cls))}
        before = copy.deepcopy(kept)
        transitions = cls(**kept)
        for name, value in kept.items():
            assert getattr(transitions, name) is value
            assert value.flags.writeable
            assert_same(value, before[name])

    def test_lists_become_arrays(self) -> None:
        transitions = TransitionsWithRew(
            obs=[[0.0], [1.0]],
            acts=[0, 1],
            infos=[{}, {"a": 1}],
            next_obs=[[1.0], [2.0]],
            dones=[False, True],
            truncated=[False, True],
            rews=[0.5, 1.5],
        )  # type: ignore[arg-type]
        assert_same(transitions.obs, np.array([[0.0], [1.0]]))
        assert_same(transitions.dones, np.array([False, True]))
        assert_same(transitions.terminated, np.array([False, False]))
        assert_same(transitions.rews, np.array([0.5, 1.5]))
        assert transitions.infos.tolist() == [{}, {"a": 1}]

    def test_lists_may_be_empty(self) -> None:
        empty = TransitionsWithRew(obs=[], acts=[], infos=[], next_obs=[], dones=[], rews=[])  # type: ignore[arg-type]
        assert len(empty) == 0
        assert empty.dones.dtype == bool

    def test_no_infos_are_empty_ones_each_of_its_own(self) -> None:
        infos = made(infos=None).infos
        assert infos.tolist() == [{}] * STEPS
        assert len({id(info) for info in infos}) == STEPS


class TestFlags:
    DONES = np.array([False, True, True, False])
    FIRST = np.array([False, True, False, False])
    SECOND = np.array([False, False, True, False])
    NONE = np.zeros(4, bool)

    @pytest.mark.parametrize(
        ("given", "terminated", "truncated"),
        [
            ({}, DONES, NONE),
            ({"truncated": SECOND}, FIRST, SECOND),
            ({"terminated": SECOND}, SECOND, FIRST),
            ({"terminated": NONE}, NONE, DONES),
            ({"terminated": DONES, "truncated": SECOND}, DONES, SECOND),
        ],
    )
    def test_follow_dones(self, given: Any, terminated: Any, truncated: Any) -> None:
        transitions = Transitions(
            np.zeros(4),
            np.zeros(4),
            None,
            np.zeros(4),
            self.DONES,
            **given,  # type: ignore[arg-type]
        )
        assert_same(transitions.terminated, terminated)
        assert_same(transitions.truncated, truncated)
        assert_same(transitions.dones, self.DONES)
        if "terminated" not in given:
            assert not np.shares_memory(transitions.terminated, transitions.dones)

    @pytest.mark.parametrize(
        ("given", "count", "first"),
        [
            ({"terminated": FIRST, "truncated": NONE}, 1, 2),
            ({"terminated": NONE, "truncated": NONE}, 2, 1),
            ({"truncated": ~DONES}, 2, 0),
            ({"terminated": ~NONE}, 2, 0),
        ],
    )
    def test_contradictions_are_refused(self, given: Any, count: int, first: int) -> None:
        with pytest.raises(FlagError, match=f"dones: .* at {count} steps, first at {first}; pass .* or None to derive"):
            Transitions(np.zeros(4), np.zeros(4), None, np.zeros(4), self.DONES, **given)  # type: ignore[arg-type]


class TestValidation:
    @pytest.mark.parametrize(
        ("changes", "error", "message"),
        [
            (
                {"acts": np.zeros(4)},
                ShapeError,
                r"obs: obs and acts must have same .* 4 rows \(acts has 4 steps\), got 5",
            ),
            ({"infos": [{}] * 4}, ShapeError, r"infos: obs and infos must have .* shape \(5,\), got \(4,\)"),
            ({"infos": np.zeros(5)}, DtypeError, "infos: expected an array of dicts"),
            ({"infos": {"a": 1}}, ArgumentTypeError, "infos: expected one dict a step, got a dict"),
            ({"next_obs": np.zeros((4, 3))}, ShapeError, r"next_obs: .* expected \(5, 3\), got \(4, 3\)"),
            (
                {"next_obs": {"a": np.zeros((5, 3))}},
                ShapeError,
                r"next_obs: .* expected \(5, 3\), got \{'a': \(5, 3\)\}",
            ),
            ({"next_obs": np.zeros((5, 3))}, DtypeError, "next_obs: .* expected float32, got float64"),
            ({"dones": np.zeros(4, bool)}, ShapeError, r"dones: .* expected shape \(5,\), got \(4,\)"),
            ({"dones": np.zeros((5, 1), bool)}, ShapeError, r"dones: .* expected shape \(5,\), got \(5, 1\)"),
            ({"dones": np.zeros(5, int)}, DtypeError, "dones: dones must be boolean, got int64"),
            ({"dones": [0, 1, 0, 1, 0]}, DtypeError, "dones: dones must be boolean, got int64"),
            ({"dones": None}, ShapeError, r"dones: .* expected shape \(5,\), got \(\)"),
            ({"terminated": np.zeros(4, bool)}, ShapeError, r"terminated: .* expected shape \(5,\), got \(4,\)"),
            ({"truncated": np.zeros(5, int)}, DtypeError, "truncated: truncated must be boolean, got int64"),
            ({"rews": np.zeros(4)}, ShapeError, r"rews: .* expected shape \(5,\), got \(4,\)"),
            ({"rews": np.zeros(5, int)}, DtypeError, "rews: rewards dtype int64 not a float"),
            ({"obs": 3}, ShapeError, "obs: expected one row a step, got no rows"),
            ({"obs": {"a": np.zeros(5), "b": np.zeros(4)}}, ShapeError, r"obs: .* got \{'a': 5, 'b': 4\}"),
        ],
    )
    def test_names_the_field_what_was_expected_and_what_came(
        self, changes: Any, error: type[Exception], message: str
    ) -> None:
        with pytest.raises(error, match=message):
            made(**changes)

    def test_trees_must_be_alike(self) -> None:
        obs, next_obs = (made(space="dict").obs.unwrap() for _ in range(2))
        del next_obs["level"]
        with pytest.raises(ShapeError, match="next_obs"):
            made(obs=obs, next_obs=next_obs)
        next_obs["level"] = obs["level"].astype(np.int8)
        with pytest.raises(DtypeError, match="next_obs"):
            made(obs=obs, next_obs=next_obs)


INTEGERS = [
    int,
    np.int64,
    np.int8,
    np.uint64,
    np.uint8,
    np.array,
    lambda i: np.array(i, np.uint16),
    torch.tensor,
    lambda i: torch.arange(9)[i],
]


class TestIndexing:
    @pytest.mark.parametrize("cls", CLASSES)
    @pytest.mark.parametrize("space", SPACES)
    @pytest.mark.parametrize("integer", INTEGERS)
    def test_any_integer_gives_a_dict(self, cls: Any, space: str, integer: Any) -> None:
        transitions = made(cls, space)
        step = transitions[integer(3)]
        assert type(step) is dict
        assert step.keys() == {each.name for each in dataclasses.fields(cls)}
        for name, value in step.items():
            assert_same(value, getattr(transitions, name)[3])
        assert step["infos"] is transitions.infos[3]

    def test_negative_ones_count_from_the_end(self) -> None:
        assert made()[-2]["acts"] == 30
        assert made()[np.int8(-2)]["acts"] == 30

    @pytest.mark.parametrize("index", [STEPS, -STEPS - 1, np.int64(STEPS), np.uint8(200), [0, STEPS]])
    def test_out_of_range(self, index: Any) -> None:
        with pytest.raises(IndexError):
            made()[index]

    @pytest.mark.parametrize("cls", CLASSES)
    @pytest.mark.parametrize("space", ["box", "dict", "tuple", "nested"])
    @given(st.slices(STEPS))
    def test_slices(self, cls: Any, space: str, key: slice) -> None:
        transitions = made(cls, space)
        part = transitions[key]
        assert type(part) is cls
        for each in dataclasses.fields(cls):
            assert_same(getattr(part, each.name), getattr(transitions, each.name)[key])
        assert cls(**vars(part)) == part

    @pytest.mark.parametrize("cls", CLASSES)
    @pytest.mark.parametrize("space", ["box", "nested"])
    @pytest.mark.parametrize(
        ("key", "picked"),
        [
            ([3, 0, 0], [3, 0, 0]),
            (range(1, 3), [1, 2]),
            (np.array([4, -1], np.int8), [4, -1]),
            (np.array([2], np.uint64), [2]),
            (torch.tensor([1, 2]), [1, 2]),
            (np.array([True, False, True, False, False]), [0, 2]),
            ([False] * 4 + [True], [4]),
            ([], []),
            (np.array([], int), []),
        ],
    )
    def test_picks_and_masks(self, cls: Any, space: str, key: Any, picked: list[int]) -> None:
        transitions = made(cls, space)
        part = transitions[key]
        assert type(part) is cls
        for each in dataclasses.fields(cls):
            whole = getattr(transitions, each.name)
            assert_same(getattr(part, each.name), whole[np.array(picked, int)])

    @pytest.mark.parametrize(
        "key",
        [
            *[True, np.True_, np.array(True), np.array([]), np.zeros(2), np.zeros((2, 2), int)],
            *["obs", 1.0, np.float64(1), None, (0, 1), (slice(1),), ..., [[0, 1]], [0.5], [[0], [0, 1]]],
        ],
    )
    def test_anything_else_is_refused(self, key: Any) -> None:
        with pytest.raises(ArgumentTypeError, match="expected an integer, a slice, or a list or 1D array"):
            made()[key]

    def test_a_mask_of_another_length(self) -> None:
        with pytest.raises(IndexError):
            made()[np.array([True, False])]

    def test_a_step_is_ones_own(self) -> None:
        transitions = made(space="dict")
        step = transitions[1]
        for leaf in (step["obs"].get("camera"), step["next_obs"].get("position")):
            leaf[...] = 99
        assert transitions == made(space="dict")

    @pytest.mark.parametrize("space", ["box", "dict", "nested"])
    def test_a_slice_is_a_read_only_view(self, space: str) -> None:
        transitions = made(space=space)
        part = transitions[1:4]
        for name, value in vars(part).items():
            whole = getattr(transitions, name)
            for view, array in (
                ((value, whole),) if isinstance(value, np.ndarray) else zip(_leaves(value), _leaves(whole), strict=True)
            ):
                assert np.shares_memory(view, array)
                assert not view.flags.writeable
                assert array.flags.writeable

    def test_iterates_over_steps(self) -> None:
        transitions = made()
        assert [step["acts"] for step in transitions] == [0, 10, 20, 30, 40]
        assert [step["acts"] for step in reversed(transitions)] == [40, 30, 20, 10, 0]
        assert next(iter(transitions))["acts"] == next(iter(transitions))["acts"]


def _leaves(tree: Any) -> list[Any]:
    return [leaf for entry in tree.values() for leaf in (_leaves(entry) if hasattr(entry, "values") else [entry])]


class TestEquality:
    @pytest.mark.parametrize("cls", CLASSES)
    @pytest.mark.parametrize("space", SPACES)
    def test_by_value(self, cls: Any, space: str) -> None:
        assert (made(cls, space) == made(cls, space)) is True
        assert (made(cls, space) != made(cls, space)) is False

    @pytest.mark.parametrize("name", ["obs", "acts", "infos", "next_obs", "dones", "truncated", "rews"])
    def test_every_field_counts(self, name: str) -> None:
        changes = {name: np.roll(fields()[name], 1, axis=0)}
        if name == "dones":
            changes = {"dones": ~fields()["dones"], "terminated": None, "truncated": None}
        if name == "truncated":
            changes = {"truncated": fields()["dones"]}
        assert (made() == made(**changes)) is False

    def test_another_length_or_class_differs(self) -> None:
        assert (made() == made()[:-1]) is False
        assert (made(Transitions) == made()) is False
        assert (made() == made(Transitions)) is False

    @pytest.mark.parametrize("other", [None, 42, "text", np.arange(STEPS), np.float32(3), [1] * STEPS, object()])
    def test_anything_else_differs(self, other: Any) -> None:
        assert (made() == other) is False
        assert (other == made()) is False

    def test_infos_that_hold_arrays(self) -> None:
        a, b, c = (made(infos=[{"a": np.full(2, x)}] * STEPS) for x in (1, 1, 2))
        assert (a == b) is True
        assert (a == c) is False

    def test_not_hashable(self) -> None:
        with pytest.raises(TypeError):
            hash(made())


class TestCopies:
    @pytest.mark.parametrize("cls", CLASSES)
    @pytest.mark.parametrize("space", ["box", "dict", "tuple", "nested"])
    @pytest.mark.parametrize("how", [copy.copy, copy.deepcopy, lambda t: pickle.loads(pickle.dumps(t))])
    def test_equal(self, cls: Any, space: str, how: Any) -> None:
        transitions = made(cls, space)
        other = how(transitions)
        assert type(other) is cls
        assert other == transitions
        assert how(transitions[1:3]) == transitions[1:3]

    def test_replacing_a_field(self) -> None:
        other = dataclasses.replace(made(), rews=np.zeros(STEPS))
        assert_same(other.rews, np.zeros(STEPS))
        assert_same(other.truncated, made().truncated)
        with pytest.raises(FlagError):
            dataclasses.replace(made(), dones=np.zeros(STEPS, bool))


@st.composite
def trajectories(draw: st.DrawFn, min_size: int = 1) -> list[TrajectoryWithRew]:
    """Trajectories of one space, with a number of its own in every step."""
    space = SPACES[draw(st.sampled_from(sorted(SPACES)))]
    drawn, number = [], 0
    for steps in draw(st.lists(st.integers(1, 4), min_size=min_size, max_size=6)):
        ending = draw(st.sampled_from([(False, False), (True, False), (False, True), (True, True)]))
        drawn.append(
            TrajectoryWithRew(
                obs=batch_of(space, range(number, number + steps + 1)),
                acts=np.arange(number, number + steps),
                infos=draw(st.sampled_from([None, [{"t": number + t} for t in range(steps)]])),
                terminal=any(ending),
                rews=np.arange(number, number + steps, dtype=np.float32),
                terminated=ending[0],
                truncated=ending[1],
            )
        )
        number += steps + 1
    return drawn


class TestFlattening:
    @given(trajectories())
    def test_keeps_every_step_in_order(self, drawn: list[TrajectoryWithRew]) -> None:
        flat = flatten_trajectories_with_rew(drawn)
        expected = [
            {
                "obs": each.obs[t],
                "acts": each.acts[t],
                "infos": {} if each.infos is None else each.infos[t],
                "next_obs": each.obs[t + 1],
                "dones": each.terminal and t == len(each) - 1,
                "terminated": each.terminated and t == len(each) - 1,
                "truncated": each.truncated and t == len(each) - 1,
                "rews": each.rews[t],
            }
            for each in drawn
            for t in range(len(each))
        ]
        assert len(flat) == len(expected)
        for step, wanted in zip(flat, expected, strict=True):
            for flag in ("dones", "terminated", "truncated"):
                wanted[flag] = np.bool_(wanted[flag])
            obs = [(step.pop(name), wanted.pop(name)) for name in ("obs", "next_obs")]
            assert_same(step, wanted)
            for got, there in obs:
                # Texts are padded to the longest.
                assert got == there if isinstance(got, DictObs | TupleObs) else np.array_equal(got, there)

    @given(trajectories())
    def test_without_rewards_the_rest_is_the_same(self, drawn: list[TrajectoryWithRew]) -> None:
        with_rews = flatten_trajectories_with_rew(drawn)
        without = flatten_trajectories(drawn)
        assert type(without) is Transitions
        assert without == Transitions(**{name: value for name, value in vars(with_rews).items() if name != "rews"})

    @pytest.mark.parametrize("space", SPACES)
    def test_one_trajectory_keeps_its_dtypes(self, space: str) -> None:
        obs = batch_of(SPACES[space], range(4))
        flat = flatten_trajectories([Trajectory(obs, np.zeros((3, 2), np.float16), None, False)])
        assert_same(flat.obs, wrap(obs)[:-1])
        assert_same(flat.next_obs, wrap(obs)[1:])
        assert_same(flat.acts, np.zeros((3, 2), np.float16))

    def test_copies(self) -> None:
        original = Trajectory(np.arange(4.0), np.arange(3), [{"a": 1}] * 3, True)  # type: ignore[arg-type]
        flat = flatten_trajectories(iter([original]))
        for name in ("obs", "next_obs", "acts", "infos"):
            value = getattr(flat, name)
            assert value.flags.writeable
            assert not np.shares_memory(value, getattr(original, name, original.obs))
        assert not np.shares_memory(flat.obs, flat.next_obs)

    def test_infos_that_were_not_kept_are_empty_each_of_its_own(self) -> None:
        flat = flatten_trajectories([Trajectory(np.arange(4.0), np.arange(3), None, True)])
        assert flat.infos.tolist() == [{}, {}, {}]
        assert len({id(info) for info in flat.infos}) == 3

    @pytest.mark.parametrize("flatten", [flatten_trajectories, flatten_trajectories_with_rew])
    def test_nothing_to_flatten(self, flatten: Any) -> None:
        with pytest.raises(ShapeError, match="trajectories: expected at least one, got none"):
            flatten([])

    @pytest.mark.parametrize(
        ("second", "error", "message"),
        [
            (
                {"obs": np.zeros((3, 5))},
                ShapeError,
                r"obs: expected one shape in all 2 items, got \[\(3, 3\), \(3, 5\)\]",
            ),
            (
                {"acts": np.zeros((2, 4))},
                ShapeError,
                r"acts: expected one shape in all 2 items, got \[\(2,\), \(2, 4\)\]",
            ),
            ({"obs": {"a": np.zeros((3, 3))}}, StructureError, "obs: expected an array in item 1, .* got DictObs"),
        ],
    )
    def test_what_is_not_alike(self, second: Any, error: type[Exception], message: str) -> None:
        first = {"obs": np.zeros((3, 3)), "acts": np.zeros(2), "infos": None, "terminal": True}
        with pytest.raises(error, match=message):
            flatten_trajectories([Trajectory(**first), Trajectory(**{**first, **second})])

    def test_rewards_that_are_not_there(self) -> None:
        loose = Trajectory(np.arange(4.0), np.arange(3), None, True)
        with pytest.raises(ArgumentTypeError, match="trajectory 0: expected a TrajectoryWithRew, got a Trajectory"):
            flatten_trajectories_with_rew([loose])  # type: ignore[list-item]
