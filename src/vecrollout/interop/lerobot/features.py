"""The columns of a LeRobot data set, and the arrays that they stand for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from vecrollout._typing import Array
from vecrollout.data.png import decoded, encoded, is_image
from vecrollout.errors import DamagedTraceError, StructureError
from vecrollout.interop.conversion.parquet import (
    arrow_column,
    check_column,
    image_column,
    image_feature,
    numpy_column,
    pyarrow_modules,
    value_feature,
)

DATA_PATH = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
EPISODES_PATH = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VERSION = "v3.0"

INDICES: dict[str, np.dtype[Any]] = {
    "timestamp": np.dtype(np.float32),
    "frame_index": np.dtype(np.int64),
    "episode_index": np.dtype(np.int64),
    "index": np.dtype(np.int64),
    "task_index": np.dtype(np.int64),
}
"""Columns that every data set has, with their dtypes."""

_OURS = "vecrollout"


@dataclass(frozen=True)
class Feature:
    """A column of the data set."""

    name: str
    """Its name in LeRobot."""
    leaf: str
    """The array it holds, such as `obs/camera`, or the field of ours."""
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    """Of a row of the array."""
    is_image: bool = False
    channels_first: bool = False
    is_video: bool = False
    """Whether the images lie in a video, and not in the table of frames."""

    @property
    def stored_shape(self) -> tuple[int, ...]:
        """Of a row in LeRobot: images have channels last, and a single number has one dimension."""
        if self.channels_first:
            return (*self.shape[1:], self.shape[0])
        return self.shape or (1,)

    def to_json(self) -> dict[str, Any]:
        """As `info.json` describes it."""
        kind = "video" if self.is_video else "image" if self.is_image else self.dtype.newbyteorder("=").name
        names = ["height", "width", "channels"] if self.is_image else None
        ours = {"leaf": self.leaf, "shape": list(self.shape), "channels_first": self.channels_first}
        return {"dtype": kind, "shape": list(self.stored_shape), "names": names, _OURS: ours}

    def to_huggingface(self) -> dict[str, Any]:
        """As `datasets` describes it."""
        return image_feature() if self.is_image else value_feature(self.dtype, self._column_shape)

    def to_arrow(self, array: Array) -> Any:
        """A column of the array's rows."""
        if self.is_image:
            return image_column(map(encoded, self.to_pixels(array)))
        return arrow_column(array.reshape(len(array), *self._column_shape))

    def to_pixels(self, array: Array) -> Array:
        """Images with channels last."""
        return np.moveaxis(array, 1, 3) if self.channels_first else array

    def to_array(self, column: Any) -> Array:
        """The array that a column holds."""
        if not self.is_image:
            found = numpy_column(self.name, column, self.shape)
            return found.astype(self.dtype, copy=False)
        pa, _ = pyarrow_modules()
        try:
            chunk = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
            blobs = getattr(chunk, "storage", chunk).field("bytes").to_pylist()
        except (pa.ArrowException, KeyError, AttributeError) as error:
            raise DamagedTraceError(f"{self.name}: expected encoded images: {error}") from error
        images = []
        for blob in blobs:
            if blob is None:
                raise DamagedTraceError(f"{self.name}: expected images in the file itself, got one outside of it")
            image = decoded(blob, self.name)
            if image.shape != self.stored_shape:
                raise DamagedTraceError(f"{self.name}: expected an image of {self.stored_shape}, got {image.shape}")
            images.append(image)
        return self.from_pixels(np.stack(images))

    def from_pixels(self, pixels: Array) -> Array:
        """The inverse of `to_pixels`."""
        return np.ascontiguousarray(np.moveaxis(pixels, 3, 1)) if self.channels_first else pixels

    @property
    def _column_shape(self) -> tuple[int, ...]:
        return () if self.stored_shape == (1,) else self.stored_shape


def features_of(leaves: Mapping[str, Array], has_videos: bool) -> list[Feature]:
    """Columns for the arrays of a batch: `obs`, `acts`, `rews`, and what is below them.

    With videos, images of three channels are no columns, but videos.
    """
    found: dict[str, Feature] = {}
    for leaf, array in leaves.items():
        check_column(leaf, array)
        shape = array.shape[1:]
        first = is_image(array.dtype, (*shape[1:], shape[0])) if len(shape) == 3 else False
        image = leaf.startswith("obs") and (is_image(array.dtype, shape) or first)
        name = _name(leaf, image)
        if name in found:
            raise StructureError(f"obs, acts: expected keys with names of their own, got two that become {name!r}")
        is_video = has_videos and image and (shape[0] if first else shape[2]) == 3
        found[name] = Feature(name, leaf, array.dtype, shape, image, image and first, is_video)
    return list(found.values())


def feature_from_json(name: str, described: Any) -> Feature:
    """A column as `info.json` describes it; it may have been written by LeRobot."""
    try:
        kind, shape = described["dtype"], tuple(int(size) for size in described["shape"])
        is_video = kind == "video"
        is_encoded = is_video or kind == "image"
        dtype = np.dtype(np.uint8 if is_encoded else kind)
        ours = described.get(_OURS)
        if ours is None:
            return Feature(name, name, dtype, shape, is_encoded, is_video=is_video)
        own_shape = tuple(int(size) for size in ours["shape"])
        return Feature(name, str(ours["leaf"]), dtype, own_shape, is_encoded, bool(ours["channels_first"]), is_video)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DamagedTraceError(f"info.json: feature {name!r}: expected its dtype and shape: {error!r}") from error


def _name(leaf: str, image: bool) -> str:
    root, _, below = leaf.partition("/")
    below = below.replace("/", ".")
    if root == "obs":
        if not below:
            return "observation.image" if image else "observation.state"
        return f"observation.images.{below}" if image else f"observation.{below}"
    names = {"acts": "action", "rews": "next.reward"}
    return ".".join(filter(None, [names.get(root, f"next.{root}"), below]))
