"""Info dicts as typed columns where possible, and as JSON otherwise.

The first infos of a shard decide which keys get a column. Keys with a column in an earlier shard keep it. The values
of nested dicts get columns of their own. Values that do not fit into a column go into the row's JSON, so infos are read
back exactly as they were.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from itertools import compress
from operator import itemgetter
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from vecrollout._typing import Array, Info
from vecrollout.data.plain import UnstorableError, dumps, is_writable, pack, unpack
from vecrollout.data.trees import unwrap
from vecrollout.errors import DamagedTraceError
from vecrollout.storage.arrow import pa
from vecrollout.storage.codec.arrays import ArrayType
from vecrollout.storage.codec.columns import OBJECT, Column
from vecrollout.storage.codec.fitting import fits, item_of
from vecrollout.storage.codec.last_obs import FINAL_OBS_KEYS, repeating_keys
from vecrollout.storage.codec.metadata import parsed
from vecrollout.storage.codec.objects import Numbers, ObjectType, Plain, Rows

# No user's key is packed under this name.
_FINAL_OBS = "$final_obs"
_MAX_COLUMNS = 1000

# Infos that are looked at together, several times: few enough that they stay in the processor's caches.
_BLOCK_ROWS = 2048
# Plain values that NumPy makes arrays of.
_NUMBERS = {"bool": np.dtype(bool), "int": np.dtype(np.int64), "float": np.dtype(np.float64)}

Found: TypeAlias = list[list[tuple[Any, list[Any]]]]
"""Of each column, rows and their values."""

# A column of these costs little, even if few rows have a value.
_SMALL = (bool, int, float, str)


@dataclass
class _Node:
    """Where the values of a key go: into a column, or if they are dicts, into the columns of their keys."""

    item: ObjectType | None = None
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
        """Known columns, and new ones for keys with one kind of value. Arrays need half of the infos to have them."""
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
        """A `pyarrow.Array` for each column, null behind each trajectory, and the JSON of the rest of a row, by row."""
        rows = int(lengths.sum()) + len(lengths)
        if infos is None:
            return [pa.nulls(rows, column.arrow_type) for column in self.columns], {}
        # Last infos have other keys than the others, which are alike in most recordings.
        last = np.cumsum(lengths) - 1
        last_at = last + np.arange(len(lengths))
        finals = _as_dicts(infos[last].tolist(), dropped)
        repeated = repeating_keys(finals, obs, last_at + 1)
        for i, keys in repeated.items():
            finals[i] = finals[i].copy()
            for key in keys:
                del finals[i][key]
        found: Found = [[] for _ in self.columns]
        left = _take(finals, last_at, self._root, found)
        at = np.arange(len(infos)) + np.repeat(np.arange(len(lengths)), lengths)
        is_other = np.ones(len(infos), bool)
        is_other[last] = False
        for begin in range(0, len(infos), _BLOCK_ROWS):
            block = slice(begin, begin + _BLOCK_ROWS)
            others = list(compress(infos[block].tolist(), is_other[block].tolist()))
            left.update(_take(_as_dicts(others, dropped), at[block][is_other[block]], self._root, found))
        keys_of = dict(zip(last_at[list(repeated)].tolist(), repeated.values(), strict=True))
        texts = {row: _repeated(keys) for row, keys in keys_of.items()}
        for row in sorted(left):
            packed = packed_info(left[row], dropped)
            texts[row] = dumps({**packed, _FINAL_OBS: keys_of[row]} if row in keys_of else packed)
        arrays = [_spread(column.item, rows, each) for column, each in zip(self.columns, found, strict=True)]
        return arrays, texts

    def decode(
        self, columns: Sequence[Sequence[Any]], texts: Sequence[str | None], final_obs: Callable[[int], Any]
    ) -> npt.NDArray[np.object_]:
        """Infos of some rows, the inverse of `encode`. `final_obs` returns the observation after a row's step."""
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
    """An info in JSON's types. Values that JSON cannot hold are left out, and `dropped` counts them by key."""
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


def _column_item(values: list[Any]) -> ObjectType | None:
    """The item of a column of these values; None if no column can hold them. In a column, None means no value."""
    types = set(map(type, values))
    if type(None) in types:
        return None
    # Of these the type says it all.
    item = item_of(values[:1] if types in ({bool}, {float}) else values)
    return item if isinstance(item, Plain | Numbers | Rows) else None


def _is_nested(value: Any) -> bool:
    """Whether a value is a dict whose values can have columns. An empty dict would be lost."""
    return type(value) is dict and bool(value) and all(type(key) is str for key in value)


def _take(dicts: list[dict[Any, Any]], rows: Array, node: _Node, found: Found) -> dict[int, dict[Any, Any]]:
    """Put the values that fit into columns, key by key; returns the other values of dicts, by row."""
    left: dict[int, dict[Any, Any]] = {}
    count = sum(map(len, dicts))
    # The keys of the first dict, which many dicts have and no others, first.
    for key in sorted(node.children, key=lambda each: each not in dicts[0]) if count else ():
        if not count:
            break
        child, where = node.children[key], rows
        try:
            values = list(map(itemgetter(key), dicts))
        except KeyError:
            having = [i for i, info in enumerate(dicts) if key in info]
            where, values = rows[having], [dicts[i][key] for i in having]
        count -= len(values)
        if not values:
            continue
        if child.item is not None and fits(child.item, values):
            found[child.column].append((where, values))
        elif child.children and all(map(_is_nested, values)):
            for row, rest in _take(values, where, child, found).items():
                left.setdefault(row, {})[key] = rest
        elif len(values) > 1:
            for i, value in enumerate(values):
                for row, rest in _take([{key: value}], where[i : i + 1], node, found).items():
                    left.setdefault(row, {}).update(rest)
        else:
            left.setdefault(int(where[0]), {})[key] = values[0]
    if count:
        for row, info in zip(rows.tolist(), dicts, strict=True):
            rest = {key: value for key, value in info.items() if key not in node.children}
            if rest:
                left.setdefault(row, {}).update(rest)
    return left


def _spread(item: ObjectType, rows: int, pieces: list[tuple[Any, list[Any]]]) -> Any:
    """A `pyarrow.Array` with values in some rows, and nulls in the others."""
    dtype = _NUMBERS.get(item.name) if isinstance(item, Plain) else None
    if isinstance(item, Numbers) and item.is_scalar and item.dtype.kind in "biuf":
        dtype = item.dtype
    if not pieces:
        return pa.nulls(rows, item.arrow_type)
    if dtype is None:
        objects: list[Any] = [None] * rows
        for where, values in pieces:
            for row, value in zip(where, values, strict=True):
                objects[row] = value
        return item.encode(objects)
    numbers, missing = np.zeros(rows, dtype), np.ones(rows, bool)
    for where, values in pieces:
        numbers[where] = np.fromiter(values, dtype, len(values))
        missing[where] = False
    return ArrayType(dtype, ()).encode(numbers, missing)


@lru_cache
def _repeated(keys: tuple[str, ...]) -> str:
    return dumps({_FINAL_OBS: keys})


def _as_dicts(infos: list[Any], dropped: Counter[str]) -> list[dict[Any, Any]]:
    """Infos as dicts of Python's own type; empty ones in place of what is no dict."""
    if set(map(type, infos)) <= {dict}:
        return infos
    mappings = [isinstance(info, Mapping) for info in infos]
    if not all(mappings):
        dropped["(an info that is no dict)"] += mappings.count(False)
    return [dict(info) if is_mapping else {} for info, is_mapping in zip(infos, mappings, strict=True)]


def _add_rest(info: Info, text: str, final_obs: Callable[[], Any]) -> None:
    packed = parsed(text, "info_json")
    repeating = packed.pop(_FINAL_OBS, [])
    if not isinstance(repeating, list) or not all(key in FINAL_OBS_KEYS for key in repeating):
        raise DamagedTraceError(f"info_json: expected keys of a last observation, got {repeating!r}")
    _merge(info, unpacked_info(packed, "info_json"))
    for key in repeating:
        info[key] = unwrap(final_obs())


def _merge(info: Info, rest: Info) -> None:
    """Add the values that JSON kept, also to dicts of which columns have the other values."""
    for key, value in rest.items():
        if isinstance(value, dict) and value and isinstance(info.get(key), dict):
            _merge(info[key], value)
        else:
            info[key] = value
