"""Gymnasium's spaces as JSON, and back, without pickle."""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Callable, Iterator
from numbers import Integral
from typing import Any

import numpy as np
from gymnasium import Space, spaces

from vecrollout.data.dtypes import dtype_from_json, dtype_to_json
from vecrollout.data.plain import UnstorableError, pack, unpack
from vecrollout.errors import DamagedTraceError, ProtocolError

# A few bytes of JSON could ask for any amount of memory.
_MAX_BOUND_BYTES = 1 << 28

RANDOM = "random"
"""Key of the state of a space's random numbers, which takes no part in comparisons."""


class UnknownSpace(Space[Any]):
    """A part of a space that is none of Gymnasium's own: only its text is known.

    Args:
        text: The `repr` of the space.
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text

    @property
    def is_np_flattenable(self) -> bool:
        """Nothing is known of the elements."""
        return False

    def sample(self, *arguments: Any, **options: Any) -> Any:
        """Nothing can be sampled."""
        raise ProtocolError(f"space: expected one of Gymnasium's own, got {self.text}, of which only the text is known")

    def contains(self, x: Any) -> bool:
        """Nothing is known to be in it."""
        return False

    def __repr__(self) -> str:
        return self.text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, UnknownSpace) and self.text == other.text

    __hash__ = None  # type: ignore[assignment]  # as Gymnasium's own


def space_to_json(space: Space[Any]) -> dict[str, Any]:
    """A space as JSON: its kind and what makes it; with a warning the `repr` of a part that is not Gymnasium's."""
    packed = _part(space)
    if _bound_bytes(packed) > _MAX_BOUND_BYTES:
        packed = _unknown(space)
    unknown = list(_unknown_parts(packed))
    if unknown:
        warnings.warn(
            f"spaces: {', '.join(unknown)}: not one of Gymnasium's own spaces, or too large, so only its text is kept "
            "in the trace",
            stacklevel=3,
        )
    return packed


def space_from_json(packed: Any) -> Space[Any] | None:
    """The space that `space_to_json` described; None where that was of an unknown kind as a whole."""
    try:
        if _bound_bytes(packed) > _MAX_BOUND_BYTES:
            raise ValueError(f"expected bounds of at most {_MAX_BOUND_BYTES} bytes in all")
        return None if packed["kind"] == "unknown" else _space(packed)
    except (
        *(ValueError, LookupError, TypeError, OverflowError, RecursionError),
        *(AssertionError, AttributeError),  # of Gymnasium's constructors
    ) as error:
        raise DamagedTraceError(f"space: expected the description of a space, got another: {error!r}") from error


def _part(space: Any) -> dict[str, Any]:
    kind = type(space).__name__
    # Exactly Gymnasium's classes: a subclass may hold more than is known here.
    if type(space) is getattr(spaces, kind, None) and kind in _TO_JSON:
        with contextlib.suppress(UnstorableError):
            return {"kind": kind, **_TO_JSON[kind](space), **_random_to_json(space)}
    return _unknown(space)


def _unknown(space: Any) -> dict[str, Any]:
    return {"kind": "unknown", "repr": str(space)}


def _unknown_parts(packed: Any) -> Iterator[str]:
    if isinstance(packed, dict) and packed.get("kind") == "unknown":
        yield packed["repr"]
    elif isinstance(packed, dict | list):
        for part in packed.values() if isinstance(packed, dict) else packed:
            yield from _unknown_parts(part)


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


def _space(packed: Any) -> Space[Any]:
    if packed["kind"] == "unknown":
        return UnknownSpace(str(packed["repr"]))
    space: Space[Any] = _FROM_JSON[packed["kind"]](packed)
    if RANDOM in packed:
        # There is no public way: `np_random` of a Dict or a Tuple would seed its parts anew.
        space._np_random = _generator_of(packed[RANDOM])
    return space


def _random_to_json(space: Any) -> dict[str, Any]:
    """The state of random numbers, if the space was seeded or has been sampled from."""
    generator = vars(space).get("_np_random")  # `np_random` would make one
    state = {} if generator is None else generator.bit_generator.state
    if state.get("bit_generator") != "PCG64":
        return {}
    # Text, as these numbers have 128 bits.
    numbers = {name: str(number) for name, number in state["state"].items()}
    return {RANDOM: {**numbers, "has_uint32": state["has_uint32"], "uinteger": state["uinteger"]}}


def _generator_of(packed: Any) -> np.random.Generator:
    numbers = {name: int(packed[name]) for name in ("state", "inc", "has_uint32", "uinteger")}
    if min(numbers.values()) < 0:
        raise ValueError(f"expected the state of random numbers, got {packed}")
    has_uint32, uinteger = numbers.pop("has_uint32"), numbers.pop("uinteger")
    bits = np.random.PCG64(0)
    state: Any = {"bit_generator": "PCG64", "state": numbers, "has_uint32": has_uint32, "uinteger": uinteger}
    bits.state = state
    return np.random.Generator(bits)


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


def _discrete_from_json(packed: Any) -> Any:
    dtype = dtype_from_json(packed.get("dtype", "<i8"))
    # Gymnasium before 1.1 has one dtype only, and no argument for it.
    options: Any = {} if dtype == np.int64 else {"dtype": dtype.type}
    return spaces.Discrete(packed["n"], start=packed["start"], **options)


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
    return spaces.Graph(_space(packed["node_space"]), packed["edge_space"] and _space(packed["edge_space"]))


_TO_JSON: dict[str, Callable[[Any], dict[str, Any]]] = {
    "Box": _box_to_json,
    "Discrete": lambda space: {"n": int(space.n), "start": int(space.start), "dtype": dtype_to_json(space.dtype)},
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
    "Discrete": _discrete_from_json,
    "MultiDiscrete": _multi_discrete_from_json,
    "MultiBinary": lambda packed: spaces.MultiBinary(packed["n"]),
    "Text": lambda packed: spaces.Text(
        packed["max_length"], min_length=packed["min_length"], charset="".join(packed["characters"])
    ),
    "Dict": lambda packed: spaces.Dict([(unpack(key), _space(child)) for key, child in packed["spaces"]]),
    "Tuple": lambda packed: spaces.Tuple([_space(child) for child in packed["spaces"]]),
    "Sequence": lambda packed: spaces.Sequence(_space(packed["feature"]), stack=packed["stack"]),
    "Graph": _graph_from_json,
    "OneOf": lambda packed: spaces.OneOf([_space(child) for child in packed["spaces"]]),
}
