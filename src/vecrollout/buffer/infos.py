"""Infos of recorded steps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from vecrollout._typing import Info

_BOOL = np.dtype(bool)
# What most infos are made of, and nobody alters.
_SINGLE = frozenset({bool, int, float, str, type(None), np.bool_, np.float32, np.float64, np.int64})


def deep_copied(value: Any) -> Any:
    """The value with arrays, dicts, lists and tuples of its own; whatever else is in it stays the same object."""
    return _deep_copied(value, {})


def _deep_copied(value: Any, copies: dict[int, tuple[Any, Any]]) -> Any:
    if type(value) in _SINGLE:
        return value
    # `copies` has those of dicts and lists, by identity: one may be in itself. And the dicts and lists, which therefore
    # stay, and leave their identity to no other.
    if id(value) in copies:
        return copies[id(value)][1]
    if isinstance(value, dict):
        entries: dict[Any, Any] = {}
        copies[id(value)] = value, entries
        for key, entry in value.items():
            entries[key] = entry if type(entry) in _SINGLE else _deep_copied(entry, copies)
        return entries
    if type(value) is list:
        items: list[Any] = []
        copies[id(value)] = value, items
        items.extend(_deep_copied(item, copies) for item in value)
        return items
    if isinstance(value, np.ndarray):
        if value.dtype != object:
            return value.copy()
        leaves = (_deep_copied(leaf, copies) for leaf in value.flat)
        return np.fromiter(leaves, dtype=object, count=value.size).reshape(value.shape)
    if type(value) is tuple:
        return tuple(_deep_copied(item, copies) for item in value)
    is_named = isinstance(value, tuple) and hasattr(value, "_fields")
    return type(value)(*(_deep_copied(item, copies) for item in value)) if is_named else value


class BatchedInfos:
    """A step's infos as Gymnasium's vector environments give them: an array a key, and a mask that says who has it.

    They are copied at once, and split into a dict an environment only when they are asked for.

    Args:
        batch: The infos: for each key an array of shape `(E, ...)`, or a dict of such; beside it `"_" + key`, a mask of
            shape `(E,)`. A key without a mask is everybody's. What is no array is everybody's too.
        num_envs: Number of environments, E.
        keys: Which keys to keep; None: all.

    Source:
        `VectorEnv._add_info` (Gymnasium 0.29 to 1.4), which fills in zeros for environments that lack a key.
    """

    __slots__ = ("_batch", "_num_envs")

    def __init__(self, batch: Info, num_envs: int, keys: Sequence[str] | None = None) -> None:
        if keys is not None:
            batch = {name: batch[name] for key in keys for name in (key, f"_{key}") if name in batch}
        self._batch = _copied(batch) if batch else {}
        self._num_envs = num_envs

    def __len__(self) -> int:
        return self._num_envs

    def keys(self) -> Iterable[str]:
        """The keys of the infos, and those of masks that leave somebody out."""
        return self._batch.keys()

    def __iter__(self) -> Iterator[Info]:
        return iter(_split(self._batch, self._num_envs))

    def __getitem__(self, env: int) -> Info:
        """One environment's info."""
        return info_of(self._batch, env, self._num_envs)


def _copied(batch: Info) -> Info:
    """The batch with copies of its arrays, and without the masks that leave nobody out."""
    copies: dict[str, Any] = {}
    for key, value in batch.items():
        if isinstance(value, np.ndarray):
            dtype = value.dtype
            # A search in bytes costs a fraction of `value.all()`.
            if dtype is not _BOOL or not _is_mask(key, batch) or 0 in value.tobytes():
                copies[key] = deep_copied(value) if dtype.hasobject else value.copy()
        else:
            copies[key] = _copied(value) if isinstance(value, dict) else deep_copied(value)
    return copies


def info_of(batch: Info, env: int, num_envs: int) -> Info:
    """One environment's info out of a batch of them, as `deep_copied` copies it.

    Args:
        batch: As for `BatchedInfos`.
        env: Where in the batch's arrays the environment stands.
        num_envs: How many environments the arrays are of.
    """
    info: dict[str, Any] = {}
    for key, value in batch.items():
        if _is_mask(key, batch):
            continue
        mask = batch.get(f"_{key}")
        if isinstance(mask, np.ndarray) and not mask[env]:
            continue
        info[key] = _item_of(value, env, num_envs)
    return info


def _split(batch: Info, num_envs: int) -> list[Info]:
    """The infos of all environments: `info_of` each of them, but key after key, which takes a fraction of the time."""
    infos: list[Info] = [{} for _ in range(num_envs)]
    for key, value in batch.items():
        if _is_mask(key, batch):
            continue
        mask = batch.get(f"_{key}")
        envs = np.flatnonzero(mask).tolist() if isinstance(mask, np.ndarray) else range(num_envs)
        items: Any
        if isinstance(value, dict):
            items = _split(value, num_envs)
        elif isinstance(value, np.ndarray) and value.shape == (num_envs,) and not value.dtype.hasobject:
            items = list(value)
        else:
            items = {env: _item_of(value, env, num_envs) for env in envs}
        for env in envs:
            infos[env][key] = items[env]
    return infos


def _item_of(value: Any, env: int, num_envs: int) -> Any:
    """One environment's entry, where a batch has this value, as a copy."""
    if isinstance(value, dict):
        return info_of(value, env, num_envs)
    is_batched = isinstance(value, np.ndarray) and value.ndim and len(value) == num_envs
    return deep_copied(value[env] if is_batched else value)


def _is_mask(key: str, batch: Info) -> bool:
    return key[:1] == "_" and key[1:] in batch
