"""How trees of observations and actions lie in columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from gymnasium import Space, spaces

from vecrollout._typing import Array
from vecrollout.data.kinds import Item, Kind, Part
from vecrollout.data.plain import UnstorableError, is_writable, pack, unpack
from vecrollout.data.structures import Spec, Structure
from vecrollout.errors import ArgumentTypeError, DamagedTraceError, DtypeError, StructureError
from vecrollout.storage.arrow import pa
from vecrollout.storage.codec.columns import OBJECT, Column
from vecrollout.storage.codec.fitting import item_of, item_of_space
from vecrollout.storage.codec.objects import JSON, NOTHING, ObjectType

Spaces: TypeAlias = tuple[Space[Any], Space[Any]]
"""Observation and action space."""

MAX_TEXT_BYTES = 1 << 28
"""Memory of a trajectory's text in one array: a file of a few bytes could ask for any amount."""


@dataclass(frozen=True)
class ShardPart:
    """The observations or the actions: a tree and the column of each leaf, in the tree's order."""

    name: str
    """Name of the trajectory's field."""
    structure: Structure
    columns: tuple[Column, ...]

    @classmethod
    def of(cls, name: str, prefix: str, tree: Any, space: Space[Any] | None) -> ShardPart:
        """The part that some observations or actions are; their space tells what objects are made of."""
        structure = Structure.of(tree)
        names = _distinct(_column_names(structure.spec, prefix))
        leaves = _leaves(tree, structure, name)
        columns = [
            Column(each, leaf.dtype, leaf.shape[1:], _item(leaf, leaf_space))
            for each, leaf, leaf_space in zip(names, leaves, _leaf_spaces(structure.spec, space), strict=True)
        ]
        part = cls(name, structure, tuple(columns))
        _check_storable(part)
        return part

    def leaves(self, tree: Any) -> list[Array]:
        """The leaves of other observations or actions of the same structure, checked."""
        leaves = _leaves(tree, self.structure, self.name)
        if not all(column.is_plain for column in self.columns):
            _check_values(leaves, self.structure.names(self.name))
        return leaves

    def has(self, leaves: Sequence[Array]) -> bool:
        """Whether the columns have room for arrays of these dtypes and shapes."""
        return all(
            column.shape == leaf.shape[1:]
            and (column.dtype.kind == leaf.dtype.kind if column.is_text else column.dtype == leaf.dtype)
            for column, leaf in zip(self.columns, leaves, strict=True)
        )

    def kind(self) -> Part:
        """Structure, dtypes and shapes."""
        return Part(self.structure, tuple(Item(column.dtype, column.shape) for column in self.columns))

    def to_json(self) -> Any:
        """The tree, with a column's name at each leaf; dicts as pairs of key and entry, which keeps their order."""
        return _tree_to_json(self.structure.spec, iter(self.columns))

    @classmethod
    def from_json(cls, name: str, packed: Any, columns: dict[str, Column]) -> ShardPart:
        """The part that `to_json` described."""
        used: list[Column] = []
        try:
            spec = _tree_from_json(packed, columns, used)
            return cls(name, Structure(spec), tuple(used))
        except (LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise DamagedTraceError(f"{name}: expected a tree of columns, got something else: {error!r}") from error


@dataclass(frozen=True)
class ShardLayout:
    """In which columns a shard has the arrays of trajectories."""

    obs: ShardPart
    acts: ShardPart
    rews: Column | None
    """None where the trajectories have no rewards."""

    @classmethod
    def of(cls, obs: Any, acts: Any, rews: Array | None, spaces: Spaces | None = None) -> ShardLayout:
        """The layout of all trajectories that are like these."""
        obs_space, act_space = spaces or (None, None)
        parts = ShardPart.of("obs", "obs", obs, obs_space), ShardPart.of("acts", "action", acts, act_space)
        return cls(*parts, None if rews is None else Column("reward", rews.dtype, rews.shape[1:]))

    @cached_property
    def columns(self) -> tuple[Column, ...]:
        """All columns of arrays, observations first."""
        return (*self.obs.columns, *self.acts.columns, *(() if self.rews is None else (self.rews,)))

    @cached_property
    def row_bytes(self) -> int:
        """Memory of a step's row in the first trajectory's dtypes."""
        return sum(column.row_bytes for column in self.columns)

    @cached_property
    def has_text(self) -> bool:
        """Whether any column holds text."""
        return any(column.is_text for column in self.columns)

    @cached_property
    def is_plain(self) -> bool:
        """Whether no column holds text or objects, whose values have to be looked at."""
        return all(column.is_plain for column in self.columns)

    @cached_property
    def _arrays(self) -> list[tuple[np.dtype[Any], tuple[int, ...]]]:
        """Dtypes and items' shapes of observations and actions; empty where there are trees, text or objects."""
        is_leaf = self.obs.structure.is_leaf and self.acts.structure.is_leaf and self.rews is not None
        return [(column.dtype, column.shape) for column in self.columns[:2]] if is_leaf and self.is_plain else []

    @cached_property
    def has_objects(self) -> bool:
        """Whether any column holds objects."""
        return any(column.has_objects for column in self.columns)

    def flattened(self, obs: Any, acts: Any, rews: Array | None) -> list[Array]:
        """The arrays of trajectories that are known to fit, one a column."""
        leaves = [*self.obs.structure.flatten(obs, "obs"), *self.acts.structure.flatten(acts, "acts")]
        return [np.asarray(leaf) for leaf in leaves] if rews is None else [*map(np.asarray, leaves), rews]

    def leaves(self, obs: Any, acts: Any, rews: Array | None) -> list[Array]:
        """The arrays of other trajectories of the same structure, one a column, checked."""
        leaves = [*self.obs.leaves(obs), *self.acts.leaves(acts)]
        if (rews is None) != (self.rews is None):
            wanted, got = ("with", "without") if rews is None else ("without", "with")
            raise ArgumentTypeError(f"trajectory: expected one {wanted} rewards as the trace's first, got one {got}")
        return leaves if rews is None else [*leaves, rews]

    def has_plain(self, obs: Any, acts: Any, rews: Array | None) -> bool:
        """Whether these are three arrays that the columns have room for: quicker than `leaves` and `has`."""
        if rews is None or self.rews is None or rews.shape[1:] != self.rews.shape:
            return False
        return [_of_array(obs), _of_array(acts)] == self._arrays

    def has(self, leaves: Sequence[Array]) -> bool:
        """Whether the columns have room for arrays of these dtypes and shapes; rewards may have another precision."""
        count = len(self.obs.columns)
        if self.rews is not None and leaves[-1].shape[1:] != self.rews.shape:
            return False
        return self.obs.has(leaves[:count]) and self.acts.has(leaves[count : count + len(self.acts.columns)])

    def fitting(self, leaves: Sequence[Array], *, may_narrow: bool) -> ShardLayout:
        """The layout that has these arrays, too: itself, or one with other objects or more precise rewards."""
        columns = [
            column.widened(list(leaf), may_narrow=may_narrow) if column.has_objects else column
            for column, leaf in zip(self.columns, leaves, strict=True)
        ]
        rews = self.rews
        if rews is not None:
            # An environment may say some of its rewards in Python's numbers, and others in single precision.
            rews = replace(rews, dtype=np.promote_types(columns.pop().dtype, leaves[-1].dtype))
        count = len(self.obs.columns)
        obs, acts = tuple(columns[:count]), tuple(columns[count:])
        fitting = ShardLayout(replace(self.obs, columns=obs), replace(self.acts, columns=acts), rews)
        return self if fitting == self else fitting

    def kind(self) -> Kind:
        """Structures, dtypes and shapes."""
        rews = (None, ()) if self.rews is None else (self.rews.dtype, self.rews.shape)
        return Kind(self.obs.kind(), self.acts.kind(), *rews)

    def to_json(self) -> dict[str, Any]:
        """For the schema's metadata."""
        rews = None if self.rews is None else self.rews.name
        return {"obs": self.obs.to_json(), "acts": self.acts.to_json(), "rews": rews}

    @classmethod
    def from_json(cls, packed: Any, columns: dict[str, Column]) -> ShardLayout:
        """The layout that `to_json` described."""
        try:
            rews = None if packed["rews"] is None else columns[packed["rews"]]
            obs, acts = packed["obs"], packed["acts"]
        except (LookupError, TypeError) as error:
            raise DamagedTraceError(f"layout: expected obs, acts and rews, got {packed!r}") from error
        if rews is not None and (rews.dtype.kind != "f" or len(rews.shape) > 1):
            raise DamagedTraceError(f"layout: expected rewards to be floats, got {rews.dtype} of shape {rews.shape}")
        return cls(ShardPart.from_json("obs", obs, columns), ShardPart.from_json("acts", acts, columns), rews)


def _check_storable(part: ShardPart) -> None:
    """Refuse keys and dtypes that cannot be written."""
    for column, where in zip(part.columns, part.structure.names(part.name), strict=True):
        if not is_writable(column.name):
            raise StructureError(f"{where}: expected keys that UTF-8 can write, got a lone surrogate")
        try:
            column.field()
        except (pa.ArrowException, ValueError, TypeError, LookupError) as error:
            raise DtypeError(f"{where}: expected a dtype that can be stored, got {column.dtype}: {error}") from error
    try:
        part.to_json()
    except UnstorableError as error:
        raise StructureError(f"{part.name}: expected keys of plain data, such as text, got others: {error}") from error


def _leaves(tree: Any, structure: Structure, name: str) -> list[Array]:
    """The leaves of a tree as plain arrays."""
    leaves = structure.flatten(tree, name)
    for i, leaf in enumerate(leaves):
        if isinstance(leaf, np.ma.MaskedArray):
            raise DtypeError(
                f"{structure.names(name)[i]}: expected an array, got one with a mask, which would be lost; fill it in "
                "(`filled`), and keep its mask as an entry of its own"
            )
    return [np.asarray(leaf) for leaf in leaves]


def _of_array(tree: Any) -> Any:
    return (tree.dtype, tree.shape[1:]) if type(tree) is np.ndarray else None


def _item(leaf: Array, space: Space[Any] | None) -> ObjectType:
    if leaf.dtype != OBJECT or leaf.ndim != 1:
        return JSON
    return (space and item_of_space(space)) or NOTHING


def _check_values(leaves: Sequence[Array], names: Sequence[str]) -> None:
    for leaf, where in zip(leaves, names, strict=True):
        if leaf.dtype.kind in "US":
            _check_text(leaf, where)
        elif leaf.dtype == OBJECT:
            _check_objects(leaf, where)


def _check_text(leaf: Array, where: str) -> None:
    if leaf.nbytes > MAX_TEXT_BYTES:
        raise DtypeError(
            f"{where}: expected text of at most {MAX_TEXT_BYTES} bytes of memory a trajectory, got {leaf.nbytes}; "
            "use dtype object for long text"
        )
    if leaf.dtype.kind == "U" and not is_writable("".join(leaf.reshape(-1).tolist())):
        raise DtypeError(f"{where}: expected text that UTF-8 can write, got a lone surrogate")


def _check_objects(leaf: Array, where: str) -> None:
    """Refuse objects that neither a type of Arrow nor JSON can hold."""
    try:
        if leaf.ndim == 1 and item_of(leaf) is not None:
            return
        pack(leaf)
    except (UnstorableError, RecursionError) as error:
        raise DtypeError(f"{where}: expected objects of plain data and arrays, got others: {error}") from error


def _leaf_spaces(spec: Spec, space: Space[Any] | None) -> list[Space[Any] | None]:
    """The space of each leaf, None where the space is not made up like the structure."""
    if spec is None:
        return [space]
    parts = dict(enumerate(space.spaces)) if isinstance(space, spaces.Tuple) else getattr(space, "spaces", {})
    return [leaf for key, child in spec[1] for leaf in _leaf_spaces(child, parts.get(key))]


def _column_names(spec: Spec, prefix: str) -> list[str]:
    """`obs.camera`, `obs.arm.0`: for people; the metadata has the exact keys."""
    if spec is None:
        return [prefix]
    return [name for key, child in spec[1] for name in _column_names(child, f"{prefix}.{key}")]


def _distinct(names: list[str]) -> list[str]:
    """The names, later ones with a number where keys with dots in them make them equal."""
    taken: set[str] = set()
    distinct = []
    for name in names:
        chosen, number = name, 2
        while chosen in taken:
            chosen, number = f"{name}#{number}", number + 1
        taken.add(chosen)
        distinct.append(chosen)
    return distinct


def _tree_to_json(spec: Spec, columns: Iterator[Column]) -> Any:
    if spec is None:
        return next(columns).name
    kind, entries = spec
    return {kind: [[pack(key), _tree_to_json(child, columns)] for key, child in entries]}


def _tree_from_json(packed: Any, columns: dict[str, Column], used: list[Column]) -> Spec:
    if isinstance(packed, str):
        used.append(columns[packed])
        return None
    ((kind, entries),) = packed.items()
    if kind not in ("dict", "tuple"):
        raise ValueError(f"expected a dict or a tuple, got {kind!r}")
    spec = tuple((unpack(key), _tree_from_json(child, columns, used)) for key, child in entries)
    keys = [key for key, _ in spec]
    if len(set(keys)) != len(keys) or (kind == "tuple" and keys != list(range(len(keys)))):
        raise ValueError(f"expected each key once, got {keys}")
    return kind, spec
