"""Write Minari's HDF5 storage."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from vecrollout._typing import Array
from vecrollout.data.trajectory import Episode, Trajectory
from vecrollout.errors import OptionError
from vecrollout.interop.conversion.hdf5 import EpisodeWriter
from vecrollout.interop.conversion.leaves import named_leaves
from vecrollout.interop.conversion.output import local_path, new_directory
from vecrollout.interop.conversion.report import ConversionReport
from vecrollout.interop.conversion.source import Source, rewards_of
from vecrollout.interop.minari.infos import columns_of, has_all
from vecrollout.interop.minari.spaces import space_to_json
from vecrollout.progress import Progress

# Of Minari's own source: an optional namespace, a name, and a version.
_ID = re.compile(r"([-_\w][-_\w/]*[-_\w]+/)?[-_\w]+?-v\d+")
_VERSION = "0.5.4"
"""The first version that reads images which are not JPEG."""

_KEPT_FLAGS = 4096


def to_minari(
    trajectories: Iterable[Trajectory],
    path: str | os.PathLike[str],
    *,
    dataset_id: str | None = None,
    spaces: tuple[gymnasium.Space[Any], gymnasium.Space[Any]] | None = None,
    env_spec: Any = None,
    metadata: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> ConversionReport:
    """Write a Minari data set, which `minari.load_dataset` and `minari.MinariDataset` read.

    Images are stored as they are, not as JPEG. The directory appears when it is complete.

    Args:
        trajectories: A data set, a batch or an iterable of trajectories, with rewards. An iterator is used up.
        path: The new directory: `<root>/<dataset_id>`. Minari's own root is `$MINARI_DATASETS_PATH`, by default
            `~/.minari/datasets`.
        dataset_id: Minari's name of the data set, such as `"cartpole/expert-v0"`. None: the path below Minari's root,
            or the name of the directory.
        spaces: Observation and action space. None: those of the data set.
        env_spec: The environment's `EnvSpec`, or its JSON, for `recover_environment`. None: that of the data set.
        metadata: Further entries of Minari's metadata, such as `author`, `algorithm_name` or `description`.
        progress: Whether to show a progress bar on a terminal, and whose: `"tqdm"` (as True) or `"rich"`. None:
            the bar of a package that is installed.

    Returns:
        What was written. Minari does not hold where a fragment begins in its episode, and of the infos only entries
        that all steps of an episode have.

    Raises:
        OptionError: If the path exists, the spaces are unknown or of a kind that Minari lacks, or the data set's name
            is none.
        ArgumentTypeError: If a trajectory has no rewards, or an argument is of the wrong type.
        DtypeError: If an array has a dtype that HDF5 lacks.
        StructureError: If the trajectories differ in structure, or a key cannot be a name in HDF5.
        ShapeError: If the trajectories differ in shapes.
        SpaceMismatchError: If a data set has several spaces or environments, and none was passed.
        TraceWriteError: If the data set could not be written.
        MissingDependencyError: If h5py is not installed.

    Source:
        `minari.dataset._storages.hdf5_storage` (Minari 0.5.4).
    """
    source = Source(trajectories, spaces=spaces, env_spec=env_spec, progress=progress)
    target = local_path(path)
    about = _metadata(source, _id_of(target, dataset_id), metadata or {})
    with new_directory(target) as directory:
        data = directory / "data"
        data.mkdir()
        with EpisodeWriter(data / "main_data.hdf5") as file:
            writer = _Episodes(file)
            for each in source.trajectories():
                writer.append(each)
        size = (data / "main_data.hdf5").stat().st_size
        totals = {"total_episodes": writer.count, "total_steps": writer.steps, "dataset_size": round(size / 1e6, 1)}
        (data / "metadata.json").write_text(json.dumps({**about, **totals}), "utf-8")
    return ConversionReport(
        "Minari", target, writer.count, writer.steps, fragments=writer.cut_starts, infos=writer.lost_infos
    )


class _Episodes:
    """Adds episodes to the file."""

    def __init__(self, file: EpisodeWriter) -> None:
        self._file = file
        self.count = self.steps = self.cut_starts = self.lost_infos = 0
        # Flags of episodes of one length are alike: the file has them once. The same is true of no infos.
        self._flags: dict[tuple[int, bool], Any] = {}
        self._no_infos: Any = None

    def append(self, trajectory: Any) -> None:
        steps, write = len(trajectory), self._file.write
        group = self._file.group(f"episode_{self.count}")
        for name, leaf in named_leaves(trajectory.obs, "observations").items():
            write(group, name, leaf)
        for name, leaf in named_leaves(trajectory.acts, "actions").items():
            write(group, name, leaf)
        write(group, "rewards", rewards_of(trajectory, "Minari"))
        self._write_flag(group, "terminations", steps, trajectory.terminated)
        self._write_flag(group, "truncations", steps, trajectory.truncated)
        self._write_infos(group, trajectory.infos, trajectory.episode)
        self._file.number(group, "id", self.count)
        self._file.number(group, "total_steps", steps)
        if (seed := trajectory.episode.seed) is not None and seed < 2**63:
            self._file.number(group, "seed", seed)
        self.count += 1
        self.steps += steps
        self.cut_starts += trajectory.episode.start_step > 0

    def _write_flag(self, group: Any, name: str, length: int, flag: bool) -> None:
        known = self._flags.get((length, flag))
        if known is not None:
            self._file.link(group, name, known)
            return
        flags = np.zeros(length, bool)
        flags[-1] = flag
        written = self._file.write(group, name, flags)
        if len(self._flags) < _KEPT_FLAGS:
            self._flags[length, flag] = written

    def _write_infos(self, group: Any, infos: Any, episode: Episode) -> None:
        columns = {} if infos is None else columns_of(infos, episode.reset_info)
        if infos is not None:
            self.lost_infos += sum(not has_all(info, columns) for info in infos)
        if columns:
            _write_columns(self._file, group, "infos", columns)
        elif self._no_infos is None:
            self._no_infos = self._file.group("infos", group)
        else:
            self._file.link(group, "infos", self._no_infos)


def _write_columns(
    file: EpisodeWriter, group: Any, name: str, columns: Mapping[str, Array | Mapping[str, Any]]
) -> None:
    for key, column in columns.items():
        if isinstance(column, Mapping):
            _write_columns(file, group, f"{name}/{key}", column)
        else:
            file.write(group, f"{name}/{key}", column)


def _metadata(source: Source, dataset_id: str, more: Mapping[str, Any]) -> dict[str, Any]:
    if source.spaces is None:
        raise OptionError(
            "spaces: expected those of a data set, which has none (or is none); pass spaces=(observation_space, "
            "action_space)"
        )
    lists = {
        key: [value] for key, value in more.items() if key in ("author", "author_email") and isinstance(value, str)
    }
    about = {
        **more,
        **lists,
        "dataset_id": dataset_id,
        "minari_version": _VERSION,
        "data_format": "hdf5",
        "jpeg_encoding": False,
        "observation_space": space_to_json(source.spaces[0]),
        "action_space": space_to_json(source.spaces[1]),
    }
    if source.env_spec is not None:
        about["env_spec"] = source.env_spec
    try:
        json.dumps(about)
    except (TypeError, ValueError) as error:
        raise OptionError(f"metadata: expected what JSON can hold, as Minari keeps it so: {error}") from error
    return about


def _id_of(path: Path, dataset_id: str | None) -> str:
    root = Path(os.environ.get("MINARI_DATASETS_PATH") or Path.home() / ".minari" / "datasets").resolve()
    below = path.resolve()
    found = dataset_id or (below.relative_to(root).as_posix() if below.is_relative_to(root) else path.name)
    if not _ID.fullmatch(found):
        raise OptionError(
            f"dataset_id: expected a name with a version, such as 'cartpole/expert-v0', got {found!r}; end the path "
            "with such a name, or pass dataset_id="
        )
    return found
