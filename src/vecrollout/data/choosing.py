"""Which trajectories of a sequence a key, a predicate, an order or a split chooses, as numbers."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Any

import numpy as np
import numpy.typing as npt

from vecrollout.data.checks import check_generator
from vecrollout.data.episode import Episode
from vecrollout.errors import ArgumentTypeError, OptionError

Numbers = npt.NDArray[np.int64]


def chosen(key: Any, count: int, *, of: str = "items", name: str = "key") -> Numbers:
    """Numbers that an integer, a slice, a mask, or integers choose; shape `()` for a single integer."""
    if isinstance(key, slice):
        return np.arange(*key.indices(count))
    if isinstance(key, tuple | bool | np.bool_):
        numbers = np.asarray(None)
    elif hasattr(key, "__index__") and not getattr(key, "ndim", 0):
        number = operator.index(key)
        if not -count <= number < count:
            raise IndexError(f"expected the number of one of {count} {of}, got {number}")
        return np.asarray(number % count)
    else:
        numbers = np.asarray(key)
        if numbers.ndim == 1 and numbers.dtype == bool and len(numbers) == count:
            numbers = numbers.nonzero()[0]
        elif numbers.shape == (0,) and numbers.dtype != bool:
            numbers = numbers.astype(np.int64)
    if numbers.dtype.kind not in "iu" or numbers.ndim > 1:
        raise ArgumentTypeError(
            f"{name}: expected an integer, a slice, a mask of all {count} {of}, or integers in one dimension, "
            f"got {key!r}"
        )
    if numbers.size and not -count <= numbers.min() <= numbers.max() < count:
        raise IndexError(f"expected numbers of {count} {of}, got {numbers.min()} to {numbers.max()}")
    return np.where(numbers < 0, numbers + count, numbers).astype(np.int64)


def ranges(lengths: Numbers, start: int, stop: int | None) -> tuple[Numbers, Numbers]:
    """Begin and end of the slice `[start:stop]` of sequences of these lengths; empty where begin is not below end."""
    longest = int(lengths.max(initial=0))
    # A number beyond all lengths may not fit into an array.
    start, stop = (min(max(each, -longest), longest) for each in (start, longest if stop is None else stop))
    begins, ends = (np.clip(each + (lengths if each < 0 else 0), 0, lengths) for each in (start, stop))
    return begins, ends


def matching(items: Iterable[Any], predicate: Callable[[Any], object]) -> Numbers:
    """Numbers of the items for which a function is true."""
    return np.fromiter((i for i, each in enumerate(items) if predicate(each)), np.int64)


def ordered(values: Sequence[Any], *, descending: bool) -> Numbers:
    """Numbers of the values in ascending or descending order; equal ones as they were, None and NaN last."""
    known = [i for i, value in enumerate(values) if value is not None and value == value]
    missing = sorted(set(range(len(values))).difference(known))
    try:
        known.sort(key=values.__getitem__, reverse=descending)
    except TypeError as error:
        raise OptionError(f"column: expected one whose values can be compared, got another: {error}") from error
    return np.array([*known, *missing], np.int64)


def divided(keys: Sequence[Hashable], fractions: Mapping[str, float], rng: np.random.Generator) -> dict[str, Numbers]:
    """Numbers of items by part; items with equal keys are in the same part, in their order."""
    check_generator(rng)
    shares = _checked_fractions(fractions)
    firsts: dict[Hashable, int] = {}
    which = np.array([firsts.setdefault(key, len(firsts)) for key in keys], np.int64)
    bounds = np.rint(np.cumsum([0.0, *shares]) * len(firsts)).astype(np.int64)
    bounds[-1] = len(firsts)
    part_of = np.empty(len(firsts), np.int64)
    part_of[rng.permutation(len(firsts))] = np.repeat(np.arange(len(shares)), np.diff(bounds))
    return {name: np.flatnonzero(part_of[which] == part) for part, name in enumerate(fractions)}


def episode_key(episode: Episode, number: int) -> Hashable:
    """What the fragments of an episode have in common; one without an id is an episode of its own."""
    return number if episode.id is None else (episode.recording, episode.id, episode.env_index)


def episode_values(batch: Any, column: str) -> list[Any]:
    """A property of each trajectory of a batch, under the names of the episode table of traces."""
    if column == "return_":
        rews, begins = batch.rews, np.cumsum(batch.lengths) - batch.lengths
        if rews is None or rews.ndim > 1 or not len(batch):
            return [None] * len(batch)
        returns: list[Any] = np.add.reduceat(rews.astype(np.float64), begins).tolist()
        return returns
    if column in ("length", "terminated", "truncated"):
        values: list[Any] = getattr(batch, "lengths" if column == "length" else column).tolist()
        return values
    name = "env_index" if column == "env" else column
    names = [field.name for field in fields(Episode) if field.name != "reset_info"]
    if name not in names:
        known = ["return_", "length", "terminated", "truncated", "env", *names]
        raise OptionError(f"column: expected one of {known}, got {column!r}")
    return [getattr(episode, name) for episode in batch.episodes]


def _checked_fractions(fractions: Any) -> list[float]:
    if not isinstance(fractions, Mapping):
        raise ArgumentTypeError(
            f'fractions: expected a dict such as {{"train": 0.9, "val": 0.1}}, got {type(fractions).__name__}'
        )
    try:
        shares = [float(share) for share in fractions.values()]
    except (TypeError, ValueError) as error:
        raise ArgumentTypeError(f"fractions: expected numbers, got {fractions!r}") from error
    if not all(0 <= share <= 1 for share in shares) or not math.isclose(sum(shares), 1, abs_tol=1e-9):
        raise OptionError(f"fractions: expected numbers in [0, 1] that add up to 1, got {fractions!r}")
    return shares
