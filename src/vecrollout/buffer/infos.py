"""Infos of recorded steps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from vecrollout._typing import Info
from vecrollout.data.foreign import own_copy

_BOOL, _ndarray = np.dtype(bool), np.ndarray
# What most infos are made of, and nobody alters.
_SINGLE = frozenset({bool, int, float, str, type(None), np.bool_, np.float32, np.float64, np.int64})


def deep_copied(value: Any) -> Any:
    """The value with arrays, dicts, lists and tuples of its own; whatever else is in it stays the same object.

    Arrays of other libraries become NumPy's.
    """
    if type(value) is _ndarray and not value.dtype.hasobject:
        return value.copy()
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
    return type(value)(*(_deep_copied(item, copies) for item in value)) if is_named else own_copy(value)


class BatchedInfos:
    """A step's infos as Gymnasium's vector environments give them: an array a key, and a mask that says who has it.

    They are copied at once, and split into a dict an environment only when they are asked for.

    Args:
        batch: The infos: for each key an array of shape `(E, ...)`, or a dict of such; beside it `"_" + key`, a mask of
            shape `(E,)`. A key without a mask is everybody's. Arrays and masks may be of any library; masks, and values
            with masks, may be lists. What is no array, or has other rows, is everybody's too.
        num_envs: Number of environments, E.
        keys: Which keys to keep; None: all.

    Source:
        `VectorEnv._add_info` (Gymnasium 0.29 to 1.4), which fills in zeros for environments that lack a key.
    """

    __slots__ = ("_batch", "num_envs")

    def __init__(self, batch: Info, num_envs: int, keys: Sequence[str] | None = None) -> None:
        batch = _chosen(batch, keys)
        self._batch = _copied(batch) if batch else {}
        self.num_envs = num_envs
        """Number of environments."""

    @classmethod
    def of_copies(cls, batch: Info, num_envs: int) -> BatchedInfos:
        """The same of arrays that nobody else has, without masks that leave nobody out."""
        infos = cls.__new__(cls)
        infos._batch, infos.num_envs = batch, num_envs
        return infos

    def __len__(self) -> int:
        return self.num_envs

    def keys(self) -> Iterable[str]:
        """The keys of the infos, and those of masks that leave somebody out."""
        return self._batch.keys()

    def __iter__(self) -> Iterator[Info]:
        return iter(_split(self._batch, self.num_envs))

    def __getitem__(self, env: int) -> Info:
        """One environment's info."""
        return info_of(self._batch, env, self.num_envs)


class InfoCopier:
    """Makes `BatchedInfos` of steps, whose infos are mostly made of the same arrays as those of the step before.

    Args:
        keys: Which keys to keep; None: all.
    """

    def __init__(self, keys: Sequence[str] | None) -> None:
        self._keys = keys
        self._nothing = BatchedInfos({}, 0)
        # Names and dtypes of the last infos, and the names of values and masks to keep, or None if some are no plain
        # arrays. One assignment replaces all, which an interrupt cannot tear.
        self._last: tuple[tuple[str, ...], list[np.dtype[Any]], tuple[list[str], list[str]] | None] = ((), [], None)

    def copied(self, batch: Info, num_envs: int) -> BatchedInfos:
        """The infos of a step, as `BatchedInfos` copies them."""
        if not batch:
            if self._nothing.num_envs != num_envs:
                self._nothing = BatchedInfos({}, num_envs)
            return self._nothing
        dtypes = [each.dtype for each in batch.values() if type(each) is _ndarray]
        names, known, plain = self._last
        if tuple(batch) != names or dtypes != known:
            plain = self._plain(batch, dtypes)
            self._last = tuple(batch), dtypes, plain
        if plain is not None:
            values, masks = plain
            if 0 not in b"".join([batch[name].tobytes() for name in masks]):
                return BatchedInfos.of_copies({name: batch[name].copy() for name in values}, num_envs)
        return BatchedInfos(batch, num_envs, self._keys)

    def _plain(self, batch: Info, dtypes: list[np.dtype[Any]]) -> tuple[list[str], list[str]] | None:
        """The names of values and of masks to keep, where all infos are arrays of plain numbers."""
        if len(dtypes) < len(batch) or any(dtype.hasobject for dtype in dtypes):
            return None
        kept = _chosen(batch, self._keys)
        masks = [name for name in kept if _names_mask(name, kept) and kept[name].dtype is _BOOL]
        return [name for name in kept if name not in masks], masks


def _chosen(batch: Info, keys: Sequence[str] | None) -> Info:
    """The entries of some keys, and their masks."""
    if keys is None:
        return batch
    return {name: batch[name] for key in keys for name in (key, f"_{key}") if name in batch}


def _copied(batch: Info) -> Info:
    """The batch with copies of its arrays, and without the masks that leave nobody out."""
    copies: dict[str, Any] = {}
    for key, value in batch.items():
        if type(value) is _ndarray:
            dtype = value.dtype
            if dtype is _BOOL and key[:1] == "_" and key[1:] in batch:
                # A search in bytes costs a fraction of `value.all()`.
                if 0 in value.tobytes():
                    copies[key] = value.copy()
            else:
                copies[key] = deep_copied(value) if dtype.hasobject else value.copy()
        elif isinstance(value, dict):
            copies[key] = _copied(value)
        else:
            copies[key] = as_mask(value) if _names_mask(key, batch) else deep_copied(value)
    return copies


def as_mask(value: Any) -> Any:
    """A list or a foreign array of flags as an array of NumPy; anything else unchanged."""
    is_list = type(value) in (list, tuple) and all(isinstance(each, bool | np.bool_) for each in value)
    return np.array(value, bool) if is_list else own_copy(value)


def with_arrays(batch: Info) -> Info:
    """A batch in which arrays of other libraries, and masks, are NumPy's, with memory of their own."""
    return {
        key: with_arrays(value)
        if isinstance(value, dict)
        else as_mask(value)
        if _names_mask(key, batch)
        else own_copy(value)
        for key, value in batch.items()
    }


def info_of(batch: Info, env: int, num_envs: int) -> Info:
    """One environment's info out of a batch of them, as `deep_copied` copies it.

    Args:
        batch: As for `BatchedInfos`, with arrays of NumPy only.
        env: Where in the batch's arrays the environment stands.
        num_envs: How many environments the arrays are of.
    """
    info: dict[str, Any] = {}
    for key, value in batch.items():
        mask: Any = batch.get(f"_{key}")
        is_masked = isinstance(mask, np.ndarray)
        if type(value) is _ndarray and value.shape == (num_envs,) and value.dtype.type in _SINGLE and key[:1] != "_":
            if not is_masked or mask[env]:
                info[key] = value[env]
            continue
        if _is_mask(key, batch) or (is_masked and not mask[env]):
            continue
        info[key] = _item_of(value, env, num_envs, mask is not None)
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
            items = {env: _item_of(value, env, num_envs, mask is not None) for env in envs}
        for env in envs:
            infos[env][key] = items[env]
    return infos


def _item_of(value: Any, env: int, num_envs: int, has_mask: bool) -> Any:
    """One environment's entry, where a batch has this value, as a copy. A list without a mask is everybody's."""
    if isinstance(value, dict):
        return info_of(value, env, num_envs)
    has_rows = value.ndim > 0 if isinstance(value, np.ndarray) else has_mask and type(value) in (list, tuple)
    is_batched = has_rows and len(value) == num_envs
    return deep_copied(value[env] if is_batched else value)


def _is_mask(key: str, batch: Info) -> bool:
    return _names_mask(key, batch) and isinstance(batch[key], np.ndarray)


def _names_mask(key: str, batch: Info) -> bool:
    return key[:1] == "_" and key[1:] in batch
