"""How trees of observations and actions lie in columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from gymnasium import Space, spaces

from vecrollout._typing import Array
from vecrollout.data.plain import UnstorableError, is_writable, pack, unpack
from vecrollout.data.structures import Spec as Structure
from vecrollout.data.structures import flatten, leaf_names, structure_of, unflatten
from vecrollout.data.trajectory import Trajectory
from vecrollout.errors import ArgumentTypeError, DamagedTraceError, DtypeError, ShapeError, StructureError
from vecrollout.storage.arrays import encodable
from vecrollout.storage.arrow import ArrowErrors
from vecrollout.storage.columns import Column
from vecrollout.storage.item_kinds import item_of, item_of_space
from vecrollout.storage.items import JSON, Item, Nothing

Spaces: TypeAlias = tuple[Space[Any], Space[Any]]
"""Observation and action space."""


@dataclass(frozen=True)
class Part:
    """The observations or the actions: a tree and the column of each leaf, in the tree's order."""

    name: str
    """Of the trajectory's field, for errors."""
    structure: Structure
    columns: tuple[Column, ...]

    @classmethod
    def of(cls, name: str, column: str, tree: Any, space: Space[Any] | None) -> Part:
        """What a trajectory's field looks like.

        Args:
            name: Name of the field.
            column: What the columns' names begin with.
            tree: The field.
            space: The space that it is of, where that is known. It tells what objects are made of; for everything
                else the data says itself what it is.

        Raises:
            DtypeError: If an array has a mask.
        """
        structure = structure_of(tree)
        names = _distinct(_column_names(structure, column))
        leaves = _leaves(tree, structure, name)
        columns = [
            Column(each, leaf.dtype, leaf.shape[1:], _item(leaf, leaf_space))
            for each, leaf, leaf_space in zip(names, leaves, _leaf_spaces(structure, space), strict=True)
        ]
        return cls(name, structure, tuple(columns))

    def check(self) -> None:
        """Refuse what no shard can hold.

        Raises:
            DtypeError: If arrays have a dtype that cannot be stored.
            StructureError: If a key cannot be written.
        """
        for column, where in zip(self.columns, leaf_names(self.structure, self.name), strict=True):
            if not is_writable(column.name):
                raise StructureError(f"{where}: expected keys that UTF-8 can write, got a lone surrogate")
            try:
                column.field()
            except ArrowErrors as error:
                raise DtypeError(
                    f"{where}: expected a dtype that can be stored, got {column.dtype}: {error}"
                ) from error
        try:
            self.to_json()
        except UnstorableError as error:
            raise StructureError(
                f"{self.name}: expected keys of plain data, such as text, got others: {error}"
            ) from error

    def leaves(self, tree: Any) -> list[Array]:
        """The leaves of another trajectory's field, one a column.

        Raises:
            StructureError: If it has other entries.
            ShapeError: If a leaf has another shape.
            DtypeError: If a leaf has another dtype, a mask, text that cannot be written, or objects that are no plain
                data.
        """
        if self.structure is None and type(tree) is np.ndarray:
            leaves = [tree]
        else:
            leaves = _leaves(tree, self.structure, self.name)
        for i, (column, leaf) in enumerate(zip(self.columns, leaves, strict=True)):
            same_dtype = column.dtype.kind == leaf.dtype.kind if column.is_text else column.dtype == leaf.dtype
            if column.shape != leaf.shape[1:] or not same_dtype:
                error = ShapeError if column.shape != leaf.shape[1:] else DtypeError
                raise error(
                    f"{leaf_names(self.structure, self.name)[i]}: expected items of dtype {column.dtype} and shape "
                    f"{column.shape} as in the trace's first trajectory, got {leaf.dtype} and {leaf.shape[1:]}"
                )
            if leaf.dtype.kind == "U" and not encodable(leaf):
                raise DtypeError(f"{self.name}: expected text that UTF-8 can write, got a lone surrogate")
            if column.has_objects:
                _check_objects(leaf, leaf_names(self.structure, self.name)[i])
        return leaves

    def tree(self, leaves: list[Array]) -> Any:
        """The field, of leaves in the order of the columns."""
        return unflatten(self.structure, leaves)

    def to_json(self) -> Any:
        """The tree, with a column's name at each leaf; dicts as pairs of key and entry, which keeps their order."""
        return _tree_to_json(self.structure, iter(self.columns))

    @classmethod
    def from_json(cls, name: str, packed: Any, columns: dict[str, Column]) -> Part:
        """The part that `to_json` described.

        Raises:
            DamagedTraceError: If it is none, or one of its columns is missing.
        """
        used: list[Column] = []
        try:
            return cls(name, _tree_from_json(packed, columns, used), tuple(used))
        except (LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise DamagedTraceError(f"{name}: expected a tree of columns, got something else: {error!r}") from error


@dataclass(frozen=True)
class Layout:
    """Where in its columns a trace has a trajectory's arrays."""

    obs: Part
    acts: Part
    rews: Column | None
    """None where the trajectories have no rewards."""

    @classmethod
    def of(cls, trajectory: Trajectory, spaces: Spaces | None = None) -> Layout:
        """What all trajectories of a trace with this one look like; `spaces` are those of observations and actions.

        Raises:
            DtypeError: If arrays have a dtype that cannot be stored.
            StructureError: If a key cannot be written.
        """
        rews = getattr(trajectory, "rews", None)
        obs_space, act_space = spaces or (None, None)
        obs = Part.of("obs", "obs", trajectory.obs, obs_space)
        acts = Part.of("acts", "action", trajectory.acts, act_space)
        for part in (obs, acts):
            part.check()
        return cls(obs, acts, None if rews is None else Column("reward", rews.dtype, ()))

    def widened(self, leaves: Sequence[Sequence[Array]], *, may_narrow: bool) -> Layout:
        """The layout with columns of objects that fit these too.

        Args:
            leaves: Of some trajectories, their arrays.
            may_narrow: Whether these are the first: then they outweigh what their spaces say.
        """
        if not any(column.has_objects for column in self.columns):
            return self
        columns = iter(
            column.widened([each for part in parts for each in part], may_narrow=may_narrow)
            for column, parts in zip(self.columns, zip(*leaves, strict=True), strict=True)
        )
        parts = [replace(part, columns=tuple(next(columns) for _ in part.columns)) for part in (self.obs, self.acts)]
        return Layout(parts[0], parts[1], self.rews)

    def holding(self, rews: Array | None) -> Layout:
        """The layout with rewards as precise as these.

        An environment may say some of its rewards in Python's numbers, and others in single precision.
        """
        if rews is None or self.rews is None or rews.dtype == self.rews.dtype:
            return self
        dtype = np.promote_types(rews.dtype, self.rews.dtype)
        return self if dtype == self.rews.dtype else replace(self, rews=replace(self.rews, dtype=dtype))

    @cached_property
    def has_text(self) -> bool:
        """Whether any column holds text."""
        return any(column.is_text for column in self.columns)

    @cached_property
    def _plain(self) -> list[tuple[np.dtype[Any], tuple[int, ...]]]:
        """Dtypes and items' shapes of observations, actions, rewards; empty where there are trees, text or objects."""
        are_arrays = self.obs.structure is None and self.acts.structure is None
        is_plain = are_arrays and self.rews is not None and all(column.is_plain for column in self.columns)
        return [(column.dtype, column.shape) for column in self.columns] if is_plain else []

    @cached_property
    def columns(self) -> tuple[Column, ...]:
        """All columns of arrays, observations first."""
        return (*self.obs.columns, *self.acts.columns, *(() if self.rews is None else (self.rews,)))

    def leaves(self, trajectory: Trajectory) -> list[Array]:
        """A trajectory's arrays, one a column: T + 1 rows of observations, T of everything else.

        Raises:
            StructureError: If its trees have other entries.
            ShapeError: If an array has items of another shape.
            DtypeError: If one has another dtype, or something in it that cannot be stored.
            ArgumentTypeError: If there are rewards where the trace has none, or the other way round.
        """
        rews = getattr(trajectory, "rews", None)
        if self._plain and type(trajectory.obs) is type(trajectory.acts) is np.ndarray and rews is not None:
            # Most come this way.
            plain = [trajectory.obs, trajectory.acts, rews]
            if [(leaf.dtype, leaf.shape[1:]) for leaf in plain] == self._plain:
                return plain
        leaves = [*self.obs.leaves(trajectory.obs), *self.acts.leaves(trajectory.acts)]
        if (rews is None) != (self.rews is None):
            wanted, got = ("with", "without") if rews is None else ("without", "with")
            raise ArgumentTypeError(f"trajectory: expected one {wanted} rewards as the trace's first, got one {got}")
        if rews is not None and self.rews is not None:
            leaves += Part("rews", None, (self.rews,)).leaves(rews.astype(self.rews.dtype, copy=False))
        return leaves

    def to_json(self) -> dict[str, Any]:
        """For the schema's metadata."""
        return {
            "obs": self.obs.to_json(),
            "acts": self.acts.to_json(),
            "rews": None if self.rews is None else self.rews.name,
        }

    @classmethod
    def from_json(cls, packed: Any, columns: dict[str, Column]) -> Layout:
        """The layout that `to_json` described.

        Raises:
            DamagedTraceError: If it is none, or one of its columns is missing.
        """
        try:
            rews = None if packed["rews"] is None else columns[packed["rews"]]
            obs, acts = packed["obs"], packed["acts"]
        except (LookupError, TypeError) as error:
            raise DamagedTraceError(f"layout: expected obs, acts and rews, got {packed!r}") from error
        if rews is not None and (rews.dtype.kind != "f" or rews.shape):
            raise DamagedTraceError(f"layout: expected rewards to be floats, got {rews.dtype} of shape {rews.shape}")
        return cls(Part.from_json("obs", obs, columns), Part.from_json("acts", acts, columns), rews)


def _leaves(tree: Any, structure: Structure, name: str) -> list[Array]:
    """The leaves of a tree as plain arrays.

    Raises:
        StructureError: If the tree has other entries than the structure.
        DtypeError: If an array has a mask.
    """
    leaves = flatten(tree, structure, name)
    for leaf, where in zip(leaves, leaf_names(structure, name), strict=True):
        if isinstance(leaf, np.ma.MaskedArray):
            raise DtypeError(
                f"{where}: expected an array, got one with a mask, which would be lost; fill it in (`filled`), and "
                "keep its mask as an entry of its own"
            )
    return [np.asarray(leaf) for leaf in leaves]


def _item(leaf: Array, space: Space[Any] | None) -> Item:
    if leaf.dtype != object or leaf.ndim != 1:
        return JSON
    return (space and item_of_space(space)) or Nothing()


def _check_objects(leaf: Array, where: str) -> None:
    """Refuse objects that neither a type of Arrow nor JSON can hold.

    Raises:
        DtypeError: If there are any.
    """
    try:
        if leaf.ndim == 1 and item_of(leaf) is not None:
            return
        pack(leaf)
    except (UnstorableError, RecursionError) as error:
        raise DtypeError(f"{where}: expected objects of plain data and arrays, got others: {error}") from error


def _leaf_spaces(structure: Structure, space: Space[Any] | None) -> list[Space[Any] | None]:
    """The space of each leaf, None where the space is not made up like the structure."""
    if structure is None:
        return [space]
    parts = dict(enumerate(space.spaces)) if isinstance(space, spaces.Tuple) else getattr(space, "spaces", {})
    return [leaf for key, child in structure[1] for leaf in _leaf_spaces(child, parts.get(key))]


def _column_names(structure: Structure, prefix: str) -> list[str]:
    """`obs.camera`, `obs.arm.0`: for people; the metadata has the exact keys."""
    if structure is None:
        return [prefix]
    return [name for key, child in structure[1] for name in _column_names(child, f"{prefix}.{key}")]


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


def _tree_to_json(structure: Structure, columns: Any) -> Any:
    if structure is None:
        return next(columns).name
    kind, entries = structure
    return {kind: [[pack(key), _tree_to_json(child, columns)] for key, child in entries]}


def _tree_from_json(packed: Any, columns: dict[str, Column], used: list[Column]) -> Structure:
    if isinstance(packed, str):
        used.append(columns[packed])
        return None
    ((kind, entries),) = packed.items()
    if kind not in ("dict", "tuple"):
        raise ValueError(f"expected a dict or a tuple, got {kind!r}")
    structure = tuple((unpack(key), _tree_from_json(child, columns, used)) for key, child in entries)
    if len({key for key, _ in structure}) != len(structure):
        raise ValueError(f"expected each key once, got {[key for key, _ in structure]}")
    return kind, structure
