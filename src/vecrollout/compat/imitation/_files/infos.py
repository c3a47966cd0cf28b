"""Infos as the text that imitation saves: JSON in the form of the package jsonpickle.

Decoding never imports, calls or evaluates anything that the text names. It knows plain data, NumPy's arrays and
scalars, and `DictObs`. The JSON of other objects is returned as it is, with the class in `"py/object"`.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from vecrollout.compat.imitation._classes import DictObs
from vecrollout.compat.imitation._files import numpy_state
from vecrollout.data import trees
from vecrollout.errors import ArgumentTypeError, DamagedTraceError

# The keys that mean something to a version of jsonpickle.
_CALLS = ["function", "initargs", "iterator", "module", "newargs", "newargsex", "newobj", "object", "reduce", "type"]
_DATA = ["b64", "b85", "bytes", "id", "ref", "repr", "seq", "set", "state", "tuple"]
_TAGS = {f"py/{name}" for name in [*_CALLS, *_DATA]}

_DICT_OBS = "imitation.data.types.DictObs"
_DICT = "builtins.dict"


def decode(text: str) -> Any:
    """The value that jsonpickle made a text of.

    Raises:
        DamagedTraceError: If the text is not of that form.
    """
    try:
        return _Decoder().restored(json.loads(text))
    except (ValueError, TypeError, LookupError, AttributeError, OverflowError, RecursionError) as error:
        raise DamagedTraceError(f"infos: expected JSON as imitation saves it, got {text!r:.100}: {error}") from error


def encode(value: Any) -> str:
    """A value as text that jsonpickle and `decode` read.

    Raises:
        ArgumentTypeError: If the value contains anything but plain data, NumPy's arrays and scalars, and `DictObs`.
    """
    try:
        return json.dumps(_packed(value))
    except RecursionError as error:
        raise ArgumentTypeError("infos: expected plain data, got a value that contains itself") from error


class _Decoder:
    """Restores one text. `{"py/id": n}` refers to the n-th list, dict or object, in the order of their beginnings."""

    def __init__(self) -> None:
        self._objects: list[Any] = []

    def restored(self, packed: Any) -> Any:
        if isinstance(packed, list):
            items = self._begun([])
            items.extend(map(self.restored, packed))
            return items
        if not isinstance(packed, dict):
            return packed
        for tag, restore in (
            ("py/tuple", lambda content: tuple(map(self.restored, content))),
            ("py/set", lambda content: set(map(self.restored, content))),
            ("py/b64", lambda content: base64.b64decode(content, validate=True)),
            ("py/b85", base64.b85decode),
            ("py/id", self._earlier),
            ("py/reduce", self._reduced),
        ):
            if tag in packed:
                return restore(packed[tag])
        if "py/type" in packed or "py/function" in packed:
            return packed
        return self._instance(packed) if "py/object" in packed else self._entries(packed)

    def _begun(self, value: Any) -> Any:
        self._objects.append(value)
        return value

    def _entries(self, packed: dict[str, Any]) -> dict[str, Any]:
        entries: dict[str, Any] = self._begun({})
        for key, value in packed.items():
            entries[key] = self.restored(value)
        return entries

    def _earlier(self, number: Any) -> Any:
        if type(number) is not int or not 0 <= number < len(self._objects):
            raise ValueError(f"expected the number of an earlier object, got {number!r:.100}")
        return self._objects[number]

    def _instance(self, packed: dict[str, Any]) -> Any:
        place = len(self._objects)
        fields = self._entries(packed)
        if str(fields["py/object"]).endswith(".DictObs"):
            self._objects[place] = DictObs(fields["_d"])
        elif fields["py/object"] == "builtins.complex":
            self._objects[place] = complex(*fields["py/newargs"])
        return self._objects[place]

    def _reduced(self, content: Any) -> Any:
        place = len(self._objects)
        self._begun(None)
        parts = [self.restored(part) for part in content]
        self._objects[place] = _called(parts, {"py/reduce": parts})
        return self._objects[place]


def _called(parts: list[Any], unknown: Any) -> Any:
    """What the function of a reduced object would return, if it is one of NumPy's."""
    function, args, state = (*parts, None, None, None)[:3]
    name = next(iter(function.values())) if isinstance(function, dict) and len(function) == 1 else None
    if name == numpy_state.DTYPE:
        return numpy_state.dtype_of(args[0], state)
    if name == _DICT:
        return dict(*args)
    if name in numpy_state.RECONSTRUCT:
        return numpy_state.array_of(*state[1:5])
    return numpy_state.scalar_of(*args) if name in numpy_state.SCALAR else unknown


def _packed(value: Any) -> Any:
    kind = type(value)
    if value is None or kind in (bool, int, float, str):
        return value
    if kind is list:
        return [_packed(item) for item in value]
    if kind is tuple:
        return {"py/tuple": [_packed(item) for item in value]}
    if kind is set:
        return {"py/set": [_packed(item) for item in value]}
    if kind is bytes:
        return {"py/b64": base64.b64encode(value).decode("ascii")}
    if kind is complex:
        return {"py/object": "builtins.complex", "py/newargs": {"py/tuple": [value.real, value.imag]}}
    if isinstance(value, trees.DictObs):
        return {"py/object": _DICT_OBS, "_d": _packed(value.unwrap())}
    if isinstance(value, Mapping):
        return _packed_entries(value)
    if isinstance(value, np.ndarray | np.generic | np.dtype):
        reduced: Any = value.__reduce__()
        function, *parts = reduced
        what = "py/type" if isinstance(function, type) else "py/function"
        return {"py/reduce": [{what: f"{function.__module__}.{function.__name__}"}, *map(_packed, parts)]}
    if value is np.ndarray:
        return {"py/type": "numpy.ndarray"}
    raise ArgumentTypeError(
        f"infos: expected plain data, arrays or DictObs, as imitation's format has nothing else that is safe to load, "
        f"got a {kind.__name__}; leave infos out with dataclasses.replace(trajectory, infos=None)"
    )


def _packed_entries(entries: Mapping[Any, Any]) -> dict[str, Any]:
    if all(type(key) is str and key not in _TAGS for key in entries):
        return {key: _packed(value) for key, value in entries.items()}
    # JSON has no other keys than text, and jsonpickle would take some for its own: a call of dict() keeps them.
    items = [_packed(item) for item in entries.items()]
    return {"py/reduce": [{"py/type": _DICT}, {"py/tuple": [items]}]}
