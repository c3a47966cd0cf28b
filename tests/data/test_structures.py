"""The structure of a tree, and the leaves that it takes out."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from plain_trees import batches

from vecrollout import DictObs, TupleObs
from vecrollout.data.structures import Structure, same_bits
from vecrollout.data.trees import wrap
from vecrollout.errors import StructureError
from vecrollout.testing import assert_same

A, B, C = np.arange(12.0).reshape(3, 4), np.arange(21).reshape(3, 7, 1), np.arange(3, dtype=np.uint8)
NESTED = {"arm": {"angle": A, "grip": C}, "pair": (B, C)}


def ids(leaves: Any) -> list[int]:
    return list(map(id, leaves))


@given(batches())
def test_unflatten_undoes_flatten(tree: Any) -> None:
    structure = Structure.of(tree)
    leaves = structure.flatten(tree)
    assert_same(structure.unflatten(leaves), wrap(tree))
    assert ids(structure.flatten(wrap(tree))) == ids(leaves)
    assert Structure.of(wrap(tree)) == structure
    assert len(structure.names()) == len(leaves)
    assert structure.is_leaf == isinstance(tree, np.ndarray)


@given(batches(), st.data())
def test_indexing_a_tree_indexes_its_leaves(tree: Any, data: st.DataObject) -> None:
    structure = Structure.of(tree)
    leaves = structure.flatten(tree)
    key = data.draw(st.slices(len(leaves[0])))
    assert_same(wrap(tree)[key], structure.unflatten(leaf[key] for leaf in leaves))


def test_twelve_nested_leaves() -> None:
    leaves = [np.full((2, i + 1), i) for i in range(12)]
    tree = {
        "camera": {"left": leaves[0], "right": leaves[1]},
        "arm": ({"angle": leaves[2], "speed": leaves[3], "force": leaves[4]}, leaves[5]),
        "goal": leaves[6],
        "hand": ((leaves[7], leaves[8]), (leaves[9],)),
        "time": {"now": {"s": leaves[10]}, "left": leaves[11]},
    }
    structure = Structure.of(tree)
    assert ids(structure.flatten(tree)) == ids(leaves)
    assert ids(structure.flatten(wrap(tree))) == ids(leaves)
    assert_same(structure.unflatten(leaves), wrap(tree))
    assert structure.names()[3] == "obs['arm'][0]['speed']"


def test_names() -> None:
    names = ["obs['arm']['angle']", "obs['arm']['grip']", "obs['pair'][0]", "obs['pair'][1]"]
    assert Structure.of(NESTED).names() == names
    assert Structure.of(A).names("acts") == ["acts"]


def test_leaves_come_in_the_structures_order_of_keys() -> None:
    structure = Structure.of({"b": B, "a": {"y": A, "x": C}})
    assert ids(structure.flatten({"a": {"x": C, "y": A}, "b": B})) == ids([B, A, C])
    assert ids(structure.flatten(DictObs({"a": {"x": C, "y": A}, "b": B}))) == ids([B, A, C])


def test_leaves_may_be_numbers() -> None:
    assert list(Structure.of({"a": 1, "b": (2.0, np.float32(3))}).flatten({"a": 4, "b": (5.0, A)})) == [4, 5.0, A]


@pytest.mark.parametrize("tree", [A, {}, (), {"a": A}, (A,), NESTED], ids=str)
def test_copies_and_comparisons(tree: Any) -> None:
    structure = Structure.of(tree)
    for other in (copy.deepcopy(structure), pickle.loads(pickle.dumps(structure))):
        assert other == structure
        assert hash(other) == hash(structure)
        assert ids(other.flatten(tree)) == ids(structure.flatten(tree))
    assert structure != Structure.of({"another": A})
    assert structure != structure.spec


MISMATCHES = [
    (A, r"obs: expected a dict with \['arm', 'pair'\], got an array \(ndarray\)"),
    ({"arm": A}, r"obs: expected a dict with \['arm', 'pair'\], got a dict with \['arm'\]"),
    ({**NESTED, "more": A}, r"obs: expected a dict with .*, got a dict with \['arm', 'pair', 'more'\]"),
    (tuple(NESTED.values()), r"obs: expected a dict with .*, got a tuple with \[0, 1\]"),
    ({"arm": A, "pair": A}, r"obs\['arm'\]: expected a dict with \['angle', 'grip'\], got an array"),
    ({"arm": {"angle": A, "grip": C}, "pair": (A,)}, r"obs\['pair'\]: expected a tuple with \[0, 1\], got a tuple"),
    ({"arm": {"angle": A, "grip": (C,)}, "pair": (A, A)}, r"obs\['arm'\]\['grip'\]: expected an array, got a tup"),
    ({"arm": {"angle": A, "grip": {}}, "pair": (A, A)}, r"obs\['arm'\]\['grip'\]: expected an array, got a dict"),
    ({"arm": {"angle": A, "g": C}, "pair": (A, A)}, r"obs\['arm'\]: .* got a dict with \['angle', 'g'\]"),
]


@pytest.mark.parametrize(("tree", "message"), MISMATCHES)
@pytest.mark.parametrize("form", [lambda tree: tree, wrap], ids=["plain", "wrapped"])
def test_a_tree_of_another_structure_is_refused(tree: Any, message: str, form: Any) -> None:
    structure = Structure.of(NESTED)
    with pytest.raises(StructureError, match=message):
        structure.flatten(form(tree))
    with pytest.raises(StructureError, match=message.replace("obs", "final_obs")):
        structure.flatten(form(tree), "final_obs")


@pytest.mark.parametrize("tree", [{"a": A}, DictObs({"a": A}), {}, (A,), TupleObs((A,))])
def test_a_tree_where_an_array_belongs_is_refused(tree: Any) -> None:
    with pytest.raises(StructureError, match=r"obs: expected an array, got a (dict|tuple) with "):
        Structure.of(A).flatten(tree)


class TestSameBits:
    def test_nan_and_zeros(self) -> None:
        assert same_bits(np.array([np.nan]), np.array([np.nan]))
        assert not same_bits(np.array([0.0]), np.array([-0.0]))
        assert same_bits({"a": A, "c": C}, DictObs({"c": C.copy(), "a": A.copy()}))

    @pytest.mark.parametrize("other", [A.astype(np.float32), A.reshape(4, 3), DictObs({"a": A}), A + 1])
    def test_anything_else_differs(self, other: Any) -> None:
        assert not same_bits(A, other)
        assert not same_bits(other, A)

    def test_objects_by_equality(self) -> None:
        words = np.array(["a", {"b": np.ones(2)}], dtype=object)
        assert same_bits(words, copy.deepcopy(words))
        assert not same_bits(words, words[::-1])
