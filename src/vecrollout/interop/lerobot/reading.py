"""Read LeRobot data sets."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from vecrollout._typing import Array
from vecrollout.data.demonstrations import one_episode
from vecrollout.data.episode import Episode, ended_by
from vecrollout.data.trajectory import Trajectory, TrajectoryWithRew
from vecrollout.errors import DamagedTraceError, OptionError, ShapeError
from vecrollout.interop.conversion.files import About, FileTrajectories
from vecrollout.interop.conversion.leaves import tree_in
from vecrollout.interop.conversion.output import local_path
from vecrollout.interop.conversion.parquet import pyarrow_modules
from vecrollout.interop.lerobot.features import DATA_PATH, INDICES, VERSION, Feature, feature_from_json
from vecrollout.interop.lerobot.video import VIDEO_PATH, av_module, read_frames
from vecrollout.interop.lerobot.writing import LAST
from vecrollout.storage.codec.metadata import parsed

_OPEN_FILES = 16
_COLUMNS = (
    "length",
    "data/chunk_index",
    "data/file_index",
    "dataset_from_index",
    "dataset_to_index",
)
_IN_VIDEO = "chunk_index", "file_index", "from_timestamp"
_FIELDS = {"action": "acts", "next.reward": "rews", "next.done": "done"}
"""Columns of LeRobot's own data sets, and our fields."""


def from_lerobot(path: str | os.PathLike[str], *, drop_last: bool = False) -> FileTrajectories:
    """Open a LeRobot data set of format v3.0. Episodes are read when they are asked for.

    Args:
        path: Directory of the data set.
        drop_last: For a data set without last observations, such as one that LeRobot recorded: leave out each episode's
            last step, whose successor is not in the data set. The trajectories then do not reach their episodes' ends.

    Returns:
        The episodes, and in `metadata` what `info.json` says. Of a data set that `to_lerobot` wrote they have the
        structure that they had. Else observations are dicts with the keys behind `observation.`, and an episode counts
        as terminated if `next.done` says that it ended.

    Raises:
        DamagedTraceError: If there is no such data set, or it is damaged.
        OptionError: If it is of another version of the format.
        ShapeError: When an episode is read: if there is no last observation, and `drop_last` is False.
        ArgumentTypeError: If `path` is no path.
        MissingDependencyError: If pyarrow is not installed, or Pillow, which reads images that LeRobot wrote, or PyAV,
            which reads videos.

    Source:
        `lerobot.datasets.lerobot_dataset` (LeRobot 0.4.4).
    """
    return FileTrajectories(_LeRobotFiles, (local_path(path).resolve(), bool(drop_last)))


class _LeRobotFiles:
    """An open data set."""

    def __init__(self, path: Path, drop_last: bool) -> None:
        self._pa, self._parquet = pyarrow_modules()
        self._path, self._drop_last = path, drop_last
        info_path = path / "meta" / "info.json"
        try:
            info = parsed(info_path.read_bytes(), str(info_path))
        except OSError as error:
            raise DamagedTraceError(f"{path}: expected a LeRobot data set, there is none: {error}") from error
        version, features = info.get("codebase_version"), info.get("features")
        if version != VERSION:
            raise OptionError(
                f"path: expected a data set of format {VERSION}, got {version!r}; LeRobot's script "
                "convert_dataset_v21_to_v30 converts older ones"
            )
        if not isinstance(features, dict):
            raise DamagedTraceError(f"{info_path}: expected features, got {features!r}")
        numbers = {name: each for name, each in features.items() if name not in INDICES and _is_of_interest(name)}
        self._features = [_renamed(feature_from_json(name, each)) for name, each in numbers.items()]
        self._columns = [each for each in self._features if not each.is_video]
        self._videos = [each for each in self._features if each.is_video]
        self._fps = _whole_fps(info.get("fps"), info_path) if self._videos else 0
        if self._videos:
            av_module()
        self._episodes = self._read_episodes()
        self._file = lru_cache(_OPEN_FILES)(self._open)
        self.about = About(metadata=info)

    def __len__(self) -> int:
        """Number of episodes."""
        return len(self._episodes)

    def trajectory(self, number: int) -> Trajectory:
        """An episode."""
        where = f"{self._path}: episode {number}"
        row = self._episodes.slice(number, 1)
        table = self._frames(row, where)
        arrays = {each.leaf: each.to_array(table[each.name]) for each in self._columns}
        arrays |= {each.leaf: self._pixels(each, row, where) for each in self._videos}
        obs, acts = tree_in(arrays, "obs", where), tree_in(arrays, "acts", where)
        flags = [bool(arrays[name][-1]) if name in arrays else None for name in ("terminated", "truncated", "done")]
        terminated = bool(flags[2] and not flags[1]) if flags[0] is None else flags[0]
        truncated = bool(flags[1])
        last = self._last(row)
        drop_last = self._drop_last and last is None
        try:
            fields = one_episode(obs, acts, arrays.get("rews"), None, terminated, truncated, last, drop_last)
        except ShapeError as error:
            raise ShapeError(
                f"{where}: {error}".replace("pass final_obs= (the observation after it), or", "pass")
            ) from error
        ending = ended_by(fields["terminated"], fields["truncated"])
        cls = TrajectoryWithRew if "rews" in fields else Trajectory
        return cls(**fields, episode=Episode(id=number, ended_by=ending))

    def close(self) -> None:
        """Close the files."""
        self._file.cache_clear()

    def _read_episodes(self) -> Any:
        paths = sorted((self._path / "meta" / "episodes").glob("*/*.parquet"))
        if not paths:
            raise DamagedTraceError(f"{self._path}: expected the episodes' metadata, there is none")
        tables = []
        for path in paths:
            with self._told(path):
                names = self._parquet.read_schema(path).names
                more = [name for name in names if name.startswith((LAST, "videos/"))]
                tables.append(self._parquet.read_table(path, columns=[*_COLUMNS, *more], partitioning=None))
        with self._told(self._path):
            return self._pa.concat_tables(tables, promote_options="default").combine_chunks()

    def _frames(self, row: Any, where: str) -> Any:
        """The frames of an episode."""
        with self._told(where):
            length, chunk, file, begin, end = (int(row[name][0].as_py()) for name in _COLUMNS)
            handle, first, starts = self._file(chunk, file)
            begin, end = begin - first, end - first
            if length < 1 or end - begin != length or begin < 0 or end > starts[-1]:
                raise DamagedTraceError(f"{where}: expected {length} frames in its file, got [{begin}, {end})")
            groups = np.flatnonzero((starts[:-1] < end) & (starts[1:] > begin)).tolist()
            names = [each.name for each in self._columns]
            # pyarrow leaves out columns that are not there; `select` does not.
            table = handle.read_row_groups(groups, columns=names).select(names)
            return table.slice(begin - int(starts[groups[0]]), length)

    def _pixels(self, feature: Feature, row: Any, where: str) -> Array:
        """The frames of an episode in a video."""
        with self._told(where):
            entries = [row[f"videos/{feature.name}/{name}"][0].as_py() for name in _IN_VIDEO]
            chunk, file, begin_s = int(entries[0]), int(entries[1]), float(entries[2])
            place = VIDEO_PATH.format(video_key=feature.name, chunk_index=chunk, file_index=file)
            pixels = read_frames(self._path / place, begin_s, int(row["length"][0].as_py()), self._fps)
            if pixels.shape[1:] != feature.stored_shape:
                raise DamagedTraceError(
                    f"{self._path / place}: expected frames of {feature.stored_shape}, got {pixels.shape[1:]}"
                )
            return feature.from_pixels(pixels)

    def _open(self, chunk: int, file: int) -> tuple[Any, int, Any]:
        """A file of frames, the index of its first frame, and where its row groups start."""
        handle = self._parquet.ParquetFile(self._path / DATA_PATH.format(chunk_index=chunk, file_index=file))
        sizes = [handle.metadata.row_group(i).num_rows for i in range(handle.num_row_groups)]
        first = handle.read_row_group(0, columns=["index"])["index"][0].as_py()
        return handle, int(first), np.concatenate([[0], np.cumsum(sizes)])

    def _last(self, row: Any) -> Any:
        found = {each.leaf: row[LAST + each.name] for each in self._features if LAST + each.name in row.column_names}
        # Data sets that were merged have them in part.
        if not found or any(column.null_count for column in found.values()):
            return None
        arrays = {each.leaf: each.to_array(found[each.leaf])[0] for each in self._features if each.leaf in found}
        return tree_in(arrays, "obs", "last observation")

    def _told(self, where: object) -> _Told:
        return _Told(where, (self._pa.ArrowException, OSError, KeyError, ValueError, TypeError, IndexError))


class _Told:
    """Tells what pyarrow finds wrong with a file as an error of ours."""

    def __init__(self, where: object, errors: tuple[type[BaseException], ...]) -> None:
        self._where, self._errors = where, errors

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        if isinstance(error, self._errors) and not isinstance(error, DamagedTraceError):
            raise DamagedTraceError(f"{self._where}: expected the files of a LeRobot data set: {error!r}") from error


def _is_of_interest(name: str) -> bool:
    return name.startswith(("observation.", "action")) or name in (*_FIELDS, "next.terminated", "next.truncated")


def _renamed(feature: Feature) -> Feature:
    """A feature with the name of our field, also where LeRobot wrote it."""
    if feature.leaf != feature.name:
        return feature
    name, shape = feature.name, feature.shape
    if name in _FIELDS:
        leaf, shape = _FIELDS[name], () if name != "action" and shape == (1,) else shape
    elif name.startswith("observation."):
        leaf = f"obs/{name.removeprefix('observation.')}"
    else:
        leaf = name.removeprefix("next.").replace("action.", "acts/")
    return replace(feature, leaf=leaf, shape=shape)


def _whole_fps(fps: Any, where: Path) -> int:
    if not isinstance(fps, int | float) or isinstance(fps, bool) or fps < 1 or fps != int(fps):
        raise DamagedTraceError(f"{where}: expected fps, a positive integer, got {fps!r}")
    return int(fps)
