"""Recordings as OpenAI's gym-recording made and read them, from the description of what it did.

`record` makes them, item by item and without this package; `play` reads them as its `playback` did.
"""

from __future__ import annotations

import json
import mmap
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from vecrollout import TrajectoryWithRew
from vecrollout.testing import SPACES, batch_of, element_of

Version = Literal["npy", "raw"]


class Steps(NamedTuple):
    """What a recorder held of an episode: what the environment and the policy gave it, step by step."""

    observations: list[Any]
    actions: list[Any]
    rewards: list[Any]


def record(
    directory: Path,
    episodes: Sequence[Steps],
    version: Version = "raw",
    *,
    counter: int = 0,
    process: int = 4711,
    per_batch: int = 2,
) -> None:
    """Write what one recorder of gym-recording wrote.

    Its first version put arrays in NumPy's own files, one behind the other, and made one array of arrays with any
    shape. Later ones put the plain bytes at multiples of 8, and left arrays with other than one dimension single.
    """
    prefix = f"openaigym.trace.{counter}.{process}"
    batches = []
    for first in range(0, len(episodes), per_batch):
        name = f"{prefix}.ep{first:09}"
        binary = (directory / f"{name}.bin").open("wb")

        def described(array: Any, binary: Any = binary, name: str = name) -> dict[str, Any]:
            if version == "raw":
                binary.write(bytes(-binary.tell() % 8))
            offset = binary.tell()
            entry = {"__type": "ndarray", "shape": array.shape, "dtype": str(array.dtype), "npyfile": f"{name}.bin"}
            if version == "npy":
                np.save(binary, array)
                return {**entry, "npyoff": offset}
            binary.write(array.tobytes())
            return {**entry, "npyoff": offset, "order": "C", "size": array.nbytes}

        batch = [
            {name: _one_array(rows, version) for name, rows in episode._asdict().items()}
            for episode in episodes[first : first + per_batch]
        ]
        (directory / f"{name}.json").write_text(json.dumps({"episodes": batch}, default=described))
        binary.close()
        batches.append({"first": first, "len": len(batch), "fn": f"{name}.json"})
    (directory / f"{prefix}.manifest.json").write_text(json.dumps({"batches": batches}))


def _one_array(rows: list[Any], version: Version) -> Any:
    if not rows:
        return np.array([[]])
    is_array = type(rows[0]) is np.ndarray and (version == "npy" or rows[0].ndim == 1)
    return np.array(rows) if is_array or type(rows[0]) in (int, float) else rows


def play(directory: Path) -> list[Any]:
    """What `playback` read: dicts of observations, actions and rewards, arrays of them or lists with arrays in them."""

    def decoded(item: dict[str, Any]) -> Any:
        if item.get("__type") != "ndarray":
            return item
        with (directory / item["npyfile"]).open("rb") as file:
            buffer = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return np.ndarray(item["shape"], item["dtype"], buffer, item["npyoff"], order="C")

    episodes = []
    for manifest in sorted(directory.glob("openaigym.trace.*.manifest.json")):
        for batch in json.loads(manifest.read_text())["batches"]:
            episodes += json.loads((directory / batch["fn"]).read_text(), object_hook=decoded)["episodes"]
    return episodes


def of_space(name: str, steps: int, number: int = 0) -> TrajectoryWithRew:
    """A trajectory whose observations and actions count from a number, of a space of `vecrollout.testing`."""
    numbers = [(number + i) % 256 for i in range(steps + 1)]
    space = SPACES[name]
    return TrajectoryWithRew(
        batch_of(space, numbers), batch_of(space, numbers[:-1]), None, False, rews=np.arange(steps) / 3
    )


def steps_of(name: str, steps: int, number: int = 0) -> Steps:
    """The same as the environment gave it step by step."""
    numbers = [(number + i) % 256 for i in range(steps + 1)]
    items = [_as_given(element_of(SPACES[name], each)) for each in numbers]
    return Steps(items, items[:-1], [i / 3 for i in range(steps)])


def _as_given(element: Any) -> Any:
    """Discrete spaces gave integers of Python's own in gym's days; those of NumPy's could not be recorded."""
    if isinstance(element, dict):
        return {key: _as_given(value) for key, value in element.items()}
    if isinstance(element, tuple):
        return tuple(map(_as_given, element))
    return int(element) if isinstance(element, np.integer) else element
