"""Info dicts as typed columns where they allow it, and as JSON where not.

Which keys get a column is decided when a shard is begun, by its first infos, if they are enough to tell; those of
earlier shards keep theirs. Dicts in an info are taken apart into columns of their own. What does not fit its column
goes into the row's JSON, so that everything comes back as it was.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any

import numpy as np
import numpy.typing as npt

from vecrollout._typing import Array, Info
from vecrollout.data.plain import UnstorableError, dumps, is_writable, pack, unpack
from vecrollout.data.structures import same_bits
from vecrollout.data.trees import map_leaves, unwrap
from vecrollout.errors import DamagedTraceError
from vecrollout.storage.arrow import pa
from vecrollout.storage.codec.columns import OBJECT, Column
from vecrollout.storage.codec.fitting import fits, item_of
from vecrollout.storage.codec.metadata import parsed
from vecrollout.storage.codec.objects import Item, Numbers, Plain, Rows

FINAL_OBS_KEYS = ("terminal_observation", "final_observation", "final_obs")
"""Under these, the last step's info repeats the trajectory's last observation."""

_FINAL_OBS_KEYS = frozenset(FINAL_OBS_KEYS)
_EMPTY: Mapping[Any, Any] = {}

# No user's key is packed under this name.
_FINAL_OBS = "$final_obs"
_MAX_COLUMNS = 1000

# Of these a column costs little, however few rows have one.
_SMALL = (bool, int, float, str)


@dataclass
class _Node:
    """Where the values of a key go: into a column, taken apart by their own keys, or either."""

    item: Item | None = None
    column: int = -1
    children: dict[str, _Node] = field(default_factory=dict)


class InfoColumns:
    """The typed columns of a trace's infos, as planned or as read from a schema."""

    def __init__(self, columns: Sequence[Column]) -> None:
        self.columns = tuple(columns)
        self._root = _Node()
        for i, column in enumerate(self.columns):
            node = self._root
            for key in column.path:
                node = node.children.setdefault(key, _Node())
            node.item, node.column = column.item, i

    @classmethod
    def plan(cls, infos: Iterable[Any], known: Sequence[Column] = ()) -> InfoColumns:
        """Known columns, and new ones for keys with one kind of value; of arrays only if half of the infos have it."""
        found: dict[tuple[str, ...], list[Any]] = {}
        total = 0
        for info in infos:
            total += 1
            if isinstance(info, Mapping):
                _survey(info, (), found)
        columns = {column.name: column for column in known}
        for path, values in found.items():
            name = f"info.{'.'.join(path)}"
            # Of two keys with one name ("a.b", and "b" in "a") the second stays in JSON.
            if name in columns or len(columns) == _MAX_COLUMNS or not is_writable(name):
                continue
            item = _column_item(values)
            is_frequent = type(values[0]) in _SMALL or isinstance(values[0], np.generic) or len(values) * 2 >= total
            if item and is_frequent:
                columns[name] = Column(name, OBJECT, (), item, path)
        return cls(list(columns.values()))

    def encode(
        self, infos: npt.NDArray[np.object_] | None, lengths: Array, obs: Any, dropped: Counter[str]
    ) -> tuple[list[Any], dict[int, str]]:
        """A `pyarrow.Array` a column, null behind each trajectory, and the JSON of what is left of a row, by row."""
        ends = np.cumsum(lengths + 1)
        rows = int(ends[-1])
        if infos is None:
            return [pa.nulls(rows, column.arrow_type) for column in self.columns], {}
        filled = np.full(rows, _EMPTY)
        is_step = np.ones(rows, bool)
        is_step[ends - 1] = False
        filled[is_step] = infos
        dicts: list[Any] = filled.tolist()
        repeating: dict[int, tuple[str, ...]] = {}
        for row in (ends - 2).tolist():
            last = dicts[row]
            if type(last) is dict and not _FINAL_OBS_KEYS.isdisjoint(last):
                keys = tuple([key for key in FINAL_OBS_KEYS if key in last and _repeats(last[key], obs, row + 1)])
                if keys:
                    dicts[row] = {key: value for key, value in last.items() if key not in keys}
                    repeating[row] = keys
        if set(map(type, dicts)) != {dict}:
            dicts = [_as_dict(info, dropped) for info in dicts]
        texts = {row: _repeated(keys) for row, keys in repeating.items()}
        found: list[list[Any]] = [[None] * rows for _ in self.columns]
        if not _take(dicts, range(rows), self._root, found):
            found = [[None] * rows for _ in self.columns]
            for row, info in enumerate(dicts):
                rest = _split(info, self._root, row, found)
                if rest:
                    repeated = {_FINAL_OBS: repeating[row]} if row in repeating else {}
                    texts[row] = dumps({**packed_info(rest, dropped), **repeated})
            texts = dict(sorted(texts.items()))
        return [column.item.encode(values) for column, values in zip(self.columns, found, strict=True)], texts

    def decode(
        self, columns: Sequence[Sequence[Any]], texts: Sequence[str | None], final_obs: Callable[[int], Any]
    ) -> npt.NDArray[np.object_]:
        """Infos of some rows, the inverse of `encode`; `final_obs` gives the observation behind one of the rows."""
        whole = [
            (column.path[0], values)
            for column, values in zip(self.columns, columns, strict=True)
            if len(column.path) == 1 and type(None) not in set(map(type, values))
        ]
        keys = [key for key, _ in whole]
        infos: list[Info]
        if keys:
            infos = [dict(zip(keys, row, strict=True)) for row in zip(*(values for _, values in whole), strict=True)]
        else:
            infos = [{} for _ in texts]
        for column, values in zip(self.columns, columns, strict=True):
            *parents, last = column.path
            if not parents and last in keys:
                continue
            for info, value in zip(infos, values, strict=True):
                if value is not None:
                    here = info
                    for key in parents:
                        here = here.setdefault(key, {})
                        if type(here) is not dict:
                            raise DamagedTraceError(f"column {column.name!r}: expected a dict at {key!r}, got {here!r}")
                    here[last] = value
        for row, text in enumerate(texts):
            if text is not None:
                _add_rest(infos[row], text, partial(final_obs, row))
        return np.fromiter(infos, dtype=object, count=len(infos))


def packed_info(info: Mapping[Any, Any], dropped: Counter[str]) -> dict[str, Any]:
    """An info in JSON's types, without the values that have no form there, which `dropped` counts by key."""
    if not info:
        return {}
    kept = {}
    for key, value in info.items():
        try:
            pack({key: value})
        except UnstorableError:
            dropped[str(key)] += 1
        else:
            kept[key] = value
    packed: dict[str, Any] = pack(kept)
    return packed


def unpacked_info(packed: Any, where: str) -> Info:
    """The info that `packed_info` packed."""
    try:
        info = unpack(packed)
    except ValueError as error:
        raise DamagedTraceError(f"{where}: expected a packed dict, got something else: {error!r}") from error
    if not isinstance(info, dict):
        raise DamagedTraceError(f"{where}: expected a packed dict, got a {type(info).__name__}")
    return info


def _survey(info: Mapping[Any, Any], path: tuple[str, ...], found: dict[tuple[str, ...], list[Any]]) -> None:
    for key, value in info.items():
        if type(key) is not str:
            continue
        here = (*path, key)
        if not _is_nested(value):
            found.setdefault(here, []).append(value)
        elif len(here) < 8:  # deeper ones, or one that contains itself, are for JSON to keep or refuse
            _survey(value, here, found)


def _column_item(values: list[Any]) -> Item | None:
    """What a column of the values would hold; None where there can be none: a missing value is not None there."""
    if any(value is None for value in values):
        return None
    item = item_of(values)
    return item if isinstance(item, Plain | Numbers | Rows) else None


def _is_nested(value: Any) -> bool:
    """Whether a value is a dict that can be taken apart: an empty one would be lost."""
    return type(value) is dict and bool(value) and all(type(key) is str for key in value)


def _take(dicts: Sequence[Any], rows: Sequence[int], node: _Node, found: list[list[Any]]) -> bool:
    """Put all values into the columns' lists, key by key; False, after some, where not all of them fit."""
    taken = 0
    for key, child in node.children.items():
        values = [info.get(key) for info in dicts]
        taken += len(values) - list(map(type, values)).count(type(None))
        if child.children:
            nested = [(row, value) for row, value in zip(rows, values, strict=True) if value is not None]
            inner = [value for _, value in nested]
            if not all(map(_is_nested, inner)) or not _take(inner, [row for row, _ in nested], child, found):
                return False
        elif child.item is None or not fits(child.item, values):
            return False
        elif len(values) == len(found[child.column]):
            found[child.column] = values
        else:
            column = found[child.column]
            for row, value in zip(rows, values, strict=True):
                column[row] = value
    return taken == sum(map(len, dicts))


def _split(info: Mapping[Any, Any], node: _Node, row: int, found: list[list[Any]]) -> dict[Any, Any]:
    """Put what fits into the columns' lists; returns the rest."""
    rest = {}
    for key, value in info.items():
        child = node.children.get(key) if type(key) is str else None
        if child is None:
            rest[key] = value
        elif child.children and _is_nested(value):
            remaining = _split(value, child, row, found)
            if remaining:
                rest[key] = remaining
        elif child.item is not None and value is not None and fits(child.item, [value]):
            found[child.column][row] = value
        else:
            rest[key] = value
    return rest


@lru_cache
def _repeated(keys: tuple[str, ...]) -> str:
    return dumps({_FINAL_OBS: keys})


def _as_dict(info: Any, dropped: Counter[str]) -> dict[Any, Any]:
    if isinstance(info, Mapping):
        return dict(info)
    dropped["(an info that is no dict)"] += 1
    return {}


def _add_rest(info: Info, text: str, final_obs: Callable[[], Any]) -> None:
    packed = parsed(text, "info_json")
    repeating = packed.pop(_FINAL_OBS, [])
    if not isinstance(repeating, list) or not all(key in FINAL_OBS_KEYS for key in repeating):
        raise DamagedTraceError(f"info_json: expected keys of a last observation, got {repeating!r}")
    _merge(info, unpacked_info(packed, "info_json"))
    for key in repeating:
        info[key] = unwrap(final_obs())


def _merge(info: Info, rest: Info) -> None:
    """Add what JSON kept; a dict of which columns have some values gets the others."""
    for key, value in rest.items():
        if isinstance(value, dict) and value and isinstance(info.get(key), dict):
            _merge(info[key], value)
        else:
            info[key] = value


def _repeats(value: Any, obs: Any, row: int) -> bool:
    """Whether a value is an observation of some to the bit, made of arrays as that one comes back."""
    if type(value) is np.ndarray and type(obs) is np.ndarray:
        last = obs[row, ...]
        plain = value.dtype == last.dtype and not value.dtype.hasobject
        return bool(value.shape == last.shape and plain and value.tobytes() == last.tobytes())
    if type(value) not in (dict, tuple):
        return False
    return _all_arrays(value) and same_bits(value, map_leaves(lambda leaf: np.asarray(leaf)[row, ...], obs))


def _all_arrays(value: Any) -> bool:
    if type(value) is dict:
        return all(map(_all_arrays, value.values()))
    return all(map(_all_arrays, value)) if type(value) is tuple else type(value) is np.ndarray
