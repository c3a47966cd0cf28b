"""What the objects of a column are made of: variable-length sequences, graphs, and records of them, as Arrow types.

Elements of Gymnasium's Sequence and Graph spaces differ in length from step to step, so they come as arrays of objects.
An `ObjectType` says what all objects of a column have in common, and encodes them without loss; None may stand in for
any.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from gymnasium.spaces import GraphInstance

from vecrollout._typing import Array
from vecrollout.data.dtypes import dtype_from_json, dtype_to_json
from vecrollout.data.plain import dumps, pack, unpack
from vecrollout.storage.arrow import pa
from vecrollout.storage.codec.arrays import ArrayType


class ObjectType(Protocol):
    """What the objects of a column have in common."""

    @property
    def arrow_type(self) -> Any:
        """The `pyarrow.DataType`."""
        ...

    def encode(self, values: Sequence[Any]) -> Any:
        """The objects as a `pyarrow.Array`; each must be None or of this kind."""
        ...

    def decode(self, column: Any) -> Sequence[Any]:
        """The objects of a `pyarrow.Array`."""
        ...

    def to_json(self) -> list[Any]:
        """For a field's metadata."""
        ...


@dataclass(frozen=True)
class Json:
    """Anything that JSON can be made of, as text."""

    @property
    def arrow_type(self) -> Any:
        """Text."""
        return pa.string()

    def encode(self, values: Sequence[Any]) -> Any:
        """A text each; `UnstorableError` where an object is neither plain data nor an array."""
        return pa.array([None if value is None else dumps(pack(value)) for value in values], pa.string())

    def decode(self, column: Any) -> Sequence[Any]:
        """What was packed."""
        return [None if text is None else unpack(json.loads(text)) for text in column.to_pylist()]

    def to_json(self) -> list[Any]:
        """`["json"]`."""
        return ["json"]


JSON = Json()


_PLAIN = {"bool": pa.bool_(), "int": pa.int64(), "float": pa.float64(), "str": pa.string(), "nothing": pa.null()}


@dataclass(frozen=True)
class Plain:
    """Python's own bools, integers of 64 bits, floats, or text; or None alone."""

    name: str

    @property
    def arrow_type(self) -> Any:
        """The type of the same name."""
        return _PLAIN[self.name]

    def encode(self, values: Sequence[Any]) -> Any:
        """As they are."""
        return pa.array(values, self.arrow_type)

    def decode(self, column: Any) -> Sequence[Any]:
        """As they are."""
        values: list[Any] = column.to_pylist()
        return values

    def to_json(self) -> list[Any]:
        """`["int"]` and the like."""
        return [self.name]


@dataclass(frozen=True)
class Numbers:
    """NumPy's arrays of one dtype and shape, or its scalars."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...] = ()
    is_scalar: bool = False
    """Whether they are scalars, and not arrays without dimensions."""

    @property
    def arrow_type(self) -> Any:
        """As a column of such items has it."""
        return self._arrays.arrow_type

    def encode(self, values: Sequence[Any]) -> Any:
        """As a column of such items is encoded."""
        rows = np.zeros((len(values), *self.shape), self.dtype)
        missing = np.zeros(len(values), dtype=bool)
        for i, value in enumerate(values):
            if value is None:
                missing[i] = True
            else:
                rows[i] = value
        return self._arrays.encode(rows, missing)

    def decode(self, column: Any) -> Sequence[Any]:
        """Views of the column's memory."""
        rows = self._arrays.decode(column)
        values = list(rows) if self.is_scalar or self.shape else [rows[i, ...] for i in range(len(rows))]
        return _with_gaps(values, column)

    def to_json(self) -> list[Any]:
        """`["scalar", dtype]`, or `["array", dtype, shape]`."""
        dtype = dtype_to_json(self.dtype)
        return ["scalar", dtype] if self.is_scalar else ["array", dtype, list(self.shape)]

    @property
    def _arrays(self) -> ArrayType:
        return ArrayType(self.dtype, self.shape)


@dataclass(frozen=True)
class Rows:
    """Arrays that differ in the length of their first dimension alone, as stacked sequences have it."""

    row: ArrayType
    """What each of their rows is: an array of the other dimensions."""

    @property
    def arrow_type(self) -> Any:
        """A list of the rows."""
        return pa.list_(self.row.arrow_type)

    def encode(self, values: Sequence[Any]) -> Any:
        """All rows behind one another, and where each array begins."""
        rows = [np.empty((0, *self.row.shape), self.row.dtype), *(value for value in values if value is not None)]
        joined = np.concatenate(rows, dtype=self.row.dtype, casting="no")
        return _lists(values, self.row.encode(joined))

    def decode(self, column: Any) -> Sequence[Any]:
        """Views of the column's memory."""
        return _cut(column, self.row.decode(column.values))

    def to_json(self) -> list[Any]:
        """`["rows", dtype, shape]`, the shape that of a row."""
        return ["rows", dtype_to_json(self.row.dtype), list(self.row.shape)]


@dataclass(frozen=True)
class Tuples:
    """Tuples of any length whose entries are all of one kind, as sequences have it that are not stacked."""

    entry: ObjectType

    @property
    def arrow_type(self) -> Any:
        """A list of the entries."""
        return pa.list_(self.entry.arrow_type)

    def encode(self, values: Sequence[Any]) -> Any:
        """All entries behind one another, and where each tuple begins."""
        return _lists(values, self.entry.encode([entry for value in values if value is not None for entry in value]))

    def decode(self, column: Any) -> Sequence[Any]:
        """Tuples of what the entries decode to."""
        return _cut(column, self.entry.decode(column.values), tuple)

    def to_json(self) -> list[Any]:
        """`["sequence", entry]`."""
        return ["sequence", self.entry.to_json()]


@dataclass(frozen=True)
class Records:
    """Dicts with the same keys, tuples of one length whose entries differ, or graphs."""

    kind: str
    """`"dict"`, `"tuple"` or `"graph"`."""
    entries: tuple[tuple[str, ObjectType], ...]
    """What is under each key; of tuples the keys are `"0"`, `"1"` and so on, of graphs the names of their arrays."""

    @property
    def arrow_type(self) -> Any:
        """A struct with a field a key."""
        return pa.struct([(key, entry.arrow_type) for key, entry in self.entries])

    def encode(self, values: Sequence[Any]) -> Any:
        """Field by field."""
        keys = [key if self.kind == "dict" else i for i, (key, _) in enumerate(self.entries)]
        fields = [
            entry.encode([None if value is None else value[key] for value in values])
            for key, (_, entry) in zip(keys, self.entries, strict=True)
        ]
        missing = pa.array([value is None for value in values], pa.bool_())
        return pa.StructArray.from_arrays(fields, fields=list(self.arrow_type), mask=missing)

    def decode(self, column: Any) -> Sequence[Any]:
        """Records of what the fields decode to."""
        fields = [entry.decode(column.field(i)) for i, (_, entry) in enumerate(self.entries)]
        rows = zip(*fields, strict=True)
        if self.kind == "dict":
            keys = [key for key, _ in self.entries]
            values: list[Any] = [dict(zip(keys, row, strict=True)) for row in rows]
        else:
            values = [GraphInstance(*row) for row in rows] if self.kind == "graph" else list(rows)
        return _with_gaps(values, column)

    def to_json(self) -> list[Any]:
        """`["dict", [[key, entry], ...]]`, and `"tuple"` and `"graph"` likewise."""
        return [self.kind, [[key, entry.to_json()] for key, entry in self.entries]]


NOTHING = Plain("nothing")
"""What fits None, as it all does, and nothing else."""

GRAPH = tuple(GraphInstance._fields)
"""Names of a graph's arrays: `nodes`, `edges` and `edge_links`."""


def item_from_json(packed: Any) -> ObjectType:
    """The item whose `to_json` this is."""
    kind, *rest = packed
    if kind == "json":
        return JSON
    if kind in _PLAIN:
        return Plain(kind)
    if kind in ("scalar", "array", "rows"):
        dtype, shape = dtype_from_json(rest[0]), () if kind == "scalar" else tuple(map(int, rest[1]))
        if dtype.kind not in "biufcmM":
            raise ValueError(f"expected a dtype of numbers, got {dtype}")
        return Rows(ArrayType(dtype, shape)) if kind == "rows" else Numbers(dtype, shape, is_scalar=kind == "scalar")
    if kind == "sequence":
        return Tuples(item_from_json(rest[0]))
    if kind not in ("dict", "tuple", "graph"):
        raise ValueError(f"expected a known kind of object, got {kind!r}")
    entries = tuple((str(key), item_from_json(entry)) for key, entry in rest[0])
    if not entries or (kind == "graph" and tuple(key for key, _ in entries) != GRAPH):
        raise ValueError(f"expected the entries of a {kind}, got {rest[0]!r}")
    return Records(kind, entries)


def _lists(values: Sequence[Any], entries: Any) -> Any:
    """Lists of entries that lie behind one another."""
    lengths = [0 if value is None else len(value) for value in values]
    offsets = pa.array(np.concatenate(([0], np.cumsum(lengths))), pa.int32())
    missing = pa.array([value is None for value in values], pa.bool_())
    return pa.ListArray.from_arrays(offsets, entries, mask=missing)


def _cut(column: Any, entries: Any, make: Callable[[Any], Any] = lambda piece: piece) -> list[Any]:
    """The lists of a column whose entries are decoded already."""
    ends = column.offsets.to_pylist()
    pieces = [make(entries[begin:end]) for begin, end in itertools.pairwise(ends)]
    return _with_gaps(pieces, column)


def _with_gaps(values: list[Any], column: Any) -> list[Any]:
    if column.null_count == 0:
        return values
    is_valid: Array = column.is_valid().to_numpy(zero_copy_only=False)
    return [value if valid else None for value, valid in zip(values, is_valid.tolist(), strict=True)]
