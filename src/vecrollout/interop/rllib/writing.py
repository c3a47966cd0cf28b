"""Write RLlib's offline data, as columns or as episodes, without Ray."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable
from typing import Any, Literal

import numpy as np

from vecrollout._typing import Array
from vecrollout.data.batch import TrajectoryBatch
from vecrollout.data.trajectory import Trajectory
from vecrollout.errors import OptionError, ShapeError
from vecrollout.interop.conversion.columns import OneDtype, plain_array
from vecrollout.interop.conversion.output import local_path, new_directory
from vecrollout.interop.conversion.parquet import check_column, pyarrow_modules, repeating_columns
from vecrollout.interop.conversion.report import ConversionReport, fragments, steps_with_infos
from vecrollout.interop.conversion.source import Source, rewards_of
from vecrollout.progress import Progress

_GROUP_ROWS = 16_384
_GROUP_EPISODES = 64


def to_rllib(
    trajectories: Iterable[Trajectory],
    path: str | os.PathLike[str],
    *,
    form: Literal["columns", "episodes"] = "columns",
    progress: Progress | None = None,
) -> ConversionReport:
    """Write a directory for `AlgorithmConfig.offline_data(input_=[path])` of RLlib's new API stack.

    The directory appears when it is complete. Memory holds one batch at a time.

    Args:
        trajectories: A data set, a batch or an iterable of trajectories, with rewards and arrays of observations. An
            iterator is used up.
        path: The new directory.
        form: `"columns"` has a row a step; RLlib makes an episode of a single step of each, which is right for BC and
            CQL. `"episodes"` has a row an episode, for `input_read_episodes=True`; RLlib then needs msgpack_numpy.
        progress: Whether to show a progress bar on a terminal, and whose: `"tqdm"` (as True) or `"rich"`. None: rich's
            where it is installed.

    Returns:
        What was written. Infos are left out. In episodes, the end of a fragment is stored as a truncation, as RLlib
        takes ended episodes only.

    Raises:
        OptionError: If the path exists, or `form` is unknown.
        ArgumentTypeError: If a trajectory has no rewards, or an argument is of the wrong type.
        DtypeError: If an array has other values than real numbers of up to 64 bits.
        StructureError: If observations or actions are dicts or tuples.
        ShapeError: If the trajectories differ in shapes, there is none, or an array has no elements.
        TraceWriteError: If the data could not be written.
        MissingDependencyError: If pyarrow is not installed.

    Source:
        `ray.rllib.offline.offline_prelearner`, `SingleAgentEpisode.from_state` (Ray 2.60.0).
    """
    if form not in ("columns", "episodes"):
        raise OptionError(f'form: expected "columns" or "episodes", got {form!r}')
    _, parquet = pyarrow_modules()
    source = Source(trajectories, progress=progress)
    target = local_path(path)
    dtypes = OneDtype()
    episodes = steps = infos = lost = 0
    with new_directory(target) as directory:
        writer: Any = None
        try:
            for batch in source.batches():
                arrays = _arrays(batch, dtypes)
                table = _steps(batch, arrays, episodes) if form == "columns" else _episodes(batch, arrays, episodes)
                if writer is None:
                    writer = parquet.ParquetWriter(
                        directory / "data.parquet",
                        table.schema,
                        compression="zstd",
                        use_dictionary=repeating_columns(table.schema),
                    )
                writer.write_table(table, row_group_size=_GROUP_ROWS if form == "columns" else _GROUP_EPISODES)
                episodes, steps = episodes + len(batch), steps + batch.total_steps
                infos += steps_with_infos(batch)
                lost += fragments(batch) if form == "episodes" else 0
        finally:
            if writer is not None:
                writer.close()
        if not episodes:
            raise ShapeError("trajectories: expected at least one, got none")
    return ConversionReport("RLlib", target, episodes, steps, fragments=lost, infos=infos, dtypes=dtypes.changes)


def _arrays(batch: TrajectoryBatch, dtypes: OneDtype) -> dict[str, Array]:
    found = {
        "obs": plain_array("obs", batch.obs, "RLlib's offline data"),
        "actions": plain_array("acts", batch.acts, "RLlib's offline data"),
        "rewards": rewards_of(batch, "RLlib"),
    }
    for name, array in found.items():
        check_column(name, array)
    return {name: dtypes.cast(name, array) for name, array in found.items()}


def _steps(batch: TrajectoryBatch, arrays: dict[str, Array], first: int) -> Any:
    """A row a step."""
    pa, _ = pyarrow_modules()
    lengths = batch.lengths
    numbers = np.repeat(np.arange(len(lengths)), lengths)
    at = np.arange(batch.total_steps) + numbers
    starts = np.array([episode.start_step for episode in batch.episodes], np.int64)
    flags = np.zeros((2, batch.total_steps), bool)
    last = np.cumsum(lengths) - 1
    flags[:, last] = batch.terminated, batch.truncated
    columns = {
        "eps_id": pa.array((numbers + first).astype(str), pa.string()),
        "t": pa.array(np.arange(batch.total_steps) - np.repeat(last + 1 - lengths - starts, lengths)),
        "obs": _column(arrays["obs"][at], pa),
        "new_obs": _column(arrays["obs"][at + 1], pa),
        "actions": _column(arrays["actions"], pa),
        "rewards": _column(arrays["rewards"], pa),
        "terminateds": pa.array(flags[0]),
        "truncateds": pa.array(flags[1]),
    }
    return pa.table(columns)


def _episodes(batch: TrajectoryBatch, arrays: dict[str, Array], first: int) -> Any:
    """A row an episode: its state in msgpack."""
    pa, _ = pyarrow_modules()
    items, begin = [], 0
    for number, length in enumerate(batch.lengths.tolist()):
        end, start = begin + length, batch.episodes[number].start_step
        terminated = bool(batch.terminated[number])
        state = {
            "id_": str(first + number),
            "agent_id": None,
            "module_id": None,
            "multi_agent_episode_id": None,
            "observations": _buffer(arrays["obs"][begin + number : end + number + 1]),
            "actions": _buffer(arrays["actions"][begin:end]),
            "rewards": _buffer(arrays["rewards"][begin:end]),
            "infos": {"data": [{}] * (length + 1), "lookback": 0, "finalized": False, "space": None},
            "extra_model_outputs": None,
            "is_terminated": terminated,
            "is_truncated": bool(batch.truncated[number]) or not terminated,
            "t_started": start,
            "t": start + length,
            "_observation_space": None,
            "_action_space": None,
            "_start_time": 0.0,
            "_last_step_time": 0.0,
            "custom_data": {},
        }
        items.append(_packed(state))
        begin = end
    return pa.table({"item": pa.array(items, pa.binary())})


def _buffer(array: Array) -> dict[str, Any]:
    return {"data": array, "lookback": 0, "finalized": True, "space": None}


def _column(array: Array, pa: Any) -> Any:
    """Numbers, or tensors of a fixed shape, which Ray reads as arrays."""
    native = np.ascontiguousarray(array, array.dtype.newbyteorder("="))
    if native.ndim == 1:
        return pa.array(native)
    if native.dtype == bool:
        native = native.astype(np.uint8)
    return pa.FixedShapeTensorArray.from_numpy_ndarray(native)


def _packed(value: Any) -> bytes:
    """A value in msgpack, arrays as msgpack_numpy has them.

    Source:
        https://github.com/msgpack/msgpack/blob/master/spec.md; `msgpack_numpy.encode` (msgpack-numpy 0.4.8).
    """
    match value:
        case None:
            return b"\xc0"
        case bool():
            return b"\xc3" if value else b"\xc2"
        case int():
            return struct.pack(">Bq", 0xD3, value)
        case float():
            return struct.pack(">Bd", 0xCB, value)
        case str():
            data = value.encode()
            return struct.pack(">BI", 0xDB, len(data)) + data
        case bytes():
            return struct.pack(">BI", 0xC6, len(value)) + value
        case list() | tuple():
            return struct.pack(">BI", 0xDD, len(value)) + b"".join(map(_packed, value))
        case dict():
            pairs = b"".join(_packed(key) + _packed(entry) for key, entry in value.items())
            return struct.pack(">BI", 0xDF, len(value)) + pairs
    entries = {b"nd": True, b"type": value.dtype.str, b"kind": b"", b"shape": value.shape, b"data": value.tobytes()}
    return _packed(entries)
