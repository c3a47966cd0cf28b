"""Trajectories as TorchRL's data: a `TensorDict`, or a directory that memory-mapped storages open.

The data has TorchRL's own layout, TED: `observation`, `action`, `next/observation`, `next/reward`, and flags of shape
`(T, 1)`. Dicts of observations are nested, as in `("observation", "camera")`. `episode` numbers the trajectories, as
`SliceSampler` needs it. The directory is written and read without torch.
"""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from vecrollout._typing import Array
from vecrollout.data.batch import TrajectoryBatch
from vecrollout.data.trajectory import Trajectory
from vecrollout.errors import (
    ArgumentTypeError,
    DamagedTraceError,
    DtypeError,
    MissingDependencyError,
    ShapeError,
    VecrolloutError,
)
from vecrollout.interop.conversion.columns import OneDtype
from vecrollout.interop.conversion.leaves import named_leaves, tree_of
from vecrollout.interop.conversion.output import local_path, new_directory
from vecrollout.interop.conversion.report import ConversionReport, fragments, steps_with_infos
from vecrollout.interop.conversion.source import Source, rewards_of
from vecrollout.progress import Progress
from vecrollout.storage.codec.metadata import parsed

__all__ = ["from_torchrl", "load_torchrl", "register_torchrl", "to_tensordict", "to_torchrl"]

_DTYPES = {"bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64"}
_FLAGS = ("done", "terminated", "truncated")
_CLASS = "<class 'tensordict._td.TensorDict'>"


def to_torchrl(
    trajectories: Iterable[Trajectory], path: str | os.PathLike[str], *, progress: Progress | None = None
) -> ConversionReport:
    """Write a directory that `TensorDict.load_memmap` opens, and `load_torchrl` as a replay buffer.

    The directory appears when it is complete. Memory holds one batch at a time.

    Args:
        trajectories: A data set, a batch or an iterable of trajectories, with rewards. An iterator is used up.
        path: The new directory.
        progress: Whether to show a progress bar on a terminal, and whose: `"tqdm"` (as True) or `"rich"`. None: rich's
            where it is installed.

    Returns:
        What was written. The end of a fragment is stored as a truncation, so that nothing is sampled across it. Infos
        are left out.

    Raises:
        OptionError: If the path exists.
        ArgumentTypeError: If a trajectory has no rewards, or an argument is of the wrong type.
        DtypeError: If an array has a dtype that torch lacks.
        StructureError: If the trajectories differ in structure, or a key has a slash.
        ShapeError: If the trajectories differ in shapes, there is none, or an array has no elements.
        TraceWriteError: If the data could not be written.

    Source:
        TED in the documentation of `torchrl.data`; `tensordict.TensorDict.memmap` (tensordict 0.14.3).
    """
    source = Source(trajectories, progress=progress)
    target = local_path(path)
    counts = _Counts()
    with new_directory(target) as directory:
        columns: dict[str, _Column] = {}
        with ExitStack() as files:
            for batch in source.batches():
                for name, array in counts.columns(batch).items():
                    if name not in columns:
                        place = directory / f"{name}.memmap"
                        place.parent.mkdir(parents=True, exist_ok=True)
                        columns[name] = _Column(files.enter_context(place.open("wb")), array)
                    columns[name].extend(array)
        if not columns:
            raise ShapeError("trajectories: expected at least one, got none")
        for folder in {"", *(parent for name in columns for parent in _parents(name))}:
            (directory / folder / "meta.json").write_text(json.dumps(_meta(folder, columns, counts.steps)), "utf-8")
    return counts.report(target)


def to_tensordict(trajectories: Iterable[Trajectory], *, progress: Progress | None = None) -> Any:
    """Trajectories as one `TensorDict` in memory, in the layout of TED.

    Args:
        trajectories: A data set, a batch or an iterable of trajectories, with rewards. An iterator is used up.
        progress: As in `to_torchrl`.

    Returns:
        A `tensordict.TensorDict` with as many elements as there are steps. The end of a fragment is a truncation.

    Raises:
        ArgumentTypeError: If a trajectory has no rewards, or an argument is of the wrong type.
        DtypeError: If an array has a dtype that torch lacks.
        StructureError: If the trajectories differ in structure, or a key has a slash.
        ShapeError: If the trajectories differ in shapes, there is none, or an array has no elements.
        MissingDependencyError: If tensordict is not installed.
    """
    torch, tensordict = _module("torch"), _module("tensordict")
    counts = _Counts()
    parts = [counts.columns(batch) for batch in Source(trajectories, progress=progress).batches()]
    if not parts:
        raise ShapeError("trajectories: expected at least one, got none")
    found = tensordict.TensorDict({}, batch_size=[counts.steps])
    for name in parts[0]:
        joined = np.concatenate([part[name] for part in parts])
        found[tuple(name.split("/"))] = torch.from_numpy(np.require(joined, joined.dtype.newbyteorder("="), ["C", "W"]))
    return found


def from_torchrl(data: Any) -> TrajectoryBatch:
    """Trajectories in a directory of `to_torchrl`, or in a `TensorDict` in TED.

    Args:
        data: The directory, or a `TensorDict` with one batch dimension, the steps.

    Returns:
        One trajectory up to each `("next", "done")`, and to each change of `episode` where there is one. Actions and
        rewards of a directory are read from the disk when they are used.

    Raises:
        DamagedTraceError: If there is no such data, or it does not have the layout.
        ArgumentTypeError: If `data` is neither a path nor a `TensorDict`.
    """
    if isinstance(data, str | os.PathLike):
        path = local_path(data)
        where = str(path)
        arrays = _mapped(path, "")
    elif hasattr(data, "batch_size") and hasattr(data, "items"):
        where = type(data).__name__
        arrays = {"/".join(_key(key)): value.cpu().numpy() for key, value in data.items(True, True)}
    else:
        raise ArgumentTypeError(f"data: expected a directory or a TensorDict, got {type(data).__name__}")
    try:
        return _trajectories(arrays)
    except (KeyError, ValueError, TypeError, IndexError) as error:
        reason = error if isinstance(error, VecrolloutError) else repr(error)
        raise DamagedTraceError(f"{where}: expected TorchRL's layout of trajectories: {reason}") from error


def load_torchrl(path: str | os.PathLike[str], batch_size: int | None = None, **options: Any) -> Any:
    """A replay buffer of TorchRL over a directory that `to_torchrl` wrote, memory-mapped and immutable.

    Args:
        path: The directory.
        batch_size: Steps in a sample.
        options: Further arguments of `torchrl.data.TensorDictReplayBuffer`, such as `sampler=`.

    Returns:
        A `torchrl.data.TensorDictReplayBuffer`.

    Raises:
        DamagedTraceError: If there is no such directory.
        MissingDependencyError: If torchrl is not installed.
    """
    directory = local_path(path)
    if not (directory / "meta.json").is_file():
        raise DamagedTraceError(f"{directory}: expected a directory of to_torchrl, there is none")
    data, tensordict = _module("torchrl.data"), _module("tensordict")
    writer = options.pop("writer", None) or data.ImmutableDatasetWriter()
    storage = data.TensorStorage(tensordict.TensorDict.load_memmap(directory))
    return data.TensorDictReplayBuffer(storage=storage, writer=writer, batch_size=batch_size, **options)


def register_torchrl(prefix: str = "vecrollout") -> None:
    """Let `torchrl.data.datasets.load_dataset("vecrollout:<directory>")` open what `to_torchrl` wrote.

    Args:
        prefix: What stands before the colon.

    Raises:
        MissingDependencyError: If torchrl is not installed.
    """
    _module("torchrl.data.datasets").register_dataset(prefix, f"{__name__}:load_torchrl", replace=True)


class _Counts:
    """Makes columns of batches, and counts them."""

    def __init__(self) -> None:
        self.episodes = self.steps = 0
        self._fragments = self._infos = 0
        self._dtypes = OneDtype()

    def columns(self, batch: TrajectoryBatch) -> dict[str, Array]:
        """A row a step."""
        rews, lengths = rewards_of(batch, "TorchRL"), batch.lengths
        at = np.arange(batch.total_steps) + np.repeat(np.arange(len(lengths)), lengths)
        columns: dict[str, Array] = {}
        for name, leaf in named_leaves(batch.obs, "observation").items():
            columns[name], columns[f"next/{name}"] = leaf[at], leaf[at + 1]
        columns |= named_leaves(batch.acts, "action")
        columns["next/reward"] = rews[:, None]
        flags = np.zeros((3, batch.total_steps, 1), bool)
        last = np.cumsum(lengths) - 1
        flags[0, last] = True
        flags[1, last, 0] = batch.terminated
        flags[2, last, 0] = batch.truncated | ~batch.terminated
        for flag, name in zip(flags, _FLAGS, strict=True):
            columns[f"next/{name}"], columns[name] = flag, np.zeros_like(flag)
        columns["episode"] = np.repeat(np.arange(len(lengths)) + self.episodes, lengths)
        self.episodes, self.steps = self.episodes + len(batch), self.steps + batch.total_steps
        self._fragments, self._infos = self._fragments + fragments(batch), self._infos + steps_with_infos(batch)
        return {name: self._checked(name, array) for name, array in columns.items()}

    def report(self, target: Path) -> ConversionReport:
        """What was written."""
        return ConversionReport(
            "TorchRL",
            target,
            self.episodes,
            self.steps,
            fragments=self._fragments,
            infos=self._infos,
            dtypes=self._dtypes.changes,
        )

    def _checked(self, name: str, array: Array) -> Array:
        if array.dtype.newbyteorder("=").name not in _DTYPES:
            raise DtypeError(f"{name}: expected a dtype that torch has, got {array.dtype}")
        if not array.size:
            raise ShapeError(f"{name}: expected arrays with elements, got rows of shape {array.shape[1:]}")
        return self._dtypes.cast(name, array)


class _Column:
    """A file with the rows of one array."""

    def __init__(self, file: BinaryIO, first: Array) -> None:
        self._file = file
        self.dtype, self.shape = first.dtype.newbyteorder("="), first.shape[1:]

    def extend(self, array: Array) -> None:
        self._file.write(np.ascontiguousarray(array, self.dtype).data.cast("B"))


def _parents(name: str) -> list[str]:
    parts = name.split("/")[:-1]
    return ["/".join(parts[: i + 1]) for i in range(len(parts))]


def _meta(folder: str, columns: Mapping[str, _Column], steps: int) -> dict[str, Any]:
    """What `TensorDict.load_memmap` has to know of a folder."""
    prefix = f"{folder}/" if folder else ""
    meta: dict[str, Any] = {}
    for name, column in columns.items():
        below = name.removeprefix(prefix)
        if not name.startswith(prefix):
            continue
        if "/" in below:
            meta[below.split("/")[0]] = {"type": "TensorDict"}
        else:
            dtype, shape = f"torch.{column.dtype.name}", [steps, *column.shape]
            meta[below] = {"device": "cpu", "shape": shape, "dtype": dtype, "is_nested": False}
    return {**meta, "shape": [steps], "device": "cpu", "_type": _CLASS}


def _mapped(directory: Path, prefix: str) -> dict[str, Array]:
    """The arrays of a directory, by name."""
    try:
        meta = parsed((directory / "meta.json").read_bytes(), str(directory / "meta.json"))
    except OSError as error:
        raise DamagedTraceError(f"{directory}: expected a directory of to_torchrl, there is none: {error}") from error
    arrays: dict[str, Array] = {}
    for name, entry in meta.items():
        if not isinstance(entry, dict) or "/" in name or name in (".", ".."):
            continue
        if entry.get("type") == "TensorDict":
            arrays |= _mapped(directory / name, f"{prefix}{name}/")
            continue
        try:
            dtype = str(entry["dtype"]).removeprefix("torch.")
            if dtype not in _DTYPES:
                raise ValueError(f"dtype {dtype}")
            file = directory / f"{name}.memmap"
            arrays[f"{prefix}{name}"] = np.memmap(file, np.dtype(dtype), "r", shape=tuple(entry["shape"]))
        except (OSError, KeyError, ValueError, TypeError, OverflowError) as error:
            raise DamagedTraceError(f"{directory}: {name!r}: expected an array as described: {error!r}") from error
    return arrays


def _trajectories(arrays: Mapping[str, Array]) -> TrajectoryBatch:
    terminated = arrays["next/terminated"].reshape(-1)
    steps = len(terminated)
    truncated = arrays["next/truncated"].reshape(-1) if "next/truncated" in arrays else np.zeros(steps, bool)
    is_last = arrays["next/done"].reshape(-1) | terminated | truncated
    if "episode" in arrays:
        episode = arrays["episode"].reshape(-1)
        is_last[:-1] |= episode[1:] != episode[:-1]
    is_last[-1:] = True
    last = np.flatnonzero(is_last)
    lengths = np.diff(last, prepend=-1)
    at = np.arange(steps) + np.repeat(np.arange(len(last)), lengths)
    obs = {}
    for name in [name for name in arrays if name == "observation" or name.startswith("observation/")]:
        rows, following = arrays[name], arrays[f"next/{name}"]
        obs[name] = np.empty((steps + len(last), *rows.shape[1:]), rows.dtype)
        obs[name][at] = rows
        obs[name][last + 1 + np.arange(len(last))] = following[last]
    return TrajectoryBatch.from_arrays(
        tree_of(obs, "observation"),
        tree_of(arrays, "action"),
        np.asarray(arrays["next/reward"]).reshape(-1),
        lengths=lengths,
        terminated=np.asarray(terminated[last]),
        truncated=np.asarray(truncated[last]),
    )


def _key(key: Any) -> tuple[str, ...]:
    return (key,) if isinstance(key, str) else tuple(key)


def _module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        package = name.split(".")[0]
        raise MissingDependencyError(f"this needs {package} ({error}): pip install {package}") from error
