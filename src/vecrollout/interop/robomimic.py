"""Write robomimic's HDF5 files, and read them, without robomimic."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vecrollout.data.array_tree import ArrayTree
from vecrollout.data.trajectory import Trajectory
from vecrollout.data.trees import DictObs, concatenate
from vecrollout.errors import OptionError, ShapeError, StructureError
from vecrollout.interop.conversion.columns import plain_array
from vecrollout.interop.conversion.files import About, FileTrajectories
from vecrollout.interop.conversion.hdf5 import EpisodeWriter, episode_of, opened, reading
from vecrollout.interop.conversion.leaves import named_leaves
from vecrollout.interop.conversion.output import local_path, new_file
from vecrollout.interop.conversion.report import ConversionReport, steps_with_infos
from vecrollout.interop.conversion.source import Source, rewards_of
from vecrollout.progress import Progress
from vecrollout.storage.codec.metadata import parsed

__all__ = ["from_robomimic", "to_robomimic"]

_DEMO = re.compile(r"demo_(\d+)")
_GYM = 2
"""robomimic's number for environments of Gym (`EnvType.GYM_TYPE`)."""

FLAT_KEY = "flat"
"""Under this key robomimic has the observations of environments that return a single array."""


def to_robomimic(
    trajectories: Iterable[Trajectory],
    path: str | os.PathLike[str],
    *,
    env_args: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> ConversionReport:
    """Write a file that robomimic trains from.

    It has `actions`, `rewards`, `dones`, `obs` and `next_obs` of each episode. The file appears when it is complete.
    Memory holds one batch at a time.

    Args:
        trajectories: A data set, a batch or an iterable of trajectories, with rewards. Observations are arrays, which
            get the key `"flat"`, or dicts of arrays. An iterator is used up.
        path: The new file.
        env_args: What robomimic makes the environment from: `env_name`, `type` and `env_kwargs`. None: those of the
            data set's `EnvSpec`, as an environment of Gym, or no name.
        progress: Whether to show a progress bar on a terminal, and whose: `"tqdm"` (as True) or `"rich"`. None:
            the bar of a package that is installed.

    Returns:
        What was written. robomimic does not tell `terminated` from `truncated`; the file has both as attributes, which
        `from_robomimic` reads. It holds neither infos, nor where a fragment begins in its episode.

    Raises:
        OptionError: If the path exists, or `env_args` is nothing that JSON can hold.
        ArgumentTypeError: If a trajectory has no rewards, or an argument is of the wrong type.
        StructureError: If observations are tuples or nested, actions are no array, or the structures differ.
        ShapeError: If the trajectories differ in shapes, or there is none.
        DtypeError: If HDF5 lacks a dtype.
        SpaceMismatchError: If a data set has several environments, and `env_args` is None.
        TraceWriteError: If the file could not be written.
        MissingDependencyError: If h5py is not installed.

    Source:
        "Dataset structure" in robomimic's documentation, and `robomimic.utils.dataset.SequenceDataset` (0.3.0).
    """
    source = Source(trajectories, progress=progress)
    target = local_path(path)
    about = _env_args(source, env_args)
    episodes = steps = starts = infos = 0
    with new_file(target) as temporary, EpisodeWriter(temporary) as writer:
        data = writer.group("data")
        for each in source.trajectories():
            _write_demo(writer, writer.group(f"demo_{episodes}", data), each)
            episodes, steps = episodes + 1, steps + len(each)
            starts, infos = starts + (each.episode.start_step > 0), infos + steps_with_infos(each)
        if not episodes:
            raise ShapeError("trajectories: expected at least one, got none")
        writer.file["data"].attrs.update({"total": steps, "env_args": about})
    return ConversionReport("robomimic", target, episodes, steps, fragments=starts, infos=infos)


def from_robomimic(path: str | os.PathLike[str], *, drop_last: bool = False) -> FileTrajectories:
    """Open a file of robomimic's. Episodes are read when they are asked for.

    Args:
        path: The file.
        drop_last: For a file without `next_obs`: leave out each episode's last step, whose successor is not in the
            file. The trajectories then do not reach their episodes' ends.

    Returns:
        The episodes, with the file's `env_args` in `metadata`. Observations are dicts, or arrays if their only key is
        `"flat"`. Without our attributes in the file, an episode whose last step is `done` was terminated.

    Raises:
        DamagedTraceError: If there is no such file, or it has another layout.
        ShapeError: If an episode has no `next_obs`, and `drop_last` is False.
        ArgumentTypeError: If `path` is no path.
        MissingDependencyError: If h5py is not installed.
    """
    return FileTrajectories(_RobomimicFile, (local_path(path).resolve(), drop_last))


class _RobomimicFile:
    """An open file."""

    def __init__(self, path: Path, drop_last: bool) -> None:
        self._file, self._where, self._drops_last = opened(path), path, drop_last
        with reading(path):
            data = self._file["data"]
            env_args = data.attrs.get("env_args", "{}")
            numbers = sorted(int(match[1]) for name in data if (match := _DEMO.fullmatch(name)))
            has_next = all("next_obs" in data[f"demo_{i}"] for i in numbers[:1])
            # With drop_last an episode of one step has none left.
            self._numbers = [i for i in numbers if len(data[f"demo_{i}"]["actions"]) > (not has_next)]
        if not has_next and not drop_last:
            raise ShapeError(
                f"{path}: expected next_obs, got none: each episode's last action has no successor; pass "
                "drop_last=True to leave the last step of each episode out"
            )
        self.about = About(metadata={"env_args": parsed(env_args, str(path))})

    def __len__(self) -> int:
        """Number of episodes."""
        return len(self._numbers)

    def trajectory(self, number: int) -> Trajectory:
        """An episode."""
        i = self._numbers[number]
        where = f"{self._where}: demo_{i}"
        with reading(where):
            demo = self._file["data"][f"demo_{i}"]
            obs = _observations(demo["obs"])
            acts, rews, dones = (demo[name][()] for name in ("actions", "rewards", "dones"))
            if "next_obs" in demo:
                obs, steps = concatenate([obs, _observations(demo["next_obs"])[-1:]]), len(acts)
                terminated = bool(demo.attrs.get("terminated", dones[-1]))
                truncated = bool(demo.attrs.get("truncated", False))
            else:
                steps, terminated, truncated = len(acts) - 1, False, False
        acts, rews = acts[:steps], rews[:steps]
        return episode_of(where, obs, acts, rews, None, terminated=terminated, truncated=truncated, id=i)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _write_demo(writer: EpisodeWriter, demo: Any, trajectory: Any) -> None:
    obs = trajectory.obs
    if not isinstance(obs, DictObs):
        obs = DictObs({FLAT_KEY: plain_array("obs", obs, "robomimic")})
    if any(isinstance(entry, ArrayTree) for entry in obs.values()):
        raise StructureError(f"obs: expected a dict of arrays, as robomimic has no nesting, got {obs!r}")
    for name, rows in (("obs", obs[:-1]), ("next_obs", obs[1:])):
        for leaf_name, leaf in named_leaves(rows, name).items():
            writer.write(demo, leaf_name, leaf)
    dones = np.zeros(len(trajectory), np.int64)
    dones[-1] = trajectory.terminal
    writer.write(demo, "actions", plain_array("acts", trajectory.acts, "robomimic"))
    writer.write(demo, "rewards", rewards_of(trajectory, "robomimic"))
    writer.write(demo, "dones", dones)
    writer.number(demo, "num_samples", len(trajectory))
    writer.number(demo, "terminated", trajectory.terminated)
    writer.number(demo, "truncated", trajectory.truncated)


def _observations(group: Any) -> Any:
    entries = {key: found[()] for key, found in group.items()}
    return entries[FLAT_KEY] if set(entries) == {FLAT_KEY} else DictObs(entries)


def _env_args(source: Source, given: Mapping[str, Any] | None) -> str:
    if given is None:
        spec = json.loads(source.env_spec) if source.env_spec else {}
        given = {"env_name": spec.get("id", ""), "type": _GYM, "env_kwargs": spec.get("kwargs", {})}
    try:
        return json.dumps(dict(given))
    except (TypeError, ValueError) as error:
        raise OptionError(f"env_args: expected what JSON can hold, as robomimic keeps it so: {error}") from error
