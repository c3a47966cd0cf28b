"""Write d3rlpy's data sets, and read them, without d3rlpy.

An episode of d3rlpy's has as many observations as actions. Of an episode that terminated, the last observation is
nowhere. Of any other, the last row is only there for its observation: it is no transition.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import numpy as np

from vecrollout._typing import Array
from vecrollout.data.array_tree import ArrayTree
from vecrollout.data.trajectory import Trajectory
from vecrollout.data.trees import TupleObs, map_leaves
from vecrollout.errors import DamagedTraceError, ShapeError, StructureError
from vecrollout.interop.conversion.columns import plain_array
from vecrollout.interop.conversion.files import About, FileTrajectories
from vecrollout.interop.conversion.hdf5 import EpisodeWriter, episode_of, opened, reading
from vecrollout.interop.conversion.output import local_path, new_file
from vecrollout.interop.conversion.report import ConversionReport, steps_with_infos
from vecrollout.interop.conversion.source import Source, checked_final, rewards_of
from vecrollout.progress import Progress

__all__ = ["from_d3rlpy", "to_d3rlpy"]

_VERSION = "2.1"
_COLUMNS = ("observations", "actions", "rewards", "terminated")


def to_d3rlpy(
    trajectories: Iterable[Trajectory],
    path: str | os.PathLike[str],
    *,
    final: Literal["append", "drop"] = "append",
    progress: Progress | None = None,
) -> ConversionReport:
    """Write a file that `d3rlpy.dataset.ReplayBuffer.load` reads.

    The file appears when it is complete. Memory holds one batch at a time.

    Args:
        trajectories: A data set, a batch or an iterable of trajectories, with rewards. Observations are arrays or
            tuples of arrays. An iterator is used up.
        path: The new file.
        final: What to do with the last observation of an episode that did not terminate. `"append"` adds a row with it,
            whose action and reward are 0 and no part of a transition. `"drop"` leaves it out; d3rlpy then does not use
            the last transition of the episode.
        progress: Whether to show a progress bar on a terminal, and whose: `"tqdm"` (as True) or `"rich"`. None:
            the bar of a package that is installed.

    Returns:
        What was written. Of the flags the file holds `terminated` only, so a trajectory that does not reach its
        episode's end looks truncated. Rewards become float32. Scalar observations and actions become rows of one
        number. The file does not hold infos.

    Raises:
        OptionError: If the path exists, or `final` is unknown.
        ArgumentTypeError: If a trajectory has no rewards, or an argument is of the wrong type.
        StructureError: If observations are dicts or nested, actions are no array, or the structures differ.
        ShapeError: If the trajectories differ in shapes, or there is none.
        DtypeError: If HDF5 lacks a dtype.
        TraceWriteError: If the file could not be written.
        MissingDependencyError: If h5py is not installed.

    Source:
        `d3rlpy.dataset.io.dump` (d3rlpy 2.8.1, version 2.1 of the format).
    """
    checked_final(final)
    source = Source(trajectories, progress=progress)
    target = local_path(path)
    episodes = steps = cut = both = infos = dropped = 0
    changes: dict[str, str] = {}
    with new_file(target) as temporary, EpisodeWriter(temporary) as writer:
        root = writer.root
        flags = {flag: writer.write(root, f"_{flag}", np.array(flag)) for flag in (False, True)}
        for each in source.trajectories():
            is_appended = final == "append" and not each.terminated
            for name, column in _columns(each, episodes, is_appended, changes).items():
                writer.write(root, name, column)
            writer.link(root, f"terminated_{episodes}", flags[each.terminated])
            episodes, steps = episodes + 1, steps + len(each)
            cut += not each.terminal or each.episode.start_step > 0
            both += each.terminated and each.truncated
            dropped += not is_appended
            infos += steps_with_infos(each)
        if not episodes:
            raise ShapeError("trajectories: expected at least one, got none")
        writer.file.create_dataset("columns", data=list(_COLUMNS))
        writer.file.create_dataset("num_episodes", data=episodes)
        writer.file.create_dataset("version", data=_VERSION)
    return ConversionReport(
        "d3rlpy", target, episodes, steps, cut, both, last_observations=dropped, infos=infos, dtypes=changes
    )


def from_d3rlpy(path: str | os.PathLike[str], *, drop_last: bool = False) -> FileTrajectories:
    """Open a data set that d3rlpy, or `to_d3rlpy`, wrote. Episodes are read when they are asked for.

    Args:
        path: The file.
        drop_last: Leave out the last step of episodes that terminated, as the observation after it is not in the file.
            By default that observation is zeros, as in d3rlpy itself.

    Returns:
        The episodes that have a transition. One that did not terminate was truncated. Integer actions of shape `(T, 1)`
        become `(T,)`.

    Raises:
        DamagedTraceError: If there is no such file, or it has another layout or version.
        ArgumentTypeError: If `path` is no path.
        MissingDependencyError: If h5py is not installed.

    Source:
        `d3rlpy.dataset.io.load` and `BasicTransitionPicker` (d3rlpy 2.8.1, version 2.1 of the format).
    """
    return FileTrajectories(_D3rlpyFile, (local_path(path).resolve(), drop_last))


class _D3rlpyFile:
    """An open data set."""

    def __init__(self, path: Path, drop_last: bool) -> None:
        self.about = About()
        self._file, self._where, self._drops_last = opened(path), path, drop_last
        with reading(path):
            version, count = self._file["version"][()], int(self._file["num_episodes"][()])
            self._terminated = [bool(self._file[f"terminated_{i}"][()]) for i in range(count)]
            rows = [self._file[f"actions_{i}"].shape[0] for i in range(count)]
        if version != _VERSION.encode():
            raise DamagedTraceError(f"{path}: expected version {_VERSION} of d3rlpy's format, got {version!r}")
        self._steps = [n if ends and not drop_last else n - 1 for n, ends in zip(rows, self._terminated, strict=True)]
        self._numbers = [i for i, steps in enumerate(self._steps) if steps > 0]

    def __len__(self) -> int:
        """Number of episodes that have a transition."""
        return len(self._numbers)

    def trajectory(self, number: int) -> Trajectory:
        """An episode."""
        i = self._numbers[number]
        steps, where = self._steps[i], f"{self._where}: episode {i}"
        with reading(where):
            obs = self._observations(i)
            acts, rews = (self._file[f"{name}_{i}"][()] for name in ("actions", "rewards"))
        ended = self._terminated[i] and not self._drops_last
        if ended:
            obs = map_leaves(lambda leaf: np.concatenate([leaf, np.zeros_like(leaf[:1])]), obs)
        truncated = not self._terminated[i]
        acts, rews = _without_column(acts)[:steps], rews.reshape(-1)[:steps]
        return episode_of(where, obs, acts, rews, None, terminated=ended, truncated=truncated, id=i)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _observations(self, i: int) -> Any:
        if f"observations_{i}" in self._file:
            return self._file[f"observations_{i}"][()]
        parts: list[Array] = []
        while (name := f"observations_{i}_{len(parts)}") in self._file:
            parts.append(self._file[name][()])
        return TupleObs(tuple(parts))


def _columns(trajectory: Any, number: int, is_appended: bool, changes: dict[str, str]) -> dict[str, Array]:
    """The arrays of an episode, by name."""
    obs, acts = trajectory.obs, plain_array("acts", trajectory.acts, "d3rlpy")
    parts = dict(obs.items()) if isinstance(obs, TupleObs) else {None: obs}
    if any(isinstance(part, ArrayTree) for part in parts.values()):
        raise StructureError(
            f"obs: expected an array or a tuple of arrays, as d3rlpy has no dicts and no nesting, got {obs!r}; convert "
            "one entry, or TupleObs(tuple(obs.values()))"
        )
    with np.errstate(over="ignore"):
        rews = rewards_of(trajectory, "d3rlpy").astype(np.float32)
    columns: dict[str, Array] = {f"actions_{number}": acts, f"rewards_{number}": rews}
    if is_appended:
        columns = {name: np.concatenate([column, np.zeros_like(column[:1])]) for name, column in columns.items()}
    for j, part in parts.items():
        name = f"observations_{number}" if j is None else f"observations_{number}_{j}"
        columns[name] = part if is_appended else part[:-1]
        if part.ndim == 1:
            changes["obs" if j is None else f"obs[{j}]"] = f"{part.dtype} -> {part.dtype}[1]"
    if acts.dtype.kind in "iu" and acts.shape[1:] == (1,):
        changes["acts"] = f"{acts.dtype}[1] -> {acts.dtype}"
    elif acts.ndim == 1 and acts.dtype.kind not in "iu":
        changes["acts"] = f"{acts.dtype} -> {acts.dtype}[1]"
    if trajectory.rews.dtype != np.float32:
        changes["rews"] = f"{trajectory.rews.dtype} -> float32"
    return {name: column[:, None] if column.ndim == 1 else column for name, column in columns.items()}


def _without_column(acts: Array) -> Array:
    """Numbers of discrete actions, which d3rlpy has in rows of one."""
    return acts[:, 0] if acts.dtype.kind in "iu" and acts.shape[1:] == (1,) else acts
