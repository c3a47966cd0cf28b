"""Which `ObjectType` fits some objects, by the objects themselves and by their space."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from math import prod
from typing import Any

import numpy as np
from gymnasium import Space, spaces
from gymnasium.spaces import GraphInstance

from vecrollout.data.plain import is_writable
from vecrollout.storage.codec.arrays import ArrayType
from vecrollout.storage.codec.objects import GRAPH, NOTHING, Numbers, ObjectType, Plain, Records, Rows, Tuples

_SAMPLES = 32

# Arrow's files have types that are nested up to 64 times. What is deeper, or contains itself, is for JSON.
_MAX_DEPTH = 32


def item_of(values: Iterable[Any], known: ObjectType | None = None) -> ObjectType | None:
    """What fits all objects, Nones among them, and what `known` fits; None where nothing does."""
    return _common_of((_item_of(value, 0) for value in values), NOTHING if known is None else known)


def fits(item: ObjectType, values: Sequence[Any]) -> bool:
    """Whether all objects are of the item's kind; None is of none."""
    types = set(map(type, values))
    # Of most columns the types say it all.
    if isinstance(item, Plain) and item.name in ("bool", "float"):
        return types == {bool if item.name == "bool" else float}
    if isinstance(item, Plain) and types == {int}:
        return item.name == "int" and min(values) >= -(2**63) and max(values) < 2**63
    if isinstance(item, Numbers) and item.is_scalar and item.dtype.kind in "biuf":
        return types == {item.dtype.type}
    if isinstance(item, Numbers) and item.shape and types == {np.ndarray}:
        return {(value.dtype, value.shape) for value in values} == {(item.dtype, item.shape)}
    if type(None) in types:
        return False
    return item_of(values, item) == item


def item_of_space(space: Space[Any]) -> ObjectType | None:
    """What fits the elements of a space, where those are objects; None where nothing is known to."""
    if isinstance(space, spaces.Box | spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary):
        return None
    # Samples say it all, and of a space's own: of a copy, so that the environment's random stream stays as it is.
    samples = copy.deepcopy(space)
    samples.seed(0)
    return item_of(samples.sample() for _ in range(_SAMPLES))


def _item_of(value: Any, depth: int) -> ObjectType | None:
    if value is None:
        return NOTHING
    if isinstance(value, np.ndarray):
        return _of_array(value)
    if isinstance(value, np.generic):
        return Numbers(value.dtype, is_scalar=True) if _is_number(value.dtype) else None
    if type(value) is GraphInstance:
        graph = _record("graph", dict(zip(GRAPH, value, strict=True)), depth)
        # Another graph has other numbers of nodes and edges.
        return graph and Records("graph", tuple((key, _as_rows(entry) or entry) for key, entry in graph.entries))
    if type(value) is tuple:
        record = _record("tuple", {str(i): entry for i, entry in enumerate(value)}, depth)
        item = record and _common_of((entry for _, entry in record.entries), NOTHING)
        return record if item is None else Tuples(item)
    if isinstance(value, dict):
        writable = all(type(key) is str and is_writable(key) for key in value)
        return _record("dict", value, depth) if value and writable else None
    if type(value) is str:
        return Plain("str") if is_writable(value) else None
    if type(value) is int:
        return Plain("int") if -(2**63) <= value < 2**63 else None
    return Plain(type(value).__name__) if type(value) in (bool, float) else None


def _of_array(value: np.ndarray[Any, Any]) -> ObjectType | None:
    # Arrow has nothing that tells an array without any numbers from a missing one.
    if type(value) is not np.ndarray or not _is_number(value.dtype) or prod(value.shape[1:]) == 0:
        return None
    if value.ndim and not len(value):
        return Rows(ArrayType(value.dtype, value.shape[1:]))
    return Numbers(value.dtype, value.shape)


def _is_number(dtype: np.dtype[Any]) -> bool:
    return dtype.kind in "biufcmM"


def _record(kind: str, value: dict[str, Any], depth: int) -> Records | None:
    if depth == _MAX_DEPTH:
        return None
    entries = [(key, _item_of(entry, depth + 1)) for key, entry in value.items()]
    known = [(key, entry) for key, entry in entries if entry is not None]
    return Records(kind, tuple(known)) if len(known) == len(entries) else None


def _common_of(items: Iterable[ObjectType | None], known: ObjectType) -> ObjectType | None:
    """What fits whatever one of the items fits; None where nothing does, or one is None."""
    for item in items:
        common = None if item is None else _common(known, item)
        if common is None:
            return None
        known = common
    return known


def _common(first: ObjectType, second: ObjectType) -> ObjectType | None:
    if first == second or second == NOTHING:
        return first
    if first == NOTHING:
        return second
    if isinstance(first, Tuples) and isinstance(second, Tuples):
        entry = _common(first.entry, second.entry)
        return None if entry is None else Tuples(entry)
    if isinstance(first, Records) and isinstance(second, Records):
        return _common_record(first, second)
    rows = [_as_rows(item) for item in (first, second)]
    return rows[0] if rows[0] == rows[1] else None


def _common_record(first: Records, second: Records) -> ObjectType | None:
    if first.kind != second.kind or [key for key, _ in first.entries] != [key for key, _ in second.entries]:
        return None
    pairs = zip(first.entries, second.entries, strict=True)
    entries = [(key, common) for (key, mine), (_, theirs) in pairs if (common := _common(mine, theirs)) is not None]
    return Records(first.kind, tuple(entries)) if len(entries) == len(first.entries) else None


def _as_rows(item: ObjectType) -> Rows | None:
    """Arrays that may have another length than those seen so far."""
    if isinstance(item, Numbers) and item.shape and not item.is_scalar:
        return Rows(ArrayType(item.dtype, item.shape[1:]))
    return item if isinstance(item, Rows) else None
