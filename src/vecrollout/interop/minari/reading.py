"""Read Minari's HDF5 storage."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces as kinds

from vecrollout._typing import Array
from vecrollout.data.fields import info_array
from vecrollout.data.trajectory import Trajectory
from vecrollout.data.trees import wrap
from vecrollout.errors import DamagedTraceError, MissingDependencyError, OptionError
from vecrollout.interop.conversion.files import About, FileTrajectories
from vecrollout.interop.conversion.hdf5 import episode_of, opened, reading
from vecrollout.interop.conversion.output import local_path
from vecrollout.interop.minari.infos import infos_of
from vecrollout.interop.minari.spaces import is_image, space_from_json
from vecrollout.storage.codec.metadata import parsed


def from_minari(path: str | os.PathLike[str]) -> FileTrajectories:
    """Open a Minari data set in HDF5. Episodes are read when they are asked for.

    Args:
        path: Directory of the data set, or its directory `data`.

    Returns:
        The episodes, with spaces, environment and metadata of the data set. Minari's first info is that of the reset
        (`episode.reset_info`).

    Raises:
        DamagedTraceError: If there is no such data set, or it is damaged.
        OptionError: If it is in Minari's Arrow or Parquet format.
        ArgumentTypeError: If `path` is no path.
        MissingDependencyError: If h5py is not installed, or Pillow, which reads images in JPEG.

    Source:
        `minari.dataset._storages.hdf5_storage` (Minari 0.5.4).
    """
    return FileTrajectories(_MinariFile, (local_path(path).resolve(),))


class _MinariFile:
    """An open data set."""

    def __init__(self, path: Path) -> None:
        data = path / "data" if (path / "data").is_dir() else path
        try:
            metadata = parsed((data / "metadata.json").read_bytes(), str(data / "metadata.json"))
        except OSError as error:
            raise DamagedTraceError(f"{path}: expected a Minari data set, there is none: {error}") from error
        storage = metadata.get("data_format", "hdf5")
        if storage != "hdf5":
            raise OptionError(f"path: expected a data set in HDF5, got one in {storage!r}, which Minari itself reads")
        texts = [metadata.get(f"{name}_space") for name in ("observation", "action")]
        self._spaces: Any = (None, None) if None in texts else tuple(map(space_from_json, texts))
        self.about = About(None if None in texts else self._spaces, metadata.get("env_spec"), metadata)
        self._is_jpeg = bool(metadata.get("jpeg_encoding", True))
        count = metadata.get("total_episodes")
        if not isinstance(count, int) or count < 0:
            raise DamagedTraceError(f"{data}: expected a number of episodes, got {count!r}")
        self._count = count
        self._file = opened(data / "main_data.hdf5")
        self._where = data

    def __len__(self) -> int:
        """Number of episodes."""
        return self._count

    def trajectory(self, number: int) -> Trajectory:
        """An episode."""
        where = f"{self._where}: episode {number}"
        observation_space, action_space = self._spaces
        with reading(where):
            group = self._file[f"episode_{number}"]
            obs = self._column(group["observations"], observation_space)
            acts = self._column(group["actions"], action_space)
            rews, *flags = (group[name][()] for name in ("rewards", "terminations", "truncations"))
            infos = _infos(group["infos"]) if "infos" in group else {}
            seed = group.attrs.get("seed")
            terminated, truncated = (bool(flag[-1]) for flag in flags if len(flag))
            reset_info, steps_infos = _split(infos, len(rews), where)
            return episode_of(
                where,
                obs,
                acts,
                rews,
                steps_infos,
                terminated=terminated,
                truncated=truncated,
                id=number,
                seed=None if seed is None else int(seed),
                reset_info=reset_info,
            )

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _column(self, found: Any, space: Any) -> Any:
        if hasattr(found, "keys"):
            if all(key.startswith("_index_") for key in found) and not isinstance(space, kinds.Dict):
                below = space.spaces if isinstance(space, kinds.Tuple) else [None] * len(found)
                return wrap(tuple(self._column(found[f"_index_{i}"], child) for i, child in enumerate(below)))
            children = space.spaces if isinstance(space, kinds.Dict) else {}
            return wrap({key: self._column(found[key], children.get(key)) for key in found})
        if self._is_jpeg and is_image(space):
            return _decoded_images(found[()])
        return _texts(found[()]) if found.dtype.kind == "O" else found[()]


def _infos(group: Any) -> dict[str, Any]:
    return {
        key: _infos(entry) if hasattr(entry, "keys") else _texts(entry[()]) if entry.dtype.kind == "O" else entry[()]
        for key, entry in group.items()
    }


def _split(columns: dict[str, Any], steps: int, where: str) -> tuple[dict[str, Any] | None, Any]:
    """Info of the reset, and those of the steps."""
    if not columns:
        return None, None
    lengths = set(_lengths(columns))
    # Data sets that were not made by Minari's collector may have no info of the reset.
    if lengths == {steps}:
        return None, info_array(infos_of(columns, steps))
    if lengths != {steps + 1}:
        raise DamagedTraceError(f"{where}: expected infos of {steps + 1} rows, got {sorted(lengths)}")
    reset_info, *others = infos_of(columns, steps + 1)
    return reset_info, info_array(others)


def _lengths(columns: dict[str, Any]) -> list[int]:
    return [n for each in columns.values() for n in (_lengths(each) if isinstance(each, dict) else [len(each)])]


def _texts(values: Any) -> Array:
    """Text, which h5py reads as bytes."""
    decoded = np.empty(len(values), object)
    for i, value in enumerate(values):
        decoded[i] = value.decode("utf-8") if isinstance(value, bytes) else value
    return decoded


def _decoded_images(encoded: Any) -> Array:
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingDependencyError("Minari's images in JPEG need Pillow: pip install pillow") from error
    return np.stack([np.asarray(Image.open(io.BytesIO(bytes(frame))), np.uint8) for frame in encoded])
