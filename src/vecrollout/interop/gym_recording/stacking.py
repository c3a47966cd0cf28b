"""From an episode in a JSON file to arrays, and to a trajectory."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from vecrollout._typing import Array
from vecrollout.data.fields import as_rewards
from vecrollout.data.trajectory import Episode, TrajectoryWithRew
from vecrollout.data.trees import DictObs, Observation, TupleObs
from vecrollout.errors import DamagedTraceError, VecrolloutError


class RecordedEpisode(NamedTuple):
    """An episode of N steps, as gym-recording keeps it. N is 0 if no step followed the reset.

    Observations and actions are arrays, or `DictObs` and `TupleObs` if each step has a dict or a tuple. If the steps
    differ in structure or shape, they are arrays of objects.
    """

    observations: Observation
    """Shape `(N + 1, *obs_shape)`; `(N, *obs_shape)` if no reset came before the first step."""
    actions: Observation
    """Shape `(N, *act_shape)`, one more row if the last step raised an error."""
    rewards: Observation
    """Shape `(N,)`."""


def episode_from_json(episode: Any, where: str) -> RecordedEpisode:
    """An episode from JSON whose arrays are decoded."""
    if not isinstance(episode, dict):
        raise DamagedTraceError(f"{where}: expected an episode, got {type(episode).__name__}")
    fields: dict[str, Any] = {}
    for name in RecordedEpisode._fields:
        rows = fields[name] = episode.get(name)
        if not (isinstance(rows, list) or (isinstance(rows, np.ndarray) and rows.ndim)):
            raise DamagedTraceError(f"{where}: expected an array or a list of {name}, got {type(rows).__name__}")
    # gym-recording writes an empty list so. Actions may have that shape too, rewards may not.
    if _is_empty_list(fields["rewards"]):
        fields["rewards"] = fields["rewards"][0]
        if _is_empty_list(fields["actions"]):
            fields["actions"] = fields["actions"][0]
    return RecordedEpisode(**{name: stacked(rows) for name, rows in fields.items()})


def trajectory_of(episode: RecordedEpisode, number: int, where: str) -> TrajectoryWithRew | None:
    """An episode as a trajectory; None if the trajectory would have no step."""
    acts: Any = episode.actions
    rews = episode.rewards
    if not isinstance(rews, np.ndarray) or 0 in rews.shape[1:]:
        raise DamagedTraceError(f"{where}: expected one reward a step, got dicts, tuples or nothing")
    try:
        # Without a reset, the first action's observation is unknown: begin with the second step. Leave out an action
        # whose step raised an error.
        start = int(len(episode.observations) == len(rews))
        if len(episode.observations) == 1 and len(rews) <= 1:
            return None
        has_failed_step = len(acts) == len(rews) + 1
        # Environments may give rewards of shape (1,).
        rews = as_rewards(rews.reshape(-1) if rews.shape[1:] == (1,) else rews)
        return TrajectoryWithRew(
            obs=episode.observations,
            acts=acts[start:-1] if has_failed_step else acts[start:],
            infos=None,
            terminal=False,
            rews=rews[start:],
            episode=Episode(id=number, start_step=start),
        )
    except VecrolloutError as error:
        raise DamagedTraceError(f"{where}: expected the arrays of one episode: {error}") from error


def _is_empty_list(rows: Any) -> bool:
    return isinstance(rows, np.ndarray) and rows.shape == (1, 0)


class _UnlikeError(Exception):
    """The steps are not alike."""


def stacked(items: Any) -> Any:
    """A list of items, one a step, as an array, `DictObs` or `TupleObs`; as an array of objects where they differ."""
    if isinstance(items, np.ndarray):
        return items
    if not items:
        return np.empty(0)
    try:
        return _stacked(items)
    except _UnlikeError:
        return as_objects(items)


def as_objects(items: list[Any]) -> Array:
    """Items as an array of objects, one a step."""
    objects = np.empty(len(items), dtype=object)
    for i, item in enumerate(items):  # one by one: NumPy would look into lists
        objects[i] = item
    return objects


def _stacked(items: list[Any]) -> Any:
    # JSON has lists for tuples too. A list of numbers of one kind is a row of an array, any other list a tuple.
    kinds = set(map(type, items))
    if kinds == {np.ndarray}:
        if len({(item.dtype, item.shape) for item in items}) > 1:
            raise _UnlikeError
        return np.stack(items)
    if kinds == {dict}:
        keys = items[0].keys()
        if not keys or any(item.keys() != keys for item in items):
            raise _UnlikeError
        return DictObs({key: _stacked([item[key] for item in items]) for key in keys})
    if kinds == {list} and not _are_numbers(_kinds_within(items)):
        if len(set(map(len, items))) > 1:
            raise _UnlikeError
        return TupleObs(tuple(_stacked(list(column)) for column in zip(*items, strict=True)))
    if kinds == {list} or kinds == {str} or _are_numbers(kinds):
        return _plain_array(items)
    raise _UnlikeError


def _plain_array(items: list[Any]) -> Array:
    try:
        array = np.array(items)
    except ValueError as error:
        raise _UnlikeError from error
    # Integers of more than 64 bits, or some negative and others above 2**63.
    if array.dtype == object or (array.dtype.kind == "f" and array.size and float not in _kinds_within(items)):
        raise _UnlikeError
    return array


def _are_numbers(kinds: set[type]) -> bool:
    return kinds == {bool} or kinds <= {int, float}


def _kinds_within(items: list[Any]) -> set[type]:
    """Types of the items in nested lists."""
    kinds = set(map(type, items))
    if list not in kinds:
        return kinds
    inner = [part for item in items if type(item) is list for part in item]
    return (kinds - {list}) | _kinds_within(inner)
