"""Dicts and tuples of arrays as one array."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st
from plain_trees import batches, trees

from vecrollout import DictObs, TupleObs
from vecrollout.data.trees import concatenate, equal, map_leaves, stack, unwrap, wrap
from vecrollout.errors import ArgumentTypeError, LengthError, ShapeError, StructureError
from vecrollout.testing import SPACES, batch_of, element_of
from vecrollout.testing.comparison import assert_same

TREE_SPACES = [name for name, space in SPACES.items() if isinstance(space, spaces.Dict | spaces.Tuple)]

A, B, C = np.arange(12.0).reshape(3, 4), np.arange(21).reshape(3, 7, 1), np.arange(3, dtype=np.uint8)


def dict_obs() -> DictObs:
    return DictObs({"a": A, "b": B, "c": C})


def tuple_obs() -> TupleObs:
    return TupleObs((A, B, C))


def nested() -> DictObs:
    return DictObs({"arm": {"angle": A, "grip": C}, "pair": (B, C)})


ALL = [dict_obs, tuple_obs, nested]


class TestLength:
    @pytest.mark.parametrize("make", ALL)
    def test_is_the_first_dimension(self, make: Any) -> None:
        assert len(make()) == 3

    def test_entries_are_counted_apart(self) -> None:
        assert dict_obs().dict_len == 3
        assert tuple_obs().tuple_len == 3
        assert nested().dict_len == 2

    @pytest.mark.parametrize(
        ("obs", "message"),
        [
            (DictObs({}), "without entries"),
            (TupleObs(()), "without entries"),
            (DictObs({"a": A, "d": np.zeros(4)}), r"\{'a': 3, 'd': 4\}"),
            (DictObs({"a": A, "d": np.zeros(())}), r"\{'a': 3, 'd': 'none'\}"),
            (DictObs({"d": 5}), "no length"),
            (TupleObs((np.float32(1), 2.0)), "no length"),
            (DictObs({"a": A, "d": {"e": np.zeros(4)}}), r"\{'a': 3, 'd': 4\}"),
            (DictObs({"a": A, "d": {}}), "without entries"),
        ],
    )
    def test_there_is_none(self, obs: Any, message: str) -> None:
        with pytest.raises(LengthError, match=message):
            len(obs)


class TestIndexing:
    @pytest.mark.parametrize(
        "key", [0, -1, np.int64(1), np.uint8(2), np.array(1), slice(1, None), slice(None, None, -2)]
    )
    def test_indexes_every_leaf(self, key: Any) -> None:
        assert_same(
            dict_obs()[key].unwrap(), {"a": np.asarray(A[key]), "b": np.asarray(B[key]), "c": np.asarray(C[key])}
        )
        assert_same(tuple_obs()[key].unwrap(), (np.asarray(A[key]), np.asarray(B[key]), np.asarray(C[key])))
        arm = {"angle": np.asarray(A[key]), "grip": np.asarray(C[key])}
        assert_same(nested()[key].unwrap(), {"arm": arm, "pair": (np.asarray(B[key]), np.asarray(C[key]))})

    @pytest.mark.parametrize("key", [[2, 0], np.array([0, 0, 1]), np.array([True, False, True])])
    def test_picks_and_masks(self, key: Any) -> None:
        assert_same(dict_obs()[key].unwrap(), {"a": A[key], "b": B[key], "c": C[key]})

    def test_several_dimensions(self) -> None:
        obs = DictObs({"a": A, "b": B})
        assert_same(obs[:, 0].unwrap(), {"a": A[:, 0], "b": B[:, 0]})
        assert_same(obs[..., 0].unwrap(), {"a": A[..., 0], "b": B[..., 0]})
        assert_same(obs[None].unwrap(), {"a": A[None], "b": B[None]})
        with pytest.raises(IndexError):
            dict_obs()[:, 0]

    def test_a_single_element_keeps_its_dtype(self) -> None:
        words = np.array(["a", "bc"], dtype=object)
        item = DictObs({"word": words, "half": np.zeros(2, np.float16)})[1]
        assert item.dtype == {"word": np.dtype(object), "half": np.dtype(np.float16)}
        assert item.get("word")[()] == "bc"

    @pytest.mark.parametrize("obs", [DictObs({"a": A})[0][0], DictObs({"d": 5}), TupleObs((2.0,))])
    def test_nothing_left_to_index(self, obs: Any) -> None:
        with pytest.raises(IndexError):
            obs[0]

    @pytest.mark.parametrize("make", ALL)
    def test_out_of_range(self, make: Any) -> None:
        with pytest.raises(IndexError):
            make()[3]

    def test_a_string_is_a_key(self) -> None:
        obs = dict_obs()
        assert obs["a"] is obs.get("a")
        assert nested()["arm"] == nested().get("arm")
        with pytest.raises(KeyError, match=r"expected one of \['a', .*got 'none'"):
            obs["none"]

    def test_a_tuple_has_no_names(self) -> None:
        with pytest.raises(KeyError, match="an index of steps"):
            TupleObs((np.zeros(2),))["a"]

    @pytest.mark.parametrize("make", ALL)
    def test_iterates_over_the_first_dimension(self, make: Any) -> None:
        obs = make()
        assert list(obs) == [obs[0], obs[1], obs[2]]
        assert next(iter(obs)) == obs[0]  # a fresh iterator each time

    def test_slices_are_views(self) -> None:
        array = A.copy()
        DictObs({"a": array})[1:].get("a")[:] = -1
        assert (array[1:] == -1).all()
        assert (array[0] == A[0]).all()


class TestEntries:
    def test_of_a_dict(self) -> None:
        obs = dict_obs()
        assert obs.get("a") is A
        assert list(obs.keys()) == ["a", "b", "c"]
        assert [id(value) for value in obs.values()] == [id(A), id(B), id(C)]
        assert [key for key, _ in obs.items()] == ["a", "b", "c"]
        assert "a" in obs
        assert "d" not in obs
        with pytest.raises(KeyError):
            obs.get("d")

    def test_of_a_tuple(self) -> None:
        obs = tuple_obs()
        assert obs.get(1) is B
        assert list(obs.keys()) == [0, 1, 2]
        assert [id(value) for value in obs.values()] == [id(A), id(B), id(C)]
        assert [key for key, _ in obs.items()] == [0, 1, 2]
        assert 2 in obs
        assert 3 not in obs
        with pytest.raises(IndexError):
            obs.get(3)

    def test_shape_and_dtype(self) -> None:
        assert dict_obs().shape == {"a": (3, 4), "b": (3, 7, 1), "c": (3,)}
        assert dict_obs().dtype == {"a": A.dtype, "b": B.dtype, "c": C.dtype}
        assert tuple_obs().shape == ((3, 4), (3, 7, 1), (3,))
        assert tuple_obs().dtype == (A.dtype, B.dtype, C.dtype)
        assert nested().shape == {"arm": {"angle": (3, 4), "grip": (3,)}, "pair": ((3, 7, 1), (3,))}
        assert nested().dtype == {"arm": {"angle": A.dtype, "grip": C.dtype}, "pair": (B.dtype, C.dtype)}
        assert DictObs({"d": 5}).shape == {"d": ()}
        assert DictObs({"d": 5.0}).dtype == {"d": np.dtype(np.float64)}

    def test_nested_entries_are_wrapped(self) -> None:
        assert isinstance(nested().get("arm"), DictObs)
        assert isinstance(nested().get("pair"), TupleObs)

    @pytest.mark.parametrize("value", ["not an array", [1, 2], None, {1, 2}, object()])
    def test_what_is_no_array_is_refused(self, value: Any) -> None:
        with pytest.raises(ArgumentTypeError, match=r"entry 'a': expected .*, got " + type(value).__name__):
            DictObs({"a": value})
        with pytest.raises(TypeError, match="entry 0"):
            TupleObs((value,))
        with pytest.raises(ArgumentTypeError, match="entry 'b'"):
            DictObs({"a": {"b": value}})

    def test_what_is_no_dict_or_tuple_is_refused(self) -> None:
        with pytest.raises(ArgumentTypeError, match="expected a dict of arrays, got ndarray"):
            DictObs(A)  # type: ignore[arg-type]
        with pytest.raises(ArgumentTypeError, match="expected a tuple of arrays, got list"):
            TupleObs([A])  # type: ignore[arg-type]

    def test_the_caller_keeps_its_dict(self) -> None:
        given = {"a": A, "pair": (B, C)}
        obs = DictObs(given)
        given["a"] = C
        assert obs.get("a") is A
        assert given["pair"] == (B, C)
        assert A.flags.writeable


class TestEquality:
    def test_by_value(self) -> None:
        assert dict_obs() == DictObs({"c": C.copy(), "a": A.astype(np.float32), "b": B.copy()})
        assert tuple_obs() == TupleObs((A.copy(), B.copy(), C.copy()))
        assert nested() == copy.deepcopy(nested())

    @pytest.mark.parametrize(
        "other",
        [
            DictObs({"a": A, "c": B, "b": C}),
            DictObs({"a": A, "b": B + 1, "c": C}),
            DictObs({"a": A, "b": B}),
            DictObs({"a": {"a": A}, "b": B, "c": C}),
            {"a": A, "b": B, "c": C},
            TupleObs((A, B, C)),
            A,
            None,
            "abc",
        ],
    )
    def test_anything_else_differs(self, other: Any) -> None:
        assert (dict_obs() == other) is False
        assert (other == dict_obs()) is False
        assert (dict_obs() != other) is True

    def test_a_dict_and_a_tuple_differ(self) -> None:
        assert TupleObs((A,)) != DictObs({0: A})  # type: ignore[dict-item]
        assert not equal(TupleObs((A,)), A)
        assert not equal(A, DictObs({"a": A}))

    def test_nan_differs(self) -> None:
        obs = DictObs({"a": np.array([np.nan])})
        assert (obs == obs) is False  # as NumPy has it

    def test_not_hashable(self) -> None:
        with pytest.raises(TypeError):
            hash(dict_obs())


class TestCombining:
    @pytest.mark.parametrize("make", ALL)
    def test_stacking_the_steps_gives_the_whole(self, make: Any) -> None:
        assert_same(type(make()).stack(make()), make())

    @pytest.mark.parametrize("make", ALL)
    def test_concatenating_the_parts_gives_the_whole(self, make: Any) -> None:
        obs = make()
        assert_same(type(obs).concatenate([obs[:1], obs[1:1], obs[1:]]), obs)

    def test_axis(self) -> None:
        obs = DictObs({"a": A, "b": B})
        assert DictObs.stack([obs, obs], axis=1).shape == {"a": (3, 2, 4), "b": (3, 2, 7, 1)}
        assert DictObs.concatenate([obs, obs], axis=1).shape == {"a": (3, 8), "b": (3, 14, 1)}
        with pytest.raises(ValueError, match="out of bounds"):
            DictObs.stack([obs, obs], axis=5)

    @pytest.mark.parametrize("name", TREE_SPACES)
    def test_from_a_list_of_observations(self, name: str) -> None:
        plain = [element_of(SPACES[name], number) for number in range(4)]
        kind = DictObs if isinstance(plain[0], dict) else TupleObs
        obs = kind.from_obs_list(plain)
        assert_same(obs, batch_of(SPACES[name], range(4)))
        assert_same(stack(plain), obs)

    @pytest.mark.parametrize("combine", [DictObs.stack, DictObs.concatenate, TupleObs.stack, stack, concatenate])
    def test_nothing_to_combine(self, combine: Any) -> None:
        with pytest.raises(StructureError, match="expected at least one, got none"):
            combine([])

    @pytest.mark.parametrize(
        ("observations", "error", "message"),
        [
            ([DictObs({"a": A}), DictObs({"b": A})], StructureError, r"obs: expected the entries \['a'\] in item 1"),
            ([DictObs({"a": A}), A], StructureError, "obs: expected a DictObs in item 1 .* got a ndarray"),
            ([A, DictObs({"a": A})], StructureError, "obs: expected an array in item 1, .* got DictObs"),
            ([TupleObs((A,)), TupleObs((A, A))], StructureError, "obs: expected the entries"),
            (
                [DictObs({"a": {"b": A}}), DictObs({"a": A})],
                StructureError,
                r"obs\['a'\]: expected a DictObs in item 1",
            ),
            ([A, B], ShapeError, r"obs: expected one shape in all 2 items, got \[\(3, 4\), \(3, 7, 1\)\]"),
            ([DictObs({"a": A}), DictObs({"a": B})], ShapeError, r"obs\['a'\]: expected one shape"),
        ],
    )
    @pytest.mark.parametrize("combine", [stack, concatenate])
    def test_what_is_not_alike(self, combine: Any, observations: Any, error: type[Exception], message: str) -> None:
        with pytest.raises(error, match=message):
            combine(observations)

    def test_a_class_combines_its_own(self) -> None:
        with pytest.raises(StructureError, match="expected a DictObs, got a TupleObs"):
            DictObs.stack([tuple_obs()])  # type: ignore[list-item]

    def test_copies(self) -> None:
        joined = concatenate([dict_obs()])
        assert not np.shares_memory(joined.get("a"), A)


class TestMapping:
    def test_every_leaf(self) -> None:
        expected = {"arm": {"angle": A + 1, "grip": C + 1}, "pair": (B + 1, C + 1)}
        assert_same(nested().map_arrays(lambda leaf: leaf + 1), expected)
        assert_same(map_leaves(lambda leaf: leaf + 1, A), A + 1)

    def test_to_something_else_is_refused(self) -> None:
        with pytest.raises(ArgumentTypeError, match=r"entry 'angle': expected .*, got list"):
            nested().map_arrays(lambda leaf: leaf.tolist())


class TestCopies:
    @pytest.mark.parametrize("make", ALL)
    @pytest.mark.parametrize("how", [copy.copy, copy.deepcopy, lambda obs: pickle.loads(pickle.dumps(obs))])
    def test_equal(self, make: Any, how: Any) -> None:
        assert_same(how(make()), make())
        assert type(how(make())) is type(make())

    def test_a_shallow_one_shares_the_arrays(self) -> None:
        assert copy.copy(dict_obs()).get("a") is A
        assert copy.deepcopy(dict_obs()).get("a") is not A

    def test_shown_in_one_line(self) -> None:
        assert repr(DictObs({"pair": (np.array([1], np.int8), 2)})) == "<DictObs {pair: (int8[1], int64[])}>"
        assert repr(nested()) == (
            "<DictObs {arm: {angle: float64[3, 4], grip: uint8[3]}, pair: (int64[3, 7, 1], uint8[3])}>"
        )


class TestWrapping:
    @given(trees(leaves=st.integers() | st.floats() | st.just(A) | st.just(np.float32(2))))
    def test_unwrap_undoes_wrap(self, tree: Any) -> None:
        wrapped = wrap(tree)
        assert isinstance(wrapped, DictObs) == isinstance(tree, dict)
        assert isinstance(wrapped, TupleObs) == isinstance(tree, tuple)
        assert_same(unwrap(wrapped), tree)

    @given(batches())
    def test_wrap_undoes_unwrap(self, tree: Any) -> None:
        assert_same(wrap(unwrap(wrap(tree))), wrap(tree))

    def test_wrapped_stays_as_it_is(self) -> None:
        obs = nested()
        assert wrap(obs) is obs
        assert unwrap(A) is A

    def test_no_array_is_copied(self) -> None:
        plain = wrap({"a": A, "pair": (B, C)}).unwrap()
        assert plain["a"] is A
        assert plain["pair"][0] is B
