"""Write trajectories to one `.npz` file of NumPy's, and read them.

The file has the arrays of `TrajectoryBatch.from_arrays`: `obs`, `acts`, `rews`, `lengths`, `terminated`, `truncated`.
The arrays of dicts and tuples have names such as `obs/camera` and `obs/_index_0`.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterable
from contextlib import ExitStack
from typing import Any

import numpy as np

from vecrollout._typing import Array
from vecrollout.data.batch import TrajectoryBatch
from vecrollout.data.trajectory import Trajectory
from vecrollout.errors import DamagedTraceError, DtypeError, ShapeError, VecrolloutError
from vecrollout.interop.conversion.columns import OneDtype
from vecrollout.interop.conversion.leaves import named_leaves, tree_of
from vecrollout.interop.conversion.output import local_path, new_file
from vecrollout.interop.conversion.report import ConversionReport, cut_starts, steps_with_infos
from vecrollout.interop.conversion.source import Source
from vecrollout.progress import Progress

__all__ = ["from_npz", "to_npz"]

_FLAGS = ("lengths", "terminated", "truncated")
_COPIED_BYTES = 1 << 20


def to_npz(
    trajectories: Iterable[Trajectory],
    path: str | os.PathLike[str],
    *,
    compressed: bool = False,
    progress: Progress | None = None,
) -> ConversionReport:
    """Write trajectories to one `.npz` file, which `numpy.load` reads.

    The file appears when it is complete. Memory holds one batch at a time.

    Args:
        trajectories: A data set, a batch or an iterable of trajectories. An iterator is used up.
        path: The new file.
        compressed: Whether to compress the arrays (zlib), as `numpy.savez_compressed` does.
        progress: Whether to show a progress bar on a terminal, and whose: `"tqdm"` (as True) or `"rich"`. None:
            the bar of a package that is installed.

    Returns:
        What was written. The file does not hold infos, nor where a fragment begins in its episode.

    Raises:
        OptionError: If the path exists.
        ArgumentTypeError: If an argument is of the wrong type, or some trajectories have rewards and others not.
        DtypeError: If an array has objects, or another dtype than those before that these cannot hold.
        StructureError: If the trajectories differ in structure, or a key has a slash.
        ShapeError: If the trajectories differ in shapes, or there is none.
        TraceWriteError: If the file could not be written.
    """
    source = Source(trajectories, progress=progress)
    target = local_path(path)
    dtypes = OneDtype()
    episodes = steps = starts = infos = 0
    with new_file(target) as temporary, ExitStack() as files:
        columns: dict[str, _Column] = {}
        for batch in source.batches():
            arrays = {**named_leaves(batch.obs, "obs"), **named_leaves(batch.acts, "acts")}
            arrays |= {} if batch.rews is None else {"rews": batch.rews}
            for name, array in (arrays | {name: getattr(batch, name) for name in _FLAGS}).items():
                if name not in columns:
                    columns[name] = _Column(files.enter_context(tempfile.TemporaryFile(dir=temporary.parent)), array)
                columns[name].extend(dtypes.cast(name, array))
            episodes, steps = episodes + len(batch), steps + batch.total_steps
            starts, infos = starts + cut_starts(batch), infos + steps_with_infos(batch)
        if not episodes:
            raise ShapeError("trajectories: expected at least one, got none")
        compression = zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED
        with zipfile.ZipFile(temporary, "w", compression) as archive:
            for name, column in columns.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                    column.write_to(file)
    return ConversionReport("npz", target, episodes, steps, fragments=starts, infos=infos, dtypes=dtypes.changes)


def from_npz(path: str | os.PathLike[str]) -> TrajectoryBatch:
    """Read a file that `to_npz` wrote.

    Args:
        path: The file.

    Returns:
        All trajectories, in memory.

    Raises:
        DamagedTraceError: If there is no such file, or it does not hold trajectories.
        ArgumentTypeError: If `path` is no path.
    """
    file = local_path(path)
    try:
        if not file.is_file():
            raise OSError("there is none")
        # Pickled arrays are refused, as they can run code. np.load leaves a file open that it cannot read.
        with file.open("rb") as opened, np.load(opened, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        fields = {name: tree_of(arrays, name) for name in ("obs", "acts")}
        return TrajectoryBatch.from_arrays(**fields, rews=arrays.get("rews"), **{name: arrays[name] for name in _FLAGS})
    except (OSError, ValueError, LookupError, TypeError, EOFError, RuntimeError, zipfile.BadZipFile) as error:
        reason = error if isinstance(error, VecrolloutError) else repr(error)
        raise DamagedTraceError(f"{file}: expected an npz file of trajectories: {reason}") from error


class _Column:
    """An array in the making, in a file without a name, which goes with the process."""

    def __init__(self, file: Any, first: Array) -> None:
        if first.dtype.hasobject:
            raise DtypeError("npz: expected arrays of numbers, as NumPy stores others by pickle only, got objects")
        self._file = file
        self._dtype, self._shape = first.dtype, first.shape[1:]
        self._rows = 0

    def extend(self, array: Array) -> None:
        self._file.write(array.tobytes())
        self._rows += len(array)

    def write_to(self, file: Any) -> None:
        descr = np.lib.format.dtype_to_descr(self._dtype)
        header = {"descr": descr, "fortran_order": False, "shape": (self._rows, *self._shape)}
        np.lib.format.write_array_header_2_0(file, header)
        self._file.seek(0)
        shutil.copyfileobj(self._file, file, _COPIED_BYTES)
