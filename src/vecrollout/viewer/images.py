"""Images among observations and infos, and how they become PNG."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from vecrollout._typing import Array
from vecrollout.data import png
from vecrollout.data.frames import FIRST_FRAME, FRAME
from vecrollout.data.structures import Structure
from vecrollout.errors import OptionError
from vecrollout.storage.dataset import TraceDataset

_SMALLEST = 8
_MOST_CHANNELS = 16


def is_image(row: Array) -> bool:
    """Whether a value looks like an image: uint8 or float, two sides of 8 or more, and few channels first or last."""
    if row.dtype != np.uint8 and row.dtype.kind != "f":
        return False
    if row.ndim == 2:
        return bool(min(row.shape) >= _SMALLEST)
    if row.ndim != 3:
        return False
    height, width, channels = _channels_last(row).shape
    return bool(min(height, width) >= _SMALLEST and channels <= _MOST_CHANNELS)


def sources(dataset: TraceDataset, number: int) -> list[dict[str, Any]]:
    """Names of an episode's images, and the first step that has each of them: 0 or 1."""
    at_start = _images(dataset, number, 0)
    return [{"name": name, "first": int(name not in at_start)} for name in _images(dataset, number, 1)]


def image(dataset: TraceDataset, number: int, step: int, source: str) -> bytes:
    """An image of a step as PNG. `step` counts from the trajectory's first observation, up to and with the last."""
    length = dataset.lengths.item(dataset.order.at(number))
    if not 0 <= step <= length:
        raise IndexError(f"step: expected one in [0, {length}], got {step}")
    found = _images(dataset, number, step)
    if source not in found:
        raise OptionError(f"source: expected one of {list(found)}, got {source!r}")
    return png.encoded(pixels(found[source]))


def pixels(row: Array) -> Array:
    """An image as uint8 of shape `(height, width, 1 or 3)`. Stacked frames lie side by side."""
    picture = row[:, :, None] if row.ndim == 2 else _channels_last(row)
    if picture.dtype.kind == "f":
        with np.errstate(invalid="ignore"):
            picture = (np.clip(np.nan_to_num(picture), 0, 1) * 255).astype(np.uint8)
    if picture.shape[2] in (1, 3):
        return picture
    return np.concatenate([picture[:, :, channel] for channel in range(picture.shape[2])], axis=1)[:, :, None]


def _channels_last(row: Array) -> Array:
    return np.moveaxis(row, 0, -1) if row.shape[0] < min(row.shape[1:]) else row


def _images(dataset: TraceDataset, number: int, step: int) -> dict[str, Array]:
    """The images of a step: of its observation, its info, and the frame of the state that the observation is of."""
    last = dataset.lengths.item(dataset.order.at(number)) - 1
    begin = max(step - 1, 0)
    columns = dataset.columns(number, ("obs", "infos"), begin, min(step, last) + 1)
    found = dict(_observed(columns["obs"][step - begin : step - begin + 1]))
    if columns["infos"] is not None:
        before, info = columns["infos"][0], columns["infos"][-1]  # the last observation has no info of its own
        frame = before.get(FRAME) if step else info.get(FIRST_FRAME)
        shown = {**info, FRAME: frame, FIRST_FRAME: None}
        found |= {
            f"infos[{key!r}]": value
            for key, value in shown.items()
            if isinstance(value, np.ndarray) and is_image(value)
        }
    return found


def _observed(obs: Any) -> Iterator[tuple[str, Array]]:
    structure = Structure.of(obs)
    for name, leaf in zip(structure.names("obs"), structure.flatten(obs), strict=True):
        rows = np.asarray(leaf)
        if rows.dtype.kind in "uf" and is_image(rows[0]):
            yield name, rows[0]
