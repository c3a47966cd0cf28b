"""Plain data and small arrays as JSON, and back, without pickle.

None, bools, numbers, text, lists, and dicts whose keys are text stand for themselves. What JSON has no form for is an
object with a single key that begins with `$`: `$tuple`, `$dict` (pairs of key and value), `$array`, `$scalar`,
`$objects`, `$bytes`, `$float` (NaN and infinities), `$graph` (a `GraphInstance`), `$obs` (a `DictObs` or `TupleObs`).
"""

from __future__ import annotations

import base64
import json
import math
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium.spaces import GraphInstance

from vecrollout.data.array_tree import ArrayTree
from vecrollout.data.dtypes import dtype_from_json, dtype_to_json
from vecrollout.data.trees import wrap

_NAN = struct.pack(">d", math.nan)
_FLOATS = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}

_ENCODER = json.JSONEncoder(separators=(",", ":"), allow_nan=False)


class UnstorableError(ValueError):
    """A value has no form in JSON; caught within the package."""


def dumps(value: Any) -> str:
    """A packed value as text, ASCII only."""
    return _ENCODER.encode(value)


def is_writable(text: str) -> bool:
    """Whether UTF-8 can write a text: lone surrogates it cannot."""
    try:
        return text.isascii() or bool(text.encode())
    except UnicodeEncodeError:
        return False


def pack(value: Any) -> Any:
    """A value in JSON's types; an `UnstorableError` for what is neither plain data nor an array, or contains itself."""
    try:
        packed = _pack(value)
        dumps(packed)  # integers can be too long to be written
    except (RecursionError, ValueError, TypeError) as error:
        raise UnstorableError(str(error)) from error
    return packed


def _pack(value: Any) -> Any:
    kind = type(value)
    if value is None or kind in (bool, int, str):
        return value
    if kind is float:
        return value if math.isfinite(value) else {"$float": _float_text(value)}
    if kind is list:
        return [_pack(item) for item in value]
    if kind is tuple:
        return {"$tuple": [_pack(item) for item in value]}
    if kind is GraphInstance:
        return {"$graph": [_pack(item) for item in value]}
    if isinstance(value, ArrayTree):
        return {"$obs": _pack(value.unwrap())}
    if isinstance(value, Mapping):
        if all(type(key) is str and not key.startswith("$") for key in value):
            return {key: _pack(item) for key, item in value.items()}
        return {"$dict": [[_pack(key), _pack(item)] for key, item in value.items()]}
    if kind is bytes:
        return {"$bytes": _text(value)}
    if isinstance(value, np.ndarray):
        return _pack_array(value)
    if isinstance(value, np.generic) and _has_bytes(value.dtype):
        return {"$scalar": [dtype_to_json(value.dtype), _text(np.asarray(value).tobytes())]}
    raise UnstorableError(f"a {kind.__name__} is neither plain data nor an array")


def _float_text(value: float) -> str:
    """What JSON has no number for; of a NaN that is not the usual one, which has a sign or a payload, its bits."""
    bits = struct.pack(">d", value)
    return bits.hex() if math.isnan(value) and bits != _NAN else repr(value)


def _pack_array(array: np.ndarray[Any, Any]) -> Any:
    if isinstance(array, np.ma.MaskedArray):
        raise UnstorableError("an array with a mask would lose it")
    if array.dtype == object:
        return {"$objects": [list(array.shape), [_pack(item) for item in array.ravel()]]}
    if not _has_bytes(array.dtype):
        raise UnstorableError(f"an array of dtype {array.dtype} has no bytes, or objects")
    return {"$array": [dtype_to_json(array.dtype), list(array.shape), _text(array.tobytes())]}


def _has_bytes(dtype: np.dtype[Any]) -> bool:
    return not dtype.hasobject and (dtype.itemsize > 0 or dtype.kind in "SU")


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def unpack(packed: Any) -> Any:
    """The value that `pack` made this of, arrays new and writable; a `ValueError` where nothing packs to this."""
    try:
        return _unpack(packed)
    except (TypeError, LookupError, AttributeError, OverflowError, RecursionError) as error:
        raise ValueError(f"expected a packed value: {error!r}") from error


def _unpack(packed: Any) -> Any:
    if isinstance(packed, list):
        return [_unpack(item) for item in packed]
    if not isinstance(packed, dict):
        return packed
    if not any(key.startswith("$") for key in packed):
        return {key: _unpack(item) for key, item in packed.items()}
    ((kind, content),) = packed.items()
    match kind:
        case "$float":
            return _FLOATS[content] if content in _FLOATS else float(np.frombuffer(bytes.fromhex(content), ">f8")[0])
        case "$tuple":
            return tuple(_unpack(item) for item in content)
        case "$graph":
            return GraphInstance(*(_unpack(item) for item in content))
        case "$dict":
            return {_unpack(key): _unpack(item) for key, item in content}
        case "$obs":
            tree = _unpack(content)
            if not isinstance(tree, dict | tuple):
                raise ValueError(f"expected a dict or a tuple, got {type(tree).__name__}")
            return wrap(tree)
        case "$bytes":
            return _bytes(content)
        case "$array":
            dtype, shape, data = content
            return _array(dtype_from_json(dtype), _bytes(data)).reshape(shape)
        case "$scalar":
            dtype, data = content
            return _scalar(dtype_from_json(dtype), _bytes(data))
        case "$objects":
            shape, items = content
            objects = np.empty(len(items), dtype=object)
            for i, item in enumerate(items):  # one by one: NumPy would look into lists
                objects[i] = _unpack(item)
            return objects.reshape(shape)
    raise ValueError(f"expected a known kind of value, got {kind!r}")


def _scalar(dtype: np.dtype[Any], data: bytes) -> Any:
    # An array would take zeros at the end of text for padding; NumPy has bytes even of empty text.
    if dtype.kind == "S":
        return np.bytes_(data[: dtype.itemsize])
    if dtype.kind == "U":
        encoding = "utf-32-be" if dtype.str[0] == ">" else "utf-32-le"
        return np.str_(data[: dtype.itemsize].decode(encoding, "surrogatepass"))
    return _array(dtype, data).reshape(())[()]


def _array(dtype: np.dtype[Any], data: bytes) -> np.ndarray[Any, Any]:
    array: np.ndarray[Any, Any] = np.frombuffer(data, dtype).copy()
    return array


def _bytes(text: str) -> bytes:
    return base64.b64decode(text, validate=True)
