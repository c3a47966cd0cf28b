"""Write LeRobot data sets."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import numpy as np

from vecrollout._typing import Array
from vecrollout.data.checks import whole_number
from vecrollout.data.trajectory import Trajectory, TrajectoryWithRew
from vecrollout.errors import ArgumentTypeError, OptionError, ShapeError
from vecrollout.interop.conversion.columns import OneDtype
from vecrollout.interop.conversion.leaves import named_leaves
from vecrollout.interop.conversion.output import local_path, new_directory
from vecrollout.interop.conversion.parquet import huggingface_metadata, pyarrow_modules, value_feature
from vecrollout.interop.conversion.report import ConversionReport, steps_with_infos
from vecrollout.interop.conversion.source import Source, checked_final
from vecrollout.interop.lerobot.features import DATA_PATH, EPISODES_PATH, INDICES, VERSION, Feature, features_of
from vecrollout.interop.lerobot.statistics import Statistics, merged, statistics_of, statistics_of_images
from vecrollout.interop.lerobot.video import FILE_BYTES, VIDEO_PATH, Video, VideoWriter, av_module
from vecrollout.progress import Progress

_DATA_BYTES = 100 << 20
_CHUNK_FILES = 1000
_TOLERANCE_S = 1e-4
_BUFFERED_EPISODES = 256
LAST = "last/"
"""Prefix of the columns of last observations in the episodes' metadata."""


def to_lerobot(
    trajectories: Iterable[Trajectory],
    path: str | os.PathLike[str],
    *,
    fps: int,
    task: str | None = None,
    robot_type: str | None = None,
    final: Literal["append", "drop"] = "append",
    video: Video | None = None,
    progress: Progress | None = None,
) -> ConversionReport:
    """Write a LeRobot data set of format v3.0, which `LeRobotDataset(repo_id, root=path)` reads.

    LeRobot has a frame a step. An array of observations is `observation.state`, or `observation.image` if it holds
    images; the entries of a dict are `observation.<key>` and `observation.images.<key>`. Actions are `action`, rewards
    `next.reward`. `next.done`, `next.terminated` and `next.truncated` tell how an episode ended. Images of uint8 with 1
    to 4 channels are stored as PNG, to the bit, or as videos. The directory appears when it is complete. Memory holds
    one batch at a time.

    Args:
        trajectories: A data set, a batch or an iterable of trajectories. An iterator is used up.
        path: The new directory.
        fps: Steps per second. LeRobot computes the time of each frame from it.
        task: What the robot is to do, in words. None: the id of the data set's environment.
        robot_type: LeRobot's name of the robot.
        final: LeRobot has no frame for an episode's last observation. `"append"` keeps it in the metadata of the
            episode, where LeRobot ignores it and `from_lerobot` finds it; `"drop"` leaves it out.
        video: Stores images with three channels as MP4 videos: `"lossless"` keeps every bit (H.264 in RGB, which few
            players show), `"lossy"` is smaller (H.264 with quality 23). None: PNG images.
        progress: Whether to show a progress bar on a terminal, and whose: `"tqdm"` (as True) or `"rich"`. None:
            the bar of a package that is installed.

    Returns:
        What was written. LeRobot does not hold infos, nor where a fragment begins in its episode. Frames of lossy
        videos are counted in `others`.

    Raises:
        OptionError: If the path exists, `final` or `video` is unknown, or `fps` is no positive integer, or so small
            that an episode's times in float32 are wrong by more than LeRobot's tolerance of 0.1 ms.
        ArgumentTypeError: If an argument is of the wrong type, or some trajectories have rewards and others not.
        DtypeError: If an array has other values than real numbers of up to 64 bits.
        StructureError: If the trajectories differ in structure, or two keys become the same name.
        ShapeError: If the trajectories differ in shapes, there is none, or an array has no elements.
        TraceWriteError: If the data set could not be written.
        MissingDependencyError: If pyarrow is not installed, or PyAV, which writes videos.

    Source:
        `lerobot.datasets.lerobot_dataset` (LeRobot 0.4.4).
    """
    checked_final(final)
    if isinstance(fps, bool) or whole_number("fps", fps) < 1:
        raise OptionError(f"fps: expected a positive integer, steps per second, got {fps}")
    for name, text in (("task", task), ("robot_type", robot_type)):
        if text is not None and not isinstance(text, str):
            raise ArgumentTypeError(f"{name}: expected text, got {type(text).__name__}")
    if video not in (None, "lossless", "lossy"):
        raise OptionError(f'video: expected None, "lossless" or "lossy", got {video!r}')
    if video is not None:
        av_module()
    source = Source(trajectories, progress=progress)
    target = local_path(path)
    if task is None:
        task = json.loads(source.env_spec)["id"] if source.env_spec else ""
    with new_directory(target) as directory, _Writer(directory, fps, final == "append", video) as writer:
        for trajectory in source.trajectories():
            writer.add(trajectory, task)
        if not writer.episodes:
            raise ShapeError("trajectories: expected at least one, got none")
        writer.finish(task, robot_type)
    return ConversionReport(
        "LeRobot",
        target,
        writer.episodes,
        writer.steps,
        fragments=writer.cut_starts,
        last_observations=0 if final == "append" else writer.episodes,
        infos=writer.infos,
        dtypes=writer.dtypes.changes,
        others={"frames compressed with loss": writer.steps} if video == "lossy" and writer.videos else {},
    )


class _Writer:
    """Writes the files of a data set."""

    def __init__(self, directory: Path, fps: int, keeps_last: bool, video: Video | None) -> None:
        self._pa, self._parquet = pyarrow_modules()
        self._directory, self._fps, self._keeps_last, self._video = directory, fps, keeps_last, video
        self.videos: dict[str, VideoWriter] = {}
        self.episodes = self.steps = self.cut_starts = self.infos = 0
        self.dtypes = OneDtype()
        self._features: list[Feature] = []
        self._columns: list[Feature] = []
        self._statistics: dict[str, Statistics] = {}
        self._file = 0
        self._data: Any = None
        self._metadata: Any = None
        self._rows: list[Any] = []

    def add(self, trajectory: Trajectory, task: str) -> None:
        """Write a trajectory as an episode, in a row group of its own."""
        steps = len(trajectory)
        arrays, last = self._arrays(trajectory)
        if not self._features:
            self._features = features_of(arrays, self._video is not None)
            self._columns = [each for each in self._features if not each.is_video]
            if self._video is not None:
                names = [each.name for each in self._features if each.is_video]
                self.videos = {name: VideoWriter(self._directory, name, self._fps, self._video) for name in names}
        indices = self._indices(steps)
        columns = {each.name: each.to_arrow(arrays[each.leaf]) for each in self._columns}
        columns |= {name: self._pa.array(array) for name, array in indices.items()}
        table = self._pa.table(columns).replace_schema_metadata({"huggingface": json.dumps(self._huggingface())})
        self._write_data(table)
        places: dict[str, Any] = {}
        for each in self._features:
            if each.is_video:
                places |= self.videos[each.name].add(each.to_pixels(arrays[each.leaf]))
        found = {each.name: self._statistics_of(each, arrays[each.leaf]) for each in self._features}
        found |= {name: statistics_of(array) for name, array in indices.items()}
        self._statistics = {name: merged(self._statistics.get(name), each) for name, each in found.items()}
        self._rows.append(self._episode_row(steps, task, found, last, places))
        if len(self._rows) >= _BUFFERED_EPISODES:
            self._write_metadata()
        self.episodes, self.steps = self.episodes + 1, self.steps + steps
        self.cut_starts += trajectory.episode.start_step > 0
        self.infos += steps_with_infos(trajectory)

    def finish(self, task: str, robot_type: str | None) -> None:
        """Write what describes the whole data set."""
        self._write_metadata()
        self.close()
        info = {
            "codebase_version": VERSION,
            "robot_type": robot_type,
            "total_episodes": self.episodes,
            "total_frames": self.steps,
            "total_tasks": 1,
            "chunks_size": _CHUNK_FILES,
            "data_files_size_in_mb": _DATA_BYTES >> 20,
            "video_files_size_in_mb": FILE_BYTES >> 20,
            "fps": self._fps,
            "splits": {"train": f"0:{self.episodes}"},
            "data_path": DATA_PATH,
            "video_path": VIDEO_PATH if self.videos else None,
            "features": {each.name: each.to_json() | self._about(each.name) for each in self._features}
            | {name: {"dtype": dtype.name, "shape": [1], "names": None} for name, dtype in INDICES.items()},
        }
        meta = self._directory / "meta"
        (meta / "info.json").write_text(json.dumps(info, indent=4), "utf-8")
        statistics = {
            name: {key: value.tolist() for key, value in each.items()} for name, each in self._statistics.items()
        }
        (meta / "stats.json").write_text(json.dumps(statistics, indent=4), "utf-8")
        self._parquet.write_table(self._tasks(task), meta / "tasks.parquet")

    def close(self) -> None:
        """Close the files."""
        for writer in (self._data, self._metadata, *self.videos.values()):
            if writer is not None:
                writer.close()
        self._data = self._metadata = None

    def _about(self, name: str) -> dict[str, Any]:
        return {"info": self.videos[name].about} if name in self.videos else {}

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _arrays(self, trajectory: Trajectory) -> tuple[dict[str, Array], dict[str, Array]]:
        """The arrays of the steps, and those of the last observation, by name."""
        obs = {name: self.dtypes.cast(name, leaf) for name, leaf in named_leaves(trajectory.obs, "obs").items()}
        arrays = {name: leaf[:-1] for name, leaf in obs.items()}
        others = named_leaves(trajectory.acts, "acts")
        if isinstance(trajectory, TrajectoryWithRew):
            others["rews"] = trajectory.rews
        arrays |= {name: self.dtypes.cast(name, leaf) for name, leaf in others.items()}
        for name, flag in (
            ("done", trajectory.terminal),
            ("terminated", trajectory.terminated),
            ("truncated", trajectory.truncated),
        ):
            arrays[name] = np.zeros(len(trajectory), bool)
            arrays[name][-1] = flag
        return arrays, {name: leaf[-1:] for name, leaf in obs.items()}

    def _indices(self, steps: int) -> dict[str, Array]:
        frames = np.arange(steps)
        times = (frames / self._fps).astype(np.float32)
        gaps = np.abs(np.diff(times) - 1 / self._fps)
        if gaps.size and gaps.max() > _TOLERANCE_S:
            raise OptionError(
                f"fps: expected more than {self._fps} for an episode of {steps} steps: LeRobot has times in float32, "
                f"which are wrong by more than {_TOLERANCE_S} s after {times[-1]:.0f} s; pass a larger fps, or a power "
                "of two, or split the episode"
            )
        values = times, frames, self.episodes, self.steps + frames, 0
        pairs = zip(INDICES.items(), values, strict=True)
        return {name: np.broadcast_to(np.asarray(value, dtype), steps) for (name, dtype), value in pairs}

    def _huggingface(self) -> dict[str, Any]:
        features = {each.name: each.to_huggingface() for each in self._columns}
        return huggingface_metadata(features | {name: value_feature(dtype, ()) for name, dtype in INDICES.items()})

    def _write_data(self, table: Any) -> None:
        if self._data is not None and self._place(DATA_PATH).stat().st_size >= _DATA_BYTES:
            self._data.close()
            self._data = None
            self._file += 1
        if self._data is None:
            self._data = self._writer(self._place(DATA_PATH), table.schema)
        self._data.write_table(table, row_group_size=len(table))

    def _place(self, pattern: str) -> Path:
        chunk, file = divmod(self._file, _CHUNK_FILES)
        return self._directory / pattern.format(chunk_index=chunk, file_index=file)

    def _writer(self, path: Path, schema: Any) -> Any:
        path.parent.mkdir(parents=True, exist_ok=True)
        return self._parquet.ParquetWriter(path, schema, compression="snappy")

    def _statistics_of(self, feature: Feature, array: Array) -> Statistics:
        return statistics_of_images(feature.to_pixels(array)) if feature.is_image else statistics_of(array)

    def _episode_row(
        self,
        steps: int,
        task: str,
        statistics: dict[str, Statistics],
        last: dict[str, Array],
        places: dict[str, Any],
    ) -> Any:
        chunk, file = divmod(self._file, _CHUNK_FILES)
        row = {
            "episode_index": [self.episodes],
            "tasks": [[task]],
            "length": [steps],
            "data/chunk_index": [chunk],
            "data/file_index": [file],
            "dataset_from_index": [self.steps],
            "dataset_to_index": [self.steps + steps],
            "meta/episodes/chunk_index": [0],
            "meta/episodes/file_index": [0],
            **{name: [value] for name, value in places.items()},
        }
        columns = {name: self._pa.array(value) for name, value in row.items()}
        if self._keeps_last:
            obs = [each for each in self._features if each.leaf in last]
            columns |= {LAST + each.name: each.to_arrow(last[each.leaf]) for each in obs}
        for name, found in statistics.items():
            columns |= {f"stats/{name}/{key}": self._pa.array([value.tolist()]) for key, value in found.items()}
        return self._pa.table(columns)

    def _write_metadata(self) -> None:
        if not self._rows:
            return
        table = self._pa.concat_tables(self._rows).combine_chunks()
        if self._metadata is None:
            path = self._directory / EPISODES_PATH.format(chunk_index=0, file_index=0)
            self._metadata = self._writer(path, table.schema)
        self._metadata.write_table(table)
        self._rows.clear()

    def _tasks(self, task: str) -> Any:
        """A table that pandas reads with the tasks as its index."""
        index = "__index_level_0__"
        columns: list[dict[str, Any]] = [
            {"name": "task_index", "field_name": "task_index", "pandas_type": "int64", "numpy_type": "int64"},
            {"name": None, "field_name": index, "pandas_type": "unicode", "numpy_type": "object"},
        ]
        names: dict[str, Any] = {"name": None, "field_name": None, "pandas_type": "unicode", "numpy_type": "object"}
        described = {
            "index_columns": [index],
            "column_indexes": [{**names, "metadata": {"encoding": "UTF-8"}}],
            "columns": [{**each, "metadata": None} for each in columns],
            "creator": {"library": "pyarrow", "version": self._pa.__version__},
            "pandas_version": "2.2.0",
        }
        table = self._pa.table({"task_index": np.array([0]), index: [task]})
        return table.replace_schema_metadata({"pandas": json.dumps(described)})
