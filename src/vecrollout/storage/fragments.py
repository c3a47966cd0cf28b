"""Trajectories of a shard, or parts of them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
from gymnasium.spaces import GraphInstance

from vecrollout._typing import Array
from vecrollout.data.dtypes import dtype_from_json
from vecrollout.data.fields import trusted
from vecrollout.data.trajectory import EndedBy, Episode, Trajectory, TrajectoryWithRew
from vecrollout.errors import DamagedTraceError
from vecrollout.storage.columns import Column
from vecrollout.storage.decoding import DecodedBatch
from vecrollout.storage.format import parsed
from vecrollout.storage.index import ShardIndex
from vecrollout.storage.infos import unpacked_info
from vecrollout.storage.layout import Part
from vecrollout.storage.schema import TraceSchema
from vecrollout.storage.spaces import space_from_json

FIELDS = ("obs", "acts", "rews", "infos")
"""What of a trajectory can be read by itself."""

_BESIDES = ("episode_json",)
_ENDINGS = (None, *get_args(EndedBy))
_NUMBERS = {int, type(None)}


def arrow_columns(schema: TraceSchema, fields: Sequence[str]) -> list[str]:
    """Names of the columns that some of a trajectory's fields are in."""
    layout = schema.layout
    names: list[str] = []
    # The last info may refer to the last observation.
    if "obs" in fields or "infos" in fields:
        names += [column.name for column in layout.obs.columns]
    if "acts" in fields:
        names += [column.name for column in layout.acts.columns]
    if "rews" in fields and layout.rews is not None:
        names.append(layout.rews.name)
    if "infos" in fields:
        names += [*(column.name for column in schema.infos.columns), "info_json"]
    return [*names, *_BESIDES]


class Stored:
    """A trajectory in a shard.

    Its methods raise `DamagedTraceError` where the shard does not hold what it should.

    Args:
        schema: The shard's.
        index: The shard's.
        place: Number of the trajectory in the shard.
        batch: Gives a batch by its number, with the columns that are needed.
        where: Name of the shard, for errors.
    """

    __slots__ = (
        "_batches",
        "_first",
        "_first_row",
        "_is_in_one_batch",
        "_known_batches",
        "_known_story",
        "_of",
        "_place",
        "_read",
        "schema",
        "steps",
        "where",
    )

    def __init__(
        self, schema: TraceSchema, index: ShardIndex, place: int, batch: Callable[[int], DecodedBatch], where: str
    ) -> None:
        self.schema = schema
        self.where = where
        self._of, self._batches, self._place = index.trajectories, index.batches, place
        self._read = batch
        self._first = self._of["batch"].item(place)
        """Number of the batch that it begins in,"""
        self._first_row = self._of["row"].item(place)
        """and the row."""
        self.steps: int = self._of["rows"].item(place) - 1
        """T."""
        self._is_in_one_batch = self._first_row + self.steps < self._batches["rows"].item(self._first)
        # Each is read once for all fields, however many there are.
        self._known_batches: dict[int, DecodedBatch] = {}
        # Not by `cached_property`, whose lock takes longer than the rest.
        self._known_story: dict[str, Any] | None = None

    def fragment(self, start: int, stop: int) -> Trajectory:
        """The steps from `start` up to, not including, `stop`, with the observations around them."""
        reaches_end = stop == self.steps
        terminated = reaches_end and self._of["terminated"].item(self._place)
        truncated = reaches_end and self._of["truncated"].item(self._place)
        fields = {
            "obs": self.field("obs", start, stop),
            "acts": self.field("acts", start, stop),
            "infos": self.field("infos", start, stop),
            "terminal": terminated or truncated,
            "terminated": terminated,
            "truncated": truncated,
            "episode": self._episode(start, reaches_end),
        }
        if self.schema.layout.rews is None:
            return trusted(Trajectory, fields)
        return trusted(TrajectoryWithRew, {**fields, "rews": self.field("rews", start, stop)})

    def field(self, name: str, start: int, stop: int) -> Any:
        """One of `FIELDS`, for the steps from `start` up to `stop`; of observations one row more."""
        layout = self.schema.layout
        if name == "obs":
            return self._part(layout.obs, start, stop + 1)
        if name == "acts":
            return self._part(layout.acts, start, stop)
        if name == "infos":
            return self._infos(start, stop)
        return None if layout.rews is None else self._rows(layout.rews, start, stop)

    def about(self) -> dict[str, Any]:
        """What is said of the trace as a whole, spaces and metadata as they were given.

        Raises:
            DamagedTraceError: If it says something else than was written.
        """
        about = dict(self.schema.about)
        spaces = about.get("spaces")
        if spaces is not None and (not isinstance(spaces, list) or len(spaces) != 2):
            raise DamagedTraceError(f"{self.where}: expected two spaces, got {spaces!r}")
        about["spaces"] = None if spaces is None else tuple(map(space_from_json, spaces))
        about["metadata"] = unpacked_info(about.get("metadata", {}), self.where)
        return about

    def identity(self) -> Episode:
        """Which episode the trajectory is of, and which part of it."""
        return self._episode(0, True)

    def metadata(self) -> dict[str, Any]:
        """What the user said about the trajectory."""
        return unpacked_info(self._story.get("metadata", {}), self.where)

    def _part(self, part: Part, start: int, stop: int) -> Any:
        return part.tree([self._rows(column, start, stop) for column in part.columns])

    def _rows(self, column: Column, start: int, stop: int) -> Array:
        if self._is_in_one_batch:
            rows = self._batch(self._first).array(column)[self._first_row + start : self._first_row + stop]
            if column.is_plain:
                return rows
        else:
            pieces = [batch.array(column)[begin:end] for batch, begin, end in self._pieces(start, stop)]
            # Without a dtype NumPy would make the other byte order its own; text gets its dtype below.
            rows = np.concatenate(pieces, dtype=None if column.is_text else column.dtype)
            rows.flags.writeable = False
        if column.is_text:
            rows = rows.astype(self._text_dtype(column))
            rows.flags.writeable = False
        if column.has_objects:
            # The batch hands out its objects again.
            rows = np.fromiter(map(_own, rows.flat), object, rows.size).reshape(rows.shape)
            rows.flags.writeable = False
        return rows

    def _text_dtype(self, column: Column) -> np.dtype[Any]:
        try:
            dtype = dtype_from_json(self._story["dtypes"][column.name])
        except (LookupError, TypeError, ValueError) as error:
            raise DamagedTraceError(f"{self.where}: expected the dtype of {column.name!r}, got none") from error
        if dtype.kind != column.dtype.kind:
            raise DamagedTraceError(f"{self.where}: {column.name!r}: expected text like {column.dtype}, got {dtype}")
        return dtype

    def _infos(self, start: int, stop: int) -> npt.NDArray[np.object_] | None:
        if not self._story.get("has_infos"):
            return None
        columns: list[list[Any]] = [[] for _ in self.schema.infos.columns]
        texts: list[str | None] = []
        for batch, begin, end in self._pieces(start, stop):
            for column, values in zip(self.schema.infos.columns, columns, strict=True):
                values.extend(batch.values(column.name, column.decode)[begin:end])
            texts.extend(batch.values("info_json", lambda column: column.to_pylist())[begin:end])
        return self.schema.infos.decode(columns, texts, self._final_obs)

    def _final_obs(self) -> Any:
        part = self.schema.layout.obs
        rows = [self._rows(column, self.steps, self.steps + 1) for column in part.columns]
        return part.tree([row[0, ...] for row in rows])

    def _pieces(self, start: int, stop: int) -> list[tuple[DecodedBatch, int, int]]:
        """Batches, and the rows of each, that hold the trajectory's rows from `start` up to `stop`."""
        if self._is_in_one_batch:
            return [(self._batch(self._first), self._first_row + start, self._first_row + stop)]
        number = self._first
        start, stop = start + self._first_row, stop + self._first_row
        pieces = []
        while stop > 0:
            rows = self._batches["rows"].item(number)
            if start < rows and start < stop:
                pieces.append((self._batch(number), start, min(stop, rows)))
            start, stop, number = max(0, start - rows), stop - rows, number + 1
        return pieces

    def _batch(self, number: int) -> DecodedBatch:
        batch = self._known_batches.get(number)
        if batch is None:
            batch = self._known_batches[number] = self._read(number)
        return batch

    @property
    def _story(self) -> dict[str, Any]:
        if self._known_story is None:
            text = self._batch(self._first).text("episode_json", self._first_row)
            if text is None:
                raise DamagedTraceError(f"{self.where}: row {self._first_row}: expected the first row of a trajectory")
            self._known_story = parsed(text, self.where)
        return self._known_story

    def _episode(self, start: int, reaches_end: bool) -> Episode:
        story = self._story
        numbers = [story.get(name) for name in ("id", "env_index", "seed")]
        start_step, ended_by = story.get("start_step"), story.get("ended_by")
        if not _NUMBERS.issuperset(map(type, numbers)) or type(start_step) is not int or ended_by not in _ENDINGS:
            raise DamagedTraceError(f"{self.where}: expected an episode's identity, got {story}")
        return trusted(
            Episode,
            {
                "id": numbers[0],
                "env_index": numbers[1],
                "start_step": start_step + start,
                "seed": numbers[2],
                "reset_info": unpacked_info(story["reset_info"], self.where) if "reset_info" in story else None,
                "ended_by": ended_by if reaches_end else None,
            },
        )


def _own(value: Any) -> Any:
    """An object's copy, as far as it can be altered."""
    kind = type(value)
    if kind is dict:
        return {key: _own(item) for key, item in value.items()}
    if kind is list or kind is tuple:
        return kind(map(_own, value))
    if kind is GraphInstance:
        return GraphInstance(*map(_own, value))
    if kind is np.ndarray and not (value.flags.writeable or value.dtype.hasobject):
        return value
    return copy.deepcopy(value)
