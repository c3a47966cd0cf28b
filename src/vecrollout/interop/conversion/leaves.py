"""Trees as arrays with names, such as `camera/left` and `_index_0`, and back."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from vecrollout.data.array_tree import ArrayTree
from vecrollout.data.trees import wrap
from vecrollout.errors import DamagedTraceError, StructureError

_POSITION = re.compile(r"_index_(0|[1-9]\d*)")


def named_leaves(tree: Any, root: str) -> dict[str, Any]:
    """The arrays of a tree by name: the root, and the keys and positions below it, joined by slashes."""
    if not isinstance(tree, ArrayTree):
        return {root: tree}
    leaves: dict[str, Any] = {}
    for key, entry in tree.items():
        name = f"_index_{key}" if isinstance(tree.keys(), range) else _checked_key(key, root)
        leaves |= named_leaves(entry, f"{root}/{name}")
    return leaves


def tree_of(leaves: Mapping[str, Any], root: str) -> Any:
    """The inverse of `named_leaves`."""
    if root in leaves:
        return leaves[root]
    entries: dict[str, Any] = {}
    for name in leaves:
        if name.startswith(f"{root}/"):
            key = name[len(root) + 1 :].partition("/")[0]
            if key not in entries:
                entries[key] = tree_of(leaves, f"{root}/{key}")
    positions = [_POSITION.fullmatch(key) for key in entries]
    if entries and all(positions):
        ordered = [entries.get(f"_index_{i}") for i in range(len(entries))]
        if None not in [type(each) if each is not None else None for each in ordered]:
            return wrap(tuple(ordered))
    return wrap(entries)


def tree_in(leaves: Mapping[str, Any], root: str, where: str) -> Any:
    """As `tree_of`, of arrays that a file has to have."""
    if not any(name == root or name.startswith(f"{root}/") for name in leaves):
        raise DamagedTraceError(f"{where}: expected columns of {root}, got {sorted(leaves)}")
    return tree_of(leaves, root)


def _checked_key(key: Any, root: str) -> str:
    if not isinstance(key, str) or key in ("", ".", "..") or set(key) & set("/\0") or _POSITION.fullmatch(key):
        raise StructureError(
            f"{root}: expected keys that are text without slashes, as they become names in the file, got {key!r}"
        )
    return key
