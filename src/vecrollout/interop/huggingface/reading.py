"""Read Parquet files of trajectories, and the data sets that `datasets` makes of them."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from vecrollout._typing import Array
from vecrollout.data.demonstrations import one_episode
from vecrollout.data.episode import Episode, ended_by
from vecrollout.data.png import decoded
from vecrollout.data.trajectory import Trajectory, TrajectoryWithRew
from vecrollout.errors import DamagedTraceError, ShapeError
from vecrollout.interop.conversion.files import About, FileTrajectories
from vecrollout.interop.conversion.leaves import tree_in
from vecrollout.interop.conversion.output import local_path
from vecrollout.interop.conversion.parquet import numpy_column, pyarrow_modules

_NEEDED = ("episode", "step", "terminated", "truncated")


def from_hf(data: Any, *, drop_last: bool = False) -> FileTrajectories:
    """Open trajectories in a directory of `to_hf`, a file of `to_parquet`, or a `datasets.Dataset` of these.

    Trajectories are read when they are asked for.

    Args:
        data: A directory, a Parquet file, or a `datasets.Dataset` with the same columns in the same order.
        drop_last: For data without last observations: leave out each trajectory's last step, whose successor is not in
            the data. The trajectories then do not reach their episodes' ends.

    Returns:
        The trajectories.

    Raises:
        DamagedTraceError: If there is no such data, or it does not hold trajectories.
        ShapeError: When a trajectory is read: if there is no last observation, and `drop_last` is False.
        ArgumentTypeError: If `data` is neither a path nor a data set.
        MissingDependencyError: If pyarrow is not installed, or Pillow, which reads images that others have encoded.
    """
    is_dataset = hasattr(data, "with_format") and hasattr(data, "column_names")
    return FileTrajectories(_Rows, (data if is_dataset else local_path(data).resolve(), bool(drop_last)))


class _Rows:
    """Rows of an open data set, an episode behind another."""

    def __init__(self, data: Any, drop_last: bool) -> None:
        self._pa, self._parquet = pyarrow_modules()
        self._errors = (self._pa.ArrowException, OSError, KeyError, ValueError, TypeError, IndexError, OverflowError)
        self._where, self._drop_last = str(data) if isinstance(data, Path) else "data set", drop_last
        try:
            self._source: _Files | _Table = (
                _Files(data, self._pa, self._parquet) if isinstance(data, Path) else _Table(data)
            )
            missing = set(_NEEDED) - set(self._source.names)
            if missing:
                raise DamagedTraceError(f"{self._where}: expected the columns {_NEEDED}, got none of {sorted(missing)}")
            episode = numpy_column("episode", self._source.column("episode"), ())
            begins = np.flatnonzero(np.concatenate([[True], episode[1:] != episode[:-1]])) if len(episode) else episode
        except self._errors as error:
            raise self._damaged(error) from error
        self._bounds = np.append(begins, len(episode)).astype(np.int64)
        self.about = About()

    def __len__(self) -> int:
        """Number of episodes."""
        return len(self._bounds) - 1

    def trajectory(self, number: int) -> Trajectory:
        """An episode."""
        begin, end = self._bounds[number : number + 2].tolist()
        where = f"{self._where}: episode {number}"
        try:
            table = self._source.rows(begin, end)
            has_last = table["terminated"].null_count == 1 and not table["terminated"][-1].is_valid
            steps = len(table) - has_last
            arrays = {name: self._array(name, table[name], steps) for name in table.column_names}
        except self._errors as error:
            raise self._damaged(error) from error
        flags = [bool(arrays[name][-1]) if steps else False for name in ("terminated", "truncated")]
        try:
            drop_last = self._drop_last and not has_last
            obs, acts = (tree_in(arrays, name, where) for name in ("obs", "acts"))
            fields = one_episode(obs, acts, arrays.get("rews"), None, flags[0], flags[1], None, drop_last)
        except ShapeError as error:
            cure = str(error).replace("pass final_obs= (the observation after it), or", "pass")
            raise ShapeError(f"{where}: {cure}") from error
        episode = Episode(
            id=int(arrays["episode"][0]),
            start_step=int(arrays["step"][0]),
            ended_by=ended_by(fields["terminated"], fields["truncated"]),
        )
        return (TrajectoryWithRew if "rews" in fields else Trajectory)(**fields, episode=episode)

    def close(self) -> None:
        """Close the files."""
        self._source.close()

    def _array(self, name: str, column: Any, steps: int) -> Array:
        rows = column if name.startswith(("obs", "episode", "step")) else column.slice(0, steps)
        if not self._pa.types.is_struct(getattr(rows.type, "storage_type", rows.type)):
            return numpy_column(name, rows)
        chunk = rows.combine_chunks()
        blobs = getattr(chunk, "storage", chunk).field("bytes").to_pylist()
        if None in blobs:
            raise DamagedTraceError(f"{name}: expected images in the file itself, got one outside of it")
        return np.stack([decoded(blob, name) for blob in blobs])

    def _damaged(self, error: BaseException) -> BaseException:
        if isinstance(error, DamagedTraceError):
            return error
        return DamagedTraceError(f"{self._where}: expected a table of trajectories: {error!r}")


class _Files:
    """Parquet files, one behind another."""

    def __init__(self, path: Path, pa: Any, parquet: Any) -> None:
        self._pa, self._parquet = pa, parquet
        paths = [path] if path.is_file() else sorted((path / "data").glob("*.parquet"))
        if not paths:
            raise DamagedTraceError(f"{path}: expected a Parquet file, or a directory of to_hf, there is none")
        self._files = [parquet.ParquetFile(each) for each in paths]
        self.names = self._files[0].schema_arrow.names
        self._groups = [(file, group) for file in self._files for group in range(file.num_row_groups)]
        sizes = [file.metadata.row_group(group).num_rows for file, group in self._groups]
        self._starts = np.concatenate([[0], np.cumsum(sizes)])
        # Trajectories that follow one another lie in the same group.
        self._group = lru_cache(2)(self._read)

    def column(self, name: str) -> Any:
        return self._pa.chunked_array([chunk for file in self._files for chunk in file.read([name])[name].chunks])

    def rows(self, begin: int, end: int) -> Any:
        found = np.flatnonzero((self._starts[:-1] < end) & (self._starts[1:] > begin)).tolist()
        tables = [self._group(number) for number in range(found[0], found[-1] + 1)]
        return self._pa.concat_tables(tables).slice(begin - int(self._starts[found[0]]), end - begin)

    def _read(self, number: int) -> Any:
        file, group = self._groups[number]
        return file.read_row_group(group)

    def close(self) -> None:
        self._group.cache_clear()
        for file in self._files:
            file.close()


class _Table:
    """A `datasets.Dataset`."""

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset.with_format("arrow")
        self.names = dataset.column_names

    def column(self, name: str) -> Any:
        return self._dataset.select_columns([name])[:][name]

    def rows(self, begin: int, end: int) -> Any:
        return self._dataset[begin:end]

    def close(self) -> None:
        pass
