"""Gymnasium's spaces as Minari's JSON, and back."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from gymnasium import Space, spaces

from vecrollout.errors import DamagedTraceError, OptionError


def space_to_json(space: Space[Any]) -> str:
    """A space as text, as `minari.serialization` writes it."""
    return json.dumps(_packed(space))


def space_from_json(text: Any) -> Space[Any]:
    """The space that a text describes."""
    try:
        return _unpacked(json.loads(text))
    except (KeyError, TypeError, ValueError, AssertionError, AttributeError, OverflowError) as error:
        raise DamagedTraceError(f"metadata.json: expected a space, got another description: {error!r}") from error


def is_image(space: Space[Any] | None) -> bool:
    """Whether Minari takes a space for one of images, which it then stores as JPEG unless told otherwise."""
    return (
        isinstance(space, spaces.Box)
        and len(space.shape) in (2, 3)
        and space.dtype == np.uint8
        and min(space.shape[:2]) >= 32
        and bool((space.low == 0).all() and (space.high == 255).all())
    )


def _packed(space: Any) -> dict[str, Any]:
    match space:
        case spaces.Box():
            bounds = {"low": space.low.tolist(), "high": space.high.tolist()}
            return {"type": "Box", "dtype": str(space.dtype), "shape": list(space.shape), **bounds}
        case spaces.Discrete():
            return {"type": "Discrete", "dtype": "int64", "start": int(space.start), "n": int(space.n)}
        case spaces.MultiDiscrete():
            start = getattr(space, "start", np.zeros_like(space.nvec))  # since Gymnasium 0.29.1
            numbers = {"nvec": space.nvec.tolist(), "start": start.tolist()}
            return {"type": "MultiDiscrete", "dtype": str(space.dtype), **numbers}
        case spaces.MultiBinary():
            return {"type": "MultiBinary", "n": space.shape[0] if len(space.shape) == 1 else list(space.shape)}
        case spaces.Text():
            lengths = {"max_length": int(space.max_length), "min_length": int(space.min_length)}
            return {"type": "Text", **lengths, "charset": space.characters}
        case spaces.Dict():
            return {"type": "Dict", "subspaces": {key: _packed(child) for key, child in space.spaces.items()}}
        case spaces.Tuple():
            return {"type": "Tuple", "subspaces": [_packed(child) for child in space.spaces]}
    raise OptionError(
        "spaces: expected Box, Discrete, MultiDiscrete, MultiBinary, Text, Dict or Tuple, as Minari has no others, got "
        f"{space}"
    )


def _unpacked(packed: dict[str, Any]) -> Space[Any]:
    match packed["type"]:
        case "Box":
            low, high = (np.array(packed[name], packed["dtype"]).reshape(packed["shape"]) for name in ("low", "high"))
            return spaces.Box(low, high, tuple(packed["shape"]), np.dtype(packed["dtype"]).type)
        case "Discrete":
            return spaces.Discrete(packed["n"], start=packed["start"])
        case "MultiDiscrete":
            kind: Any = np.dtype(packed["dtype"]).type
            return spaces.MultiDiscrete(np.array(packed["nvec"]), kind, start=np.array(packed["start"]))
        case "MultiBinary":
            return spaces.MultiBinary(packed["n"])
        case "Text":
            lengths = {"min_length": packed["min_length"], "charset": packed["charset"]}
            return spaces.Text(packed["max_length"], **lengths)
        case "Dict":
            return spaces.Dict([(key, _unpacked(child)) for key, child in packed["subspaces"].items()])
        case "Tuple":
            return spaces.Tuple([_unpacked(child) for child in packed["subspaces"]])
    raise ValueError(f"unknown type {packed['type']!r}")
