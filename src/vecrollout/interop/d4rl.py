"""Write D4RL's HDF5 files, and read them: flat arrays, with one row a step, episode after episode."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import numpy as np

from vecrollout._typing import Array
from vecrollout.data.batch import TrajectoryBatch
from vecrollout.data.trajectory import Trajectory, TrajectoryWithRew
from vecrollout.errors import DamagedTraceError, DtypeError, ShapeError, StitchError
from vecrollout.interop.conversion.columns import OneDtype, plain_array
from vecrollout.interop.conversion.hdf5 import h5py_module, opened, reading
from vecrollout.interop.conversion.output import local_path, new_file
from vecrollout.interop.conversion.report import ConversionReport, fragments, steps_with_infos
from vecrollout.interop.conversion.source import Source, rewards_of
from vecrollout.progress import Progress

__all__ = ["from_d4rl", "to_d4rl"]

_CHUNK_BYTES = 1 << 18


def to_d4rl(
    trajectories: Iterable[Trajectory], path: str | os.PathLike[str], *, progress: Progress | None = None
) -> ConversionReport:
    """Write a file in D4RL's layout.

    It has `observations`, `actions`, `rewards`, `terminals`, `timeouts` and `next_observations`. The file appears when
    it is complete. Memory holds one batch at a time.

    Args:
        trajectories: A data set, a batch or an iterable of trajectories, with rewards and with arrays for observations
            and actions. An iterator is used up.
        path: The new file.
        progress: Whether to show a progress bar on a terminal, and whose: `"tqdm"` (as True) or `"rich"`. None:
            the bar of a package that is installed.

    Returns:
        What was written. The file does not hold infos. A trajectory that does not reach its episode's end counts as
        timed out, as the next trajectory would else be taken for its continuation.

    Raises:
        OptionError: If the path exists.
        ArgumentTypeError: If a trajectory has no rewards, or an argument is of the wrong type.
        StructureError: If observations or actions are dicts or tuples, or differ in structure.
        ShapeError: If the trajectories differ in shapes, or there is none.
        DtypeError: If HDF5 lacks a dtype, or an array has another dtype than those before that these cannot hold.
        TraceWriteError: If the file could not be written.
        MissingDependencyError: If h5py is not installed.

    Source:
        `d4rl.offline_env.OfflineEnv.get_dataset` (Fu et al. 2020, arXiv:2004.07219).
    """
    source = Source(trajectories, progress=progress)
    target = local_path(path)
    dtypes = OneDtype()
    episodes = steps = cut = infos = 0
    with new_file(target) as temporary, h5py_module().File(temporary, "w") as file:
        for batch in source.batches():
            for name, array in _columns(batch).items():
                _append(file, name, dtypes.cast(name, array))
            episodes, steps = episodes + len(batch), steps + batch.total_steps
            cut, infos = cut + fragments(batch), infos + steps_with_infos(batch)
        if not episodes:
            raise ShapeError("trajectories: expected at least one, got none")
    return ConversionReport("D4RL", target, episodes, steps, fragments=cut, infos=infos, dtypes=dtypes.changes)


def from_d4rl(path: str | os.PathLike[str], *, drop_last: bool = False) -> TrajectoryBatch:
    """Read a file in D4RL's layout.

    Args:
        path: The file.
        drop_last: For a file without `next_observations`: leave out each episode's last step, whose successor is not in
            the file. The trajectories then do not reach their episodes' ends.

    Returns:
        All trajectories, in memory. Without `timeouts` in the file, no episode was truncated.

    Raises:
        DamagedTraceError: If there is no such file, or it has another layout.
        ShapeError: If the file has no `next_observations`, and `drop_last` is False.
        ArgumentTypeError: If `path` is no path.
        MissingDependencyError: If h5py is not installed.
    """
    file = local_path(path)
    with opened(file) as found:
        with reading(file):
            names = ("observations", "actions", "rewards", "terminals")
            obs, acts, rews, terminals = (found[name][()] for name in names)
            timeouts, next_obs = (
                found[name][()] if name in found else None for name in ("timeouts", "next_observations")
            )
        if next_obs is None and not drop_last:
            raise ShapeError(
                f"{file}: expected next_observations, got none: each episode's last action has no successor; pass "
                "drop_last=True to leave the last step of each episode out"
            )
    try:
        flat = TrajectoryWithRew.from_flat(
            obs, acts, rews, terminals, timeouts, next_obs=next_obs, drop_last=next_obs is None
        )
        return TrajectoryBatch.from_trajectories(flat)
    except (ShapeError, DtypeError, StitchError) as error:
        raise DamagedTraceError(f"{file}: expected episodes in D4RL's layout: {error}") from error


def _columns(batch: TrajectoryBatch) -> dict[str, Array]:
    obs = plain_array("obs", batch.obs, "D4RL")
    last = np.cumsum(batch.lengths) - 1
    flags = np.zeros((2, batch.total_steps), bool)
    flags[0][last] = batch.terminated
    # A trajectory that goes on elsewhere has to end here.
    flags[1][last] = batch.truncated | ~batch.terminated
    at = np.arange(batch.total_steps) + np.repeat(np.arange(len(batch)), batch.lengths)
    return {
        "observations": obs[at],
        "actions": plain_array("acts", batch.acts, "D4RL"),
        "rewards": rewards_of(batch, "D4RL"),
        "terminals": flags[0],
        "timeouts": flags[1],
        "next_observations": obs[at + 1],
    }


def _append(file: Any, name: str, array: Array) -> None:
    if name in file:
        column = file[name]
        column.resize(len(column) + len(array), axis=0)
        column[-len(array) :] = array
        return
    if array.dtype.kind in "OU":
        raise DtypeError(f"{name}: expected numbers, as D4RL's arrays have, got {array.dtype}")
    row_bytes = max(1, array.nbytes // len(array))
    chunks = (max(1, _CHUNK_BYTES // row_bytes), *(max(1, side) for side in array.shape[1:]))
    limits = (None, *array.shape[1:])
    try:
        file.create_dataset(name, data=array, maxshape=limits, chunks=chunks if array.size else None)
    except TypeError as error:
        raise DtypeError(f"{name}: expected a dtype that HDF5 has, got {array.dtype}") from error
