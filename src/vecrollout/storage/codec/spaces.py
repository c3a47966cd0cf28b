"""Gymnasium's spaces as JSON, and back, without pickle."""

from __future__ import annotations

import math
from collections.abc import Callable
from numbers import Integral
from typing import Any

import numpy as np
from gymnasium import Space, spaces

from vecrollout.data.dtypes import dtype_from_json, dtype_to_json
from vecrollout.data.plain import UnstorableError, pack, unpack
from vecrollout.errors import DamagedTraceError
from vecrollout.storage.arrow import ArrowErrors

# A few bytes of JSON could ask for any amount of memory.
_MAX_BOUND_BYTES = 1 << 28


def space_to_json(space: Space[Any]) -> dict[str, Any]:
    """A space as JSON: its kind and what makes it.

    Of a kind that is not Gymnasium's own only a description for people is kept.
    """
    kind = type(space).__name__
    try:
        # Exactly Gymnasium's classes: a subclass may hold more than is known here.
        if type(space) is getattr(spaces, kind, None) and kind in _TO_JSON:
            packed = {"kind": kind, **_TO_JSON[kind](space)}
            if _bound_bytes(packed) <= _MAX_BOUND_BYTES:
                return packed
    except UnstorableError:
        pass
    return {"kind": "unknown", "repr": str(space)}


def space_from_json(packed: Any) -> Space[Any] | None:
    """The space that `space_to_json` described; None where that was of an unknown kind."""
    try:
        if _bound_bytes(packed) > _MAX_BOUND_BYTES:
            raise ValueError(f"expected bounds of at most {_MAX_BOUND_BYTES} bytes in all")
        return _space(packed)
    except (*ArrowErrors, AssertionError, AttributeError, MemoryError) as error:
        raise DamagedTraceError(f"space: expected the description of a space, got another: {error!r}") from error


def _bound_bytes(packed: Any) -> int:
    """Memory of the bounds of all boxes in a space."""
    if isinstance(packed, list):
        return sum(map(_bound_bytes, packed))
    if not isinstance(packed, dict):
        return 0
    own = 0
    if packed.get("kind") == "Box":
        shape = packed["shape"]
        if not all(type(length) is int and length >= 0 for length in shape):
            raise ValueError(f"expected the shape of a box, got {shape}")
        own = 2 * math.prod(shape) * dtype_from_json(packed["dtype"]).itemsize
    return own + sum(map(_bound_bytes, packed.values()))


def _space(packed: Any) -> Space[Any] | None:
    if packed["kind"] == "unknown":
        return None
    space: Space[Any] = _FROM_JSON[packed["kind"]](packed)
    return space


def _known(packed: Any) -> Any:
    space = _space(packed)
    if space is None:
        raise ValueError("a part of the space is of an unknown kind")
    return space


def _part(space: Any) -> dict[str, Any]:
    packed = space_to_json(space)
    if packed["kind"] == "unknown":
        raise UnstorableError("a part of the space is of an unknown kind")
    return packed


def _box_to_json(space: Any) -> dict[str, Any]:
    bounds = {}
    for name in ("low", "high"):
        bound = getattr(space, name)
        same = bound.size > 0 and (bound == bound.flat[0]).all()
        bounds[name] = {"everywhere": pack(bound.flat[0].item())} if same else {"each": pack(bound)}
    return {"shape": list(space.shape), "dtype": dtype_to_json(space.dtype), **bounds}


def _box_from_json(packed: Any) -> Any:
    shape, dtype = tuple(packed["shape"]), dtype_from_json(packed["dtype"])
    bounds: list[Any] = [
        np.full(shape, unpack(bound["everywhere"]), dtype) if "everywhere" in bound else unpack(bound["each"])
        for bound in (packed["low"], packed["high"])
    ]
    low, high = bounds
    number: Any = dtype.type
    return spaces.Box(low, high, shape=shape, dtype=number)


def _multi_discrete_to_json(space: Any) -> dict[str, Any]:
    start = getattr(space, "start", None)  # since Gymnasium 0.29.1
    return {
        "nvec": space.nvec.tolist(),
        "start": None if start is None else start.tolist(),
        "dtype": dtype_to_json(space.dtype),
    }


def _multi_discrete_from_json(packed: Any) -> Any:
    dtype: Any = dtype_from_json(packed["dtype"]).type
    start = packed["start"]
    return spaces.MultiDiscrete(np.array(packed["nvec"]), dtype, start=None if start is None else np.array(start))


def _graph_from_json(packed: Any) -> Any:
    return spaces.Graph(_known(packed["node_space"]), packed["edge_space"] and _known(packed["edge_space"]))


_TO_JSON: dict[str, Callable[[Any], dict[str, Any]]] = {
    "Box": _box_to_json,
    "Discrete": lambda space: {"n": int(space.n), "start": int(space.start)},
    "MultiDiscrete": _multi_discrete_to_json,
    "MultiBinary": lambda space: {"n": int(space.n) if isinstance(space.n, Integral) else list(space.shape)},
    "Text": lambda space: {
        "min_length": int(space.min_length),
        "max_length": int(space.max_length),
        "characters": list(space.character_list),
    },
    "Dict": lambda space: {"spaces": [[pack(key), _part(child)] for key, child in space.spaces.items()]},
    "Tuple": lambda space: {"spaces": [_part(child) for child in space.spaces]},
    "Sequence": lambda space: {"feature": _part(space.feature_space), "stack": bool(space.stack)},
    "Graph": lambda space: {
        "node_space": _part(space.node_space),
        "edge_space": None if space.edge_space is None else _part(space.edge_space),
    },
    "OneOf": lambda space: {"spaces": [_part(child) for child in space.spaces]},
}

_FROM_JSON: dict[str, Callable[[Any], Any]] = {
    "Box": _box_from_json,
    "Discrete": lambda packed: spaces.Discrete(packed["n"], start=packed["start"]),
    "MultiDiscrete": _multi_discrete_from_json,
    "MultiBinary": lambda packed: spaces.MultiBinary(packed["n"]),
    "Text": lambda packed: spaces.Text(
        packed["max_length"], min_length=packed["min_length"], charset="".join(packed["characters"])
    ),
    "Dict": lambda packed: spaces.Dict([(unpack(key), _known(child)) for key, child in packed["spaces"]]),
    "Tuple": lambda packed: spaces.Tuple([_known(child) for child in packed["spaces"]]),
    "Sequence": lambda packed: spaces.Sequence(_known(packed["feature"]), stack=packed["stack"]),
    "Graph": _graph_from_json,
    "OneOf": lambda packed: spaces.OneOf([_known(child) for child in packed["spaces"]]),
}
