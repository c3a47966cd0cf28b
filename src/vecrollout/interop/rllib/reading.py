"""Read RLlib's offline data."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from vecrollout._typing import Array
from vecrollout.data.batch import TrajectoryBatch
from vecrollout.data.episode import Episode, ended_by
from vecrollout.data.trajectory import TrajectoryWithRew
from vecrollout.errors import DamagedTraceError, MissingDependencyError
from vecrollout.interop.conversion.output import local_path
from vecrollout.interop.conversion.parquet import numpy_column, pyarrow_modules


def from_rllib(path: str | os.PathLike[str]) -> TrajectoryBatch:
    """Read columns or episodes that `to_rllib` wrote, or that RLlib wrote in the same forms.

    Columns need `eps_id`, `t` and `new_obs`. Episodes need arrays of observations and actions. No code is run from the
    files: pickled objects are refused.

    Args:
        path: The directory.

    Returns:
        All trajectories, in memory: one for each run of rows of the same episode, or one for each episode.

    Raises:
        DamagedTraceError: If there is no such data, or it has neither of the forms.
        ArgumentTypeError: If `path` is no path.
        MissingDependencyError: If pyarrow is not installed, or msgpack, which reads episodes.
    """
    pa, parquet = pyarrow_modules()
    directory = local_path(path)
    files = sorted(directory.glob("*.parquet"))
    if not files:
        raise DamagedTraceError(f"{directory}: expected a directory of to_rllib, there is none")
    try:
        table = pa.concat_tables([parquet.read_table(file, partitioning=None) for file in files])
        if "item" in table.column_names:
            return TrajectoryBatch.from_trajectories(list(_episodes(table["item"], directory)))
        names = "obs", "new_obs", "actions", "rewards", "terminateds", "truncateds", "t"
        columns = {name: _tensor(name, table[name], pa) for name in names}
        episode = np.asarray(table["eps_id"].to_pylist(), object)
        return _runs(columns, episode)
    except (pa.ArrowException, OSError, KeyError, ValueError, TypeError, IndexError) as error:
        if isinstance(error, DamagedTraceError):
            raise
        raise DamagedTraceError(f"{directory}: expected columns or episodes of RLlib: {error!r}") from error


def _tensor(name: str, column: Any, pa: Any) -> Array:
    chunk = column.combine_chunks()
    if isinstance(chunk, pa.FixedShapeTensorArray):
        return np.asarray(chunk.to_numpy_ndarray())
    return numpy_column(name, chunk)


def _runs(columns: dict[str, Array], episode: Array) -> TrajectoryBatch:
    """A trajectory for each run of rows of the same episode."""
    steps = len(episode)
    last = np.flatnonzero(np.append(episode[1:] != episode[:-1], [True] * bool(steps)))
    lengths = np.diff(last, prepend=-1)
    rows, following = columns["obs"], columns["new_obs"]
    obs = np.empty((steps + len(last), *rows.shape[1:]), rows.dtype)
    obs[np.arange(steps) + np.repeat(np.arange(len(last)), lengths)] = rows
    obs[last + 1 + np.arange(len(last))] = following[last]
    starts = columns["t"][last + 1 - lengths].tolist()
    terminated, truncated = columns["terminateds"][last], columns["truncateds"][last]
    return TrajectoryBatch.from_arrays(
        obs,
        columns["actions"],
        columns["rewards"],
        lengths=lengths,
        terminated=terminated,
        truncated=truncated,
        episodes=[
            Episode(id=number, start_step=start, ended_by=ended_by(bool(ends), bool(cut)))
            for number, (start, ends, cut) in enumerate(zip(starts, terminated, truncated, strict=True))
        ],
    )


def _episodes(items: Any, directory: Path) -> Iterator[TrajectoryWithRew]:
    """Episodes in the form of `SingleAgentEpisode.get_state`, packed by msgpack."""
    try:
        import msgpack
    except ImportError as error:
        raise MissingDependencyError(f"episodes of RLlib need msgpack ({error}): pip install msgpack") from error
    for number, item in enumerate(items):
        try:
            state = msgpack.unpackb(item.as_py(), object_hook=_unpacked, strict_map_key=False)
            yield _episode(state, number)
        # msgpack's own errors are of no common class.
        except Exception as error:
            raise DamagedTraceError(
                f"{directory}: episode {number}: expected an episode of RLlib: {error!r}"
            ) from error


def _episode(state: dict[str, Any], number: int) -> TrajectoryWithRew:
    terminated, truncated = bool(state["is_terminated"]), bool(state["is_truncated"])
    return TrajectoryWithRew(
        obs=_buffered(state["observations"]),
        acts=_buffered(state["actions"]),
        rews=_buffered(state["rewards"]),
        infos=None,
        terminal=terminated or truncated,
        terminated=terminated,
        truncated=truncated,
        episode=Episode(id=number, start_step=int(state["t_started"]), ended_by=ended_by(terminated, truncated)),
    )


def _buffered(buffer: dict[str, Any]) -> Array:
    """What a buffer holds, without what it looks back at."""
    data = buffer["data"]
    rows = data if isinstance(data, np.ndarray) else np.stack(data)
    return rows[int(buffer["lookback"]) :]


def _unpacked(entries: dict[Any, Any]) -> Any:
    """An array or a number as msgpack_numpy packs it, or the entries as they are.

    Source:
        `msgpack_numpy.decode` (msgpack-numpy 0.4.8), which runs pickled code; this does not.
    """
    if b"nd" not in entries:
        return entries
    dtype = np.dtype(entries[b"type"])
    if dtype.hasobject:
        raise ValueError(f"expected numbers, got an array of {dtype}")
    array = np.frombuffer(entries[b"data"], dtype)
    return array.reshape(entries[b"shape"]) if entries[b"nd"] else array[0]
