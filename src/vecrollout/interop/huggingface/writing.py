"""Write Parquet files, and directories with a card for Hugging Face's hub."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from vecrollout._typing import Array
from vecrollout.data.batch import TrajectoryBatch
from vecrollout.data.png import encoded, is_image
from vecrollout.data.trajectory import Trajectory
from vecrollout.errors import ArgumentTypeError, ShapeError
from vecrollout.interop.conversion.columns import OneDtype
from vecrollout.interop.conversion.leaves import named_leaves
from vecrollout.interop.conversion.output import local_path, new_directory, new_file
from vecrollout.interop.conversion.parquet import (
    arrow_column,
    check_column,
    huggingface_metadata,
    image_column,
    image_feature,
    pyarrow_modules,
    repeating_columns,
    value_feature,
)
from vecrollout.interop.conversion.report import ConversionReport, steps_with_infos
from vecrollout.interop.conversion.rows import row_columns
from vecrollout.interop.conversion.source import Source, checked_final
from vecrollout.interop.huggingface.card import card_text
from vecrollout.progress import Progress

_GROUP_ROWS = 16_384


def to_parquet(
    trajectories: Iterable[Trajectory],
    path: str | os.PathLike[str],
    *,
    final: Literal["append", "drop"] = "append",
    compression: str = "zstd",
    progress: Progress | None = None,
) -> ConversionReport:
    """Write all trajectories to one Parquet file, which pandas, Polars, DuckDB and `datasets` read.

    Images of uint8 with 1 to 4 channels, channels last, are stored as PNG, to the bit. The file appears when it is
    complete. Memory holds one batch at a time.

    Args:
        trajectories: A data set, a batch or an iterable of trajectories. An iterator is used up.
        path: The new file.
        final: Whether to write a row for each last observation (`"append"`), or not (`"drop"`).
        compression: Parquet's name of a codec, such as `"zstd"`, `"snappy"` or `"none"`.
        progress: Whether to show a progress bar on a terminal, and whose: `"tqdm"` (as True) or `"rich"`. None: rich's
            where it is installed.

    Returns:
        What was written. The file does not hold infos.

    Raises:
        OptionError: If the path exists, or `final` is unknown.
        ArgumentTypeError: If an argument is of the wrong type, or some trajectories have rewards and others not.
        DtypeError: If an array has other values than real numbers of up to 64 bits.
        StructureError: If the trajectories differ in structure, or a key has a slash.
        ShapeError: If there is no trajectory, they differ in shapes, or an array has no elements.
        TraceWriteError: If the file could not be written.
        MissingDependencyError: If pyarrow is not installed.
    """
    checked_final(final)
    source = Source(trajectories, progress=progress)
    target = local_path(path)
    with new_file(target) as temporary:
        contents = _written(source, temporary, final == "append", compression)
    return _report("Parquet", target, contents, final == "append")


def to_hf(
    trajectories: Iterable[Trajectory],
    path: str | os.PathLike[str],
    *,
    final: Literal["append", "drop"] = "append",
    card: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> ConversionReport:
    """Write a directory that `datasets.load_dataset(path)` reads, and that `push_to_hub` uploads.

    It has one Parquet file, as `to_parquet` writes it, and a dataset card, `README.md`, which describes it. The
    directory appears when it is complete. Memory holds one batch at a time.

    Args:
        trajectories: A data set, a batch or an iterable of trajectories. An iterator is used up.
        path: The new directory.
        final: Whether to write a row for each last observation (`"append"`), or not (`"drop"`).
        card: Entries of the card's metadata, such as `license`, `pretty_name` or `tags`, and `description`, a text.
        progress: Whether to show a progress bar on a terminal, and whose: `"tqdm"` (as True) or `"rich"`. None: rich's
            where it is installed.

    Returns:
        What was written. The data set does not hold infos.

    Raises:
        OptionError: If the path exists, `final` is unknown, or the card's metadata is not what JSON can hold.
        ArgumentTypeError: If an argument is of the wrong type, or some trajectories have rewards and others not.
        DtypeError: If an array has other values than real numbers of up to 64 bits.
        StructureError: If the trajectories differ in structure, or a key has a slash.
        ShapeError: If there is no trajectory, they differ in shapes, or an array has no elements.
        TraceWriteError: If the data set could not be written.
        MissingDependencyError: If pyarrow is not installed.

    Source:
        https://huggingface.co/docs/hub/datasets-cards
    """
    checked_final(final)
    if card is not None and not isinstance(card, Mapping):
        raise ArgumentTypeError(f"card: expected a dict of metadata, got {type(card).__name__}")
    source = Source(trajectories, progress=progress)
    target = local_path(path)
    with new_directory(target) as directory:
        (directory / "data").mkdir()
        contents = _written(source, directory / "data" / "train.parquet", final == "append", "zstd")
        text = card_text(contents.facts(), contents.features, source.env_spec, dict(card or {}))
        (directory / "README.md").write_text(text, "utf-8")
    return _report("Hugging Face", target, contents, final == "append")


@dataclass
class _Contents:
    """What a file holds."""

    features: dict[str, Any] = field(default_factory=dict)
    episodes: int = 0
    steps: int = 0
    infos: int = 0
    terminated: int = 0
    truncated: int = 0
    returns: list[float] = field(default_factory=list)
    dtypes: OneDtype = field(default_factory=OneDtype)

    def facts(self) -> dict[str, Any]:
        """What a card says."""
        facts: dict[str, Any] = {
            "episodes": self.episodes,
            "steps": self.steps,
            "terminated": self.terminated,
            "truncated": self.truncated,
        }
        if self.returns:
            low, mean, high = min(self.returns), sum(self.returns) / len(self.returns), max(self.returns)
            facts["return (least, mean, greatest)"] = f"{low:g}, {mean:g}, {high:g}"
        return facts


def _report(name: str, target: Path, contents: _Contents, has_last: bool) -> ConversionReport:
    dropped = 0 if has_last else contents.episodes
    return ConversionReport(
        name,
        target,
        contents.episodes,
        contents.steps,
        last_observations=dropped,
        infos=contents.infos,
        dtypes=contents.dtypes.changes,
    )


def _written(source: Source, path: Path, has_last: bool, compression: str) -> _Contents:
    _, parquet = pyarrow_modules()
    contents = _Contents()
    writer: Any = None
    try:
        for batch in source.batches():
            table = _table(batch, contents, has_last)
            if writer is None:
                names = repeating_columns(table.schema)
                writer = parquet.ParquetWriter(path, table.schema, compression=compression, use_dictionary=names)
            writer.write_table(table.select(writer.schema.names), row_group_size=_GROUP_ROWS)
    finally:
        if writer is not None:
            writer.close()
    if writer is None:
        raise ShapeError("trajectories: expected at least one, got none")
    return contents


def _table(batch: TrajectoryBatch, contents: _Contents, has_last: bool) -> Any:
    """The rows of a batch."""
    pa, _ = pyarrow_modules()
    steps = named_leaves(batch.acts, "acts") | ({} if batch.rews is None else {"rews": batch.rews})
    columns, is_last = row_columns(batch, contents.episodes, named_leaves(batch.obs, "obs"), steps)
    kept = None if has_last else ~is_last
    arrays = {}
    for name, (leaf, missing) in columns.items():
        array = contents.dtypes.cast(name, leaf if kept is None else leaf[kept])
        check_column(name, array)
        arrays[name], contents.features[name] = _column(name, array, missing if kept is None else None)
    _count(batch, contents)
    metadata = {"huggingface": json.dumps(huggingface_metadata(contents.features))}
    return pa.table(arrays).replace_schema_metadata(metadata)


def _column(name: str, array: Array, missing: Array | None) -> tuple[Any, dict[str, Any]]:
    """A column, and its feature."""
    shape = array.shape[1:]
    if name.startswith("obs") and is_image(array.dtype, shape):
        return image_column(map(encoded, array)), image_feature()
    return arrow_column(array, missing), value_feature(array.dtype, shape)


def _count(batch: TrajectoryBatch, contents: _Contents) -> None:
    contents.episodes += len(batch)
    contents.steps += batch.total_steps
    contents.infos += steps_with_infos(batch)
    contents.terminated += int(batch.terminated.sum())
    contents.truncated += int(batch.truncated.sum())
    if batch.rews is not None:
        with np.errstate(all="ignore"):
            starts = np.cumsum(batch.lengths) - batch.lengths
            contents.returns += np.add.reduceat(batch.rews.astype(np.float64), starts).tolist()
