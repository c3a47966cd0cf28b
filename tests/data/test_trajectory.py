"""Trajectories: what they hold, what they refuse, and how they come from people's own arrays."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vecrollout import (
    DictObs,
    Episode,
    Sink,
    Trajectory,
    TrajectoryWithRew,
    TupleObs,
    flatten_trajectories_with_rew,
)
from vecrollout.data.trees import wrap
from vecrollout.errors import (
    ArgumentTypeError,
    DtypeError,
    FlagError,
    OptionError,
    ShapeError,
    StitchError,
    StructureError,
)
from vecrollout.testing import SPACES, batch_of, element_of
from vecrollout.testing.comparison import assert_same

STEPS = 4


def infos(steps: int = STEPS) -> npt.NDArray[np.object_]:
    array = np.empty(steps, dtype=object)
    array[:] = [{"t": t, "map": np.full((2, 2), t)} for t in range(steps)]
    return array


def fields(space: str = "box", steps: int = STEPS) -> dict[str, Any]:
    """What a trajectory with rewards is made of, each value telling its step."""
    return {
        "obs": wrap(batch_of(SPACES[space], range(steps + 1))),
        "acts": np.arange(steps),
        "infos": infos(steps),
        "terminal": True,
        "rews": np.arange(steps, dtype=np.float32),
    }


def trajectory(space: str = "box", steps: int = STEPS, **changes: Any) -> TrajectoryWithRew:
    return TrajectoryWithRew(**{**fields(space, steps), **changes})


class TestFields:
    def test_names_order_and_defaults(self) -> None:
        assert [each.name for each in dataclasses.fields(Trajectory) if not each.kw_only] == [
            "obs",
            "acts",
            "infos",
            "terminal",
        ]
        assert [each.name for each in dataclasses.fields(TrajectoryWithRew) if not each.kw_only] == [
            "obs",
            "acts",
            "infos",
            "terminal",
            "rews",
        ]
        kept = fields()
        positional = TrajectoryWithRew(kept["obs"], kept["acts"], kept["infos"], True, kept["rews"])
        assert positional == trajectory()

    @pytest.mark.parametrize("space", SPACES)
    def test_length_counts_steps(self, space: str) -> None:
        assert len(trajectory(space)) == STEPS
        assert len(trajectory(space).obs) == STEPS + 1

    def test_frozen(self) -> None:
        with pytest.raises(dataclasses.FrozenInstanceError):
            trajectory().obs = np.zeros(5)  # type: ignore[misc]

    def test_arrays_are_neither_copied_nor_altered(self) -> None:
        kept = fields()
        before = copy.deepcopy(kept)
        made = TrajectoryWithRew(**kept)
        for name in ("obs", "acts", "rews", "infos"):
            assert getattr(made, name) is kept[name]
            assert kept[name].flags.writeable
            assert_same(kept[name], before[name])

    def test_lists_become_arrays(self) -> None:
        made = TrajectoryWithRew(
            obs=[[0.0], [1.0], [2.0]], acts=[0, 1], infos=[{"t": 0}, {"t": 1}], terminal=False, rews=[0.5, 1.5]
        )  # type: ignore[arg-type]
        assert_same(made.obs, np.array([[0.0], [1.0], [2.0]]))
        assert_same(made.acts, np.array([0, 1]))
        assert_same(made.rews, np.array([0.5, 1.5]))
        assert made.infos is not None
        assert made.infos.dtype == object
        assert made.infos.tolist() == [{"t": 0}, {"t": 1}]

    def test_tensors_become_arrays(self) -> None:
        made = trajectory(obs=torch.zeros(STEPS + 1, 3), acts=torch.arange(STEPS))
        assert_same(made.obs, np.zeros((STEPS + 1, 3), np.float32))
        assert_same(made.acts, np.arange(STEPS))

    @pytest.mark.parametrize("sequence", [list, tuple])
    def test_infos_are_not_looked_into(self, sequence: Any) -> None:
        """Whatever else a payload is, it is one element."""

        class Payload(dict[str, Any]):
            def __array__(self) -> Any:
                raise AssertionError("looked into")

        payloads = [Payload(t=t) for t in range(STEPS)]
        made = trajectory(infos=sequence(payloads))
        assert made.infos is not None
        assert [id(info) for info in made.infos] == [id(payload) for payload in payloads]

    def test_observations_and_actions_may_be_trees(self) -> None:
        made = trajectory(
            obs=batch_of(SPACES["nested"], range(STEPS + 1)), acts=batch_of(SPACES["tuple"], range(STEPS))
        )
        assert isinstance(made.obs, DictObs)
        assert isinstance(made.acts, TupleObs)
        assert len(made) == STEPS


class TestEnding:
    @pytest.mark.parametrize(
        ("terminal", "given", "terminated", "truncated", "ended_by"),
        [
            (True, {}, True, False, "terminated"),
            (False, {}, False, False, None),
            (True, {"truncated": True}, False, True, "truncated"),
            (True, {"truncated": False}, True, False, "terminated"),
            (True, {"terminated": True}, True, False, "terminated"),
            (True, {"terminated": False}, False, True, "truncated"),
            (True, {"terminated": True, "truncated": True}, True, True, "terminated"),
            (False, {"terminated": False, "truncated": False}, False, False, None),
            (np.True_, {"terminated": np.False_, "truncated": np.True_}, False, True, "truncated"),
        ],
    )
    def test_flags_follow_terminal(
        self, terminal: Any, given: Any, terminated: bool, truncated: bool, ended_by: str | None
    ) -> None:
        made = trajectory(terminal=terminal, **given)
        assert made.terminal is bool(terminal)
        assert made.terminated is terminated
        assert made.truncated is truncated
        assert made.episode == Episode(ended_by=ended_by)  # type: ignore[arg-type]

    @pytest.mark.parametrize(
        ("terminal", "given"),
        [
            (False, {"terminated": True}),
            (False, {"truncated": True}),
            (True, {"terminated": False, "truncated": False}),
            (False, {"terminated": True, "truncated": True}),
        ],
    )
    def test_contradictions_are_refused(self, terminal: bool, given: Any) -> None:
        with pytest.raises(FlagError, match=f"terminal: expected {not terminal}.*got {terminal}.*None to derive them"):
            trajectory(terminal=terminal, **given)

    def test_a_changed_terminal_needs_its_flags_changed(self) -> None:
        whole = trajectory()
        with pytest.raises(FlagError):
            dataclasses.replace(whole, terminal=False)
        assert dataclasses.replace(whole, terminal=False, terminated=None).terminated is False


class TestValidation:
    @pytest.mark.parametrize(
        ("changes", "error", "message"),
        [
            ({"obs": np.zeros((4, 3))}, ShapeError, r"obs: expected one more obs.* 5 rows \(acts has 4 steps\), got 4"),
            ({"acts": np.zeros(3)}, ShapeError, r"obs: expected one more obs.* 4 rows \(acts has 3 steps\), got 5"),
            ({"infos": infos(3)}, ShapeError, r"infos: infos when present .*: expected shape \(4,\), got \(3,\)"),
            ({"infos": infos(4).reshape(4, 1)}, ShapeError, r"infos: .* expected shape \(4,\), got \(4, 1\)"),
            ({"rews": np.zeros(3)}, ShapeError, r"rews: rewards must be 1D array, .* shape \(4,\), got \(3,\)"),
            ({"rews": np.zeros((4, 1))}, ShapeError, r"rews: .* expected shape \(4,\), got \(4, 1\)"),
            ({"rews": np.zeros(4, int)}, DtypeError, r"rews: rewards dtype int64 not a float; convert with"),
            ({"infos": np.zeros(4)}, DtypeError, "infos: expected an array of dicts, dtype object, got dtype float64"),
            ({"infos": {"t": 1}}, ArgumentTypeError, "infos: expected one dict a step, got a dict"),
            ({"infos": 5}, ArgumentTypeError, "infos: expected one dict a step, got a int"),
            ({"obs": None}, ShapeError, "obs: expected one row a step, got no rows"),
            ({"acts": 3}, ShapeError, "acts: expected one row a step, got no rows"),
            ({"acts": np.zeros(())}, ShapeError, "acts: expected one row a step, got no rows"),
            ({"acts": [[1], [1, 2], [], []]}, ShapeError, "acts: expected rows of one shape, got list"),
            ({"acts": torch.zeros(4, requires_grad=True)}, ArgumentTypeError, "acts: expected an array, got Tensor"),
            ({"obs": {"a": np.zeros(5), "b": np.zeros(4)}}, ShapeError, r"obs: .* got \{'a': 5, 'b': 4\}"),
            ({"obs": {"a": np.zeros(5), "b": 1}}, ShapeError, r"obs: .* got \{'a': 5, 'b': 'none'\}"),
            ({"obs": {}}, ShapeError, "obs: .* without entries"),
            ({"obs": {"a": "text"}}, ArgumentTypeError, "entry 'a': expected a NumPy array"),
        ],
    )
    def test_names_the_field_what_was_expected_and_what_came(
        self, changes: Any, error: type[Exception], message: str
    ) -> None:
        with pytest.raises(error, match=message):
            trajectory(**changes)

    def test_at_least_one_step(self) -> None:
        with pytest.raises(ShapeError, match="acts: Degenerate trajectory"):
            Trajectory(obs=np.zeros((1, 3)), acts=np.zeros(0), infos=None, terminal=True)

    @pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.longdouble])
    def test_any_float_is_a_reward(self, dtype: Any) -> None:
        assert trajectory(rews=np.zeros(STEPS, dtype)).rews.dtype == dtype


class TestEquality:
    @pytest.mark.parametrize("space", SPACES)
    def test_by_value(self, space: str) -> None:
        assert trajectory(space) == trajectory(space)
        assert (trajectory(space) != trajectory(space)) is False

    @pytest.mark.parametrize("name", ["obs", "acts", "rews", "infos"])
    def test_every_field_counts(self, name: str) -> None:
        changed = np.roll(fields()[name], 1, axis=0)
        assert (trajectory() == trajectory(**{name: changed})) is False

    def test_every_flag_counts(self) -> None:
        made = [
            trajectory(terminal=False),
            trajectory(),
            trajectory(truncated=True),
            trajectory(terminated=True, truncated=True),
        ]
        assert [[a == b for a in made] for b in made] == np.eye(4, dtype=bool).tolist()

    def test_a_tree_of_observations_differs_in_one_leaf(self) -> None:
        plain = batch_of(SPACES["nested"], range(STEPS + 1))
        plain["arm"]["angle"] = plain["arm"]["angle"] + 1
        assert (trajectory("nested") == trajectory(obs=plain)) is False

    def test_identity_does_not_count(self) -> None:
        assert trajectory(episode=Episode(id=3, reset_info={"map": np.zeros(3)})) == trajectory()

    def test_infos_of_none_equal_empty_ones(self) -> None:
        assert trajectory(infos=None) == trajectory(infos=[{}] * STEPS)
        assert trajectory(infos=[{}] * STEPS) == trajectory(infos=None)
        assert trajectory(infos=None) == trajectory(infos=None)
        assert trajectory(infos=None) != trajectory()

    def test_with_and_without_rewards_differ(self) -> None:
        kept = fields()
        del kept["rews"]
        assert (Trajectory(**kept) == trajectory()) is False
        assert (trajectory() == Trajectory(**kept)) is False

    @pytest.mark.parametrize("other", [None, 42, "text", np.arange(STEPS), np.float32(3), [1, 2, 3, 4], object()])
    def test_anything_else_differs(self, other: Any) -> None:
        assert (trajectory() == other) is False
        assert (other == trajectory()) is False

    def test_nan_differs(self) -> None:
        made = trajectory(rews=np.full(STEPS, np.nan))
        assert (made == made) is False  # as NumPy has it

    def test_payloads_that_cannot_be_compared(self) -> None:
        class Raises:
            __hash__ = object.__hash__

            def __eq__(self, other: object) -> bool:
                raise ZeroDivisionError

        class Nonsense:
            __hash__ = object.__hash__

            def __eq__(self, other: object) -> Any:
                return np.zeros(3)

        for payload in (Raises, Nonsense):
            a, b = (trajectory(infos=[{"payload": payload()}] * STEPS) for _ in range(2))
            assert (a == b) is False
            assert (a == copy.copy(a)) is True
            objects = trajectory(obs=np.array([payload() for _ in range(STEPS + 1)]))
            assert (objects == trajectory()) is False

    def test_not_hashable(self) -> None:
        with pytest.raises(TypeError):
            hash(trajectory())


class TestEpisode:
    def test_equality_never_raises(self) -> None:
        a, b = (Episode(id=1, reset_info={"map": np.arange(3)}) for _ in range(2))
        assert (a == b) is True
        assert (a == Episode(id=1, reset_info={"map": np.arange(4)})) is False
        assert (a == Episode(id=2, reset_info={"map": np.arange(3)})) is False
        assert (a == (1,)) is False
        assert len({a, b}) == 1

    def test_defaults(self) -> None:
        assert dataclasses.asdict(Episode()) == {
            "id": None,
            "env_index": None,
            "start_step": 0,
            "seed": None,
            "reset_info": None,
            "ended_by": None,
            "recording": None,
        }


class TestCopies:
    @pytest.mark.parametrize("space", ["box", "dict", "tuple", "nested"])
    @pytest.mark.parametrize("how", [copy.copy, copy.deepcopy, lambda made: pickle.loads(pickle.dumps(made))])
    def test_equal_identity_included(self, space: str, how: Any) -> None:
        made = trajectory(space, episode=Episode(id=3, env_index=1, start_step=2, seed=7, reset_info={"a": np.ones(2)}))
        other = how(made)
        assert type(other) is TrajectoryWithRew
        assert_same(vars(other)["obs"], made.obs)
        assert other == made
        assert other.episode == made.episode

    def test_replacing_a_field(self) -> None:
        made = trajectory(episode=Episode(id=3))
        other = dataclasses.replace(made, obs=made.obs + 1, infos=None)
        assert_same(other.obs, made.obs + 1)
        assert other.infos is None
        assert other.episode is made.episode
        with pytest.raises(ShapeError):
            dataclasses.replace(made, acts=made.acts[:-1])

    def test_a_deep_copy_is_independent(self) -> None:
        made = trajectory()
        other = copy.deepcopy(made)
        other.obs[:] = -1
        assert other.infos is not None
        other.infos[0]["t"] = -1
        assert made == trajectory()


def test_a_list_is_a_sink() -> None:
    def fill(sink: Sink) -> None:
        sink.append(trajectory())

    collected: list[TrajectoryWithRew] = []
    fill(collected)
    assert collected == [trajectory()]


class TestFromArrays:
    @pytest.mark.parametrize("space", SPACES)
    def test_with_all_observations(self, space: str) -> None:
        kept = fields(space)
        plain = kept["obs"].unwrap() if hasattr(kept["obs"], "unwrap") else kept["obs"]
        made = Trajectory.from_arrays(plain, kept["acts"], kept["rews"], kept["infos"], terminated=True)
        assert made == trajectory(space)
        assert_same(made.obs, plain)

    @pytest.mark.parametrize("space", SPACES)
    def test_with_the_final_observation_apart(self, space: str) -> None:
        obs = batch_of(SPACES[space], range(STEPS))
        final = element_of(SPACES[space], STEPS)
        if space == "text":  # the batch has no room for a longer one than it has
            assert len(final) == 1
        made = Trajectory.from_arrays(obs, np.arange(STEPS), final_obs=final)
        assert_same(made.obs, batch_of(SPACES[space], range(STEPS + 1)))
        assert not made.terminal

    @pytest.mark.parametrize("space", SPACES)
    def test_dropping_the_last_step(self, space: str) -> None:
        obs = batch_of(SPACES[space], range(STEPS))
        made = Trajectory.from_arrays(
            obs, np.arange(STEPS), np.arange(STEPS), infos(), terminated=True, truncated=True, drop_last=True
        )
        expected = trajectory(space, STEPS - 1, terminal=False)
        assert made == expected
        assert made.episode.ended_by is None

    def test_without_a_successor_it_asks(self) -> None:
        with pytest.raises(ShapeError, match=r"obs: expected 5 rows .* got 4: .* pass final_obs= .* or drop_last=True"):
            Trajectory.from_arrays(np.zeros((4, 2)), np.zeros(4))

    def test_kinds_of_lists(self) -> None:
        made = Trajectory.from_arrays([[0, 1], [2, 3], [4, 5]], [0, 1], [1, 2], [{"t": 0}, {"t": 1}], truncated=True)
        assert isinstance(made, TrajectoryWithRew)
        assert_same(made.obs, np.array([[0, 1], [2, 3], [4, 5]]))
        assert_same(made.rews, np.array([1.0, 2.0]))
        assert (made.terminated, made.truncated, made.episode.ended_by) == (False, True, "truncated")

    @pytest.mark.parametrize("space", ["dict", "nested"])
    def test_a_list_of_dicts(self, space: str) -> None:
        listed = [element_of(SPACES[space], number) for number in range(3)]
        assert_same(Trajectory.from_arrays(listed, [0, 1]).obs, batch_of(SPACES[space], range(3)))

    def test_with_rewards_or_without(self) -> None:
        assert type(Trajectory.from_arrays(np.zeros(3), np.zeros(2))) is Trajectory
        assert type(Trajectory.from_arrays(np.zeros(3), np.zeros(2), np.zeros(2))) is TrajectoryWithRew

    @pytest.mark.parametrize("dtype", [np.int64, np.int8, np.bool_, np.uint16])
    def test_integers_become_float64_rewards(self, dtype: Any) -> None:
        assert_same(Trajectory.from_arrays(np.zeros(3), np.zeros(2), np.ones(2, dtype)).rews, np.ones(2))

    @pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
    def test_floats_stay_what_they_are(self, dtype: Any) -> None:
        assert_same(Trajectory.from_arrays(np.zeros(3), np.zeros(2), np.ones(2, dtype)).rews, np.ones(2, dtype))

    def test_read_only_views_of_arrays_that_stay_writable(self) -> None:
        kept = fields()
        made = Trajectory.from_arrays(kept["obs"], kept["acts"], kept["rews"], kept["infos"])
        for name in ("obs", "acts", "rews", "infos"):
            assert np.shares_memory(getattr(made, name), kept[name])
            assert not getattr(made, name).flags.writeable
            assert kept[name].flags.writeable

    @pytest.mark.parametrize(
        ("final", "dtype"), [(300, np.uint8), (-1, np.uint8), (0.5, np.int64), (np.nan, np.int64), ("ab", "<U1")]
    )
    def test_a_final_observation_that_would_change(self, final: Any, dtype: Any) -> None:
        with pytest.raises(DtypeError, match=r"final_obs: expected what .*, the dtype of obs, can hold"):
            Trajectory.from_arrays(np.zeros(2, dtype), np.zeros(2), final_obs=final)

    @pytest.mark.parametrize("final", [3, np.int64(3), np.float64(3), np.array(3, np.int8)])
    @pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float32])
    def test_a_final_observation_in_another_dtype(self, final: Any, dtype: Any) -> None:
        made = Trajectory.from_arrays(np.zeros(2, dtype), np.zeros(2), final_obs=final)
        assert_same(made.obs, np.array([0, 0, 3], dtype))

    def test_a_final_observation_of_longer_floats_is_rounded(self) -> None:
        made = Trajectory.from_arrays(np.zeros(2, np.float32), np.zeros(2), final_obs=0.1)
        assert_same(made.obs, np.array([0, 0, 0.1], np.float32))

    @pytest.mark.parametrize(
        ("changes", "error", "message"),
        [
            ({"obs": np.zeros((3, 2))}, ShapeError, r"obs: expected 5 rows \(acts has 4 steps\), got 3"),
            ({"obs": np.zeros((6, 2))}, ShapeError, r"obs: expected 5 rows \(acts has 4 steps\), got 6"),
            (
                {"final_obs": np.zeros(2)},
                ShapeError,
                r"obs: expected 4 rows beside final_obs \(acts has 4 steps\), got 5",
            ),
            ({"obs": np.zeros((4, 2)), "final_obs": np.zeros(3)}, ShapeError, r"final_obs: expected shape \(2,\)"),
            (
                {"obs": {"a": np.zeros((4, 2))}, "final_obs": {"a": np.zeros(3)}},
                ShapeError,
                r"final_obs\['a'\]: expected shape \(2,\), that of a row of obs, got \(3,\)",
            ),
            (
                {"obs": {"a": np.zeros((4, 2))}, "final_obs": {"b": np.zeros(2)}},
                StructureError,
                r"final_obs: expected a dict with \['a'\], got a dict with \['b'\]",
            ),
            ({"obs": np.zeros((4, 2)), "final_obs": np.zeros(2), "drop_last": True}, OptionError, "got both"),
            ({"rews": np.zeros(3)}, ShapeError, r"rews: expected 4 rows \(acts has 4 steps\), got 3"),
            ({"rews": np.zeros((4, 1))}, ShapeError, r"rews: .* expected shape \(4,\), got \(4, 1\)"),
            ({"rews": ["a"] * 4}, DtypeError, "rews: expected real numbers, got dtype <U1"),
            ({"rews": [1j] * 4}, DtypeError, "rews: expected real numbers, got dtype complex128"),
            ({"rews": [None, {}, 1, 2]}, DtypeError, "rews: expected real numbers, got dtype object"),
            ({"infos": [{}] * 3}, ShapeError, r"infos: expected 4 rows \(acts has 4 steps\), got 3"),
            (
                {"obs": np.zeros((1, 2)), "acts": [0], "drop_last": True},
                ShapeError,
                "acts: expected at least 2 steps, as drop_last=True leaves one out, got 1",
            ),
            ({"acts": [], "obs": np.zeros((1, 2))}, ShapeError, "Degenerate"),
            ({"obs": [{"a": 1}] * 4 + [{"b": 1}]}, StructureError, r"obs: expected the entries \['a'\] in item 4"),
        ],
    )
    def test_what_does_not_fit(self, changes: Any, error: type[Exception], message: str) -> None:
        with pytest.raises(error, match=message):
            Trajectory.from_arrays(**{"obs": np.zeros((5, 2)), "acts": np.zeros(4), **changes})

    @pytest.mark.parametrize("flag", [True, np.True_, 1])
    def test_flags_become_plain_ones(self, flag: Any) -> None:
        made = Trajectory.from_arrays(np.zeros(3), np.zeros(2), truncated=flag)
        assert (made.terminal, made.terminated, made.truncated) == (True, False, True)
        assert {type(made.terminal), type(made.terminated), type(made.truncated)} == {bool}

    def test_nothing_to_drop(self) -> None:
        """One setting does for data of which only a part lacks the last observations."""
        made = Trajectory.from_arrays(np.zeros(3), np.zeros(2), terminated=True, drop_last=True)
        assert (len(made), made.terminated) == (2, True)


@st.composite
def recordings(draw: st.DrawFn) -> list[TrajectoryWithRew]:
    """Whole episodes, and perhaps a running one behind them, whose observations count on and on."""
    space = SPACES[draw(st.sampled_from(sorted(SPACES)))]
    episodes = draw(st.lists(st.tuples(st.integers(1, 5), st.sampled_from(["terminated", "truncated", "both"]))))
    running = draw(st.integers(0 if episodes else 1, 3))
    made, number = [], 0
    for steps, ending in [*episodes, *([(running, "none")] if running else [])]:
        numbers = range(number, number + steps)
        made.append(
            TrajectoryWithRew(
                # Three digits each: a text of the same length.
                obs=batch_of(space, [100 + n % 156 for n in range(number, number + steps + 1)]),
                acts=np.array(numbers),
                infos=np.array([{"n": n} for n in numbers]),
                terminal=ending != "none",
                rews=np.array(numbers, np.float32) / 2,
                terminated=ending in ("terminated", "both"),
                truncated=ending in ("truncated", "both"),
            )
        )
        number += steps + 1
    return made


class TestFromFlat:
    @given(recordings())
    def test_undoes_flattening(self, made: list[TrajectoryWithRew]) -> None:
        flat = flatten_trajectories_with_rew(made)
        again = Trajectory.from_flat(
            flat.obs, flat.acts, flat.rews, flat.terminated, flat.truncated, next_obs=flat.next_obs, infos=flat.infos
        )
        assert again == made
        for a, b in zip(again, made, strict=True):
            assert_same(a.obs, b.obs)
            assert_same(a.acts, b.acts)
            assert_same(a.rews, b.rews)
            assert a.episode.ended_by == b.episode.ended_by
        assert [each.episode.id for each in again] == list(range(len(made)))

    @given(recordings())
    def test_without_the_last_steps(self, made: list[TrajectoryWithRew]) -> None:
        flat = flatten_trajectories_with_rew(made)
        again = Trajectory.from_flat(flat.obs, flat.acts, flat.rews, flat.terminated, flat.truncated, drop_last=True)
        kept = [(number, each) for number, each in enumerate(made) if len(each) > 1]
        assert [each.episode.id for each in again] == [number for number, _ in kept]
        for a, (_, b) in zip(again, kept, strict=True):
            assert_same(a.obs, b.obs[:-1])
            assert_same(a.acts, b.acts[:-1])
            assert_same(a.rews, b.rews[:-1])
            assert (a.terminal, a.terminated, a.truncated, a.episode.ended_by) == (False, False, False, None)

    def test_flags_may_be_numbers(self) -> None:
        obs = np.arange(5.0)
        for dtype in (np.bool_, np.uint8, np.float32):
            made = Trajectory.from_flat(
                obs, obs, obs, np.array([0, 1, 0, 0, 0], dtype), np.array([0, 0, 0, 0, 1], dtype), next_obs=obs + 1
            )
            assert [len(each) for each in made] == [2, 3]
            assert [(each.terminated, each.truncated) for each in made] == [(True, False), (False, True)]

    def test_without_timeouts(self) -> None:
        obs = np.arange(4.0)
        made = Trajectory.from_flat(obs, obs, [1, 2, 3, 4], [0, 0, 1, 0], next_obs=obs + 1)
        assert [(len(each), each.terminal) for each in made] == [(3, True), (1, False)]
        assert_same(made[0].rews, np.array([1.0, 2.0, 3.0]))

    def test_no_rows(self) -> None:
        assert Trajectory.from_flat(np.zeros((0, 2)), np.zeros(0), np.zeros(0), [], [], drop_last=True) == []

    def test_nan_is_no_gap(self) -> None:
        obs = np.array([np.nan, np.nan, np.nan])
        made = Trajectory.from_flat(obs, np.zeros(3), np.zeros(3), [0, 0, 1], next_obs=obs)
        assert [len(each) for each in made] == [3]

    def test_read_only_views_of_arrays_that_stay_writable(self) -> None:
        obs, acts, rews = np.arange(4.0), np.zeros(4), np.zeros(4)
        (made,) = Trajectory.from_flat(obs, acts, rews, np.array([0, 0, 0, 1]), drop_last=True)
        for view, given_array in ((made.obs, obs), (made.acts, acts), (made.rews, rews)):
            assert np.shares_memory(view, given_array)
            assert not view.flags.writeable
            assert given_array.flags.writeable

    @pytest.mark.parametrize(
        ("changes", "error", "message"),
        [
            ({"next_obs": None}, ShapeError, "next_obs: .* got None: .* pass next_obs=, or drop_last=True"),
            ({"drop_last": True}, OptionError, "got both"),
            ({"obs": np.zeros((4, 2))}, ShapeError, r"obs: expected 5 rows \(acts has 5 steps\), got 4"),
            ({"rews": np.zeros(4)}, ShapeError, r"rews: expected 5 rows \(acts has 5 steps\), got 4"),
            ({"infos": [{}] * 4}, ShapeError, r"infos: expected 5 rows \(acts has 5 steps\), got 4"),
            ({"next_obs": np.zeros((4, 2))}, ShapeError, r"next_obs: expected 5 rows \(acts has 5 steps\), got 4"),
            ({"next_obs": np.zeros((5, 3))}, ShapeError, r"next_obs: expected shape \(5, 2\) as in obs, got \(5, 3\)"),
            ({"next_obs": np.zeros((5, 2), int)}, DtypeError, "next_obs: expected dtype float64 as in obs, got int64"),
            ({"next_obs": {"a": np.zeros(5)}}, StructureError, "next_obs: expected an array, got a dict"),
            ({"next_obs": np.ones((5, 2))}, StitchError, r"next_obs\[i\] to be obs\[i \+ 1\] .* rows \[0, 5\)"),
            ({"terminals": np.zeros(4, bool)}, ShapeError, r"terminals: .* expected shape \(5,\), got \(4,\)"),
            ({"timeouts": np.zeros((5, 1))}, ShapeError, r"timeouts: .* expected shape \(5,\), got \(5, 1\)"),
            ({"terminals": np.full(5, 0.5)}, DtypeError, "terminals: terminals must be boolean, got float64"),
            ({"timeouts": np.full(5, 2)}, DtypeError, "timeouts: timeouts must be boolean, got int64"),
        ],
    )
    def test_what_does_not_fit(self, changes: Any, error: type[Exception], message: str) -> None:
        kept: dict[str, Any] = {
            "obs": np.zeros((5, 2)),
            "acts": np.zeros(5),
            "rews": np.zeros(5),
            "terminals": np.zeros(5, bool),
            "next_obs": np.zeros((5, 2)),
        }
        with pytest.raises(error, match=message):
            Trajectory.from_flat(**{**kept, **changes})
