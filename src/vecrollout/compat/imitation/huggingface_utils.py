"""`imitation.data.huggingface_utils` (imitation 1.0.1): trajectories as data sets of Hugging Face's `datasets`."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from vecrollout.compat.imitation._classes import DictObs, Trajectory, trajectory_of
from vecrollout.compat.imitation._files.infos import decode, encode
from vecrollout.compat.imitation._joined import adopt
from vecrollout.data.array_tree import ArrayTree
from vecrollout.data.trajectory import TrajectoryWithRew
from vecrollout.data.trees import TupleObs
from vecrollout.errors import DtypeError, MissingDependencyError, OptionError, ShapeError, StructureError

if TYPE_CHECKING:
    import datasets

__all__ = ["TrajectoryDatasetSequence", "trajectories_to_dataset", "trajectories_to_dict"]

_COLUMNS = {"obs", "acts", "infos", "terminal"}


class TrajectoryDatasetSequence(Sequence[Trajectory]):
    """A data set as a sequence of trajectories, which are read when they are asked for.

    Arrays have the dtypes of the data set, where imitation makes float64 and int64 of them. Infos are decoded without
    running code: arrays, plain data and `DictObs` are restored, other objects stay the JSON that imitation saved.

    Args:
        dataset: One trajectory a row, with the columns of `trajectories_to_dict`.

    Raises:
        StructureError: If the data set has other columns.
    """

    def __init__(self, dataset: datasets.Dataset) -> None:
        columns = set(dataset.column_names)
        if columns - {"rews"} != _COLUMNS:
            raise StructureError(f"dataset: expected the columns {sorted(_COLUMNS)}, and rews or not, got {columns}")
        self._rows = dataset.with_format("arrow")

    def __len__(self) -> int:
        """Number of trajectories."""
        return len(self._rows)

    @overload
    def __getitem__(self, idx: int) -> Trajectory: ...

    @overload
    def __getitem__(self, idx: slice) -> list[Trajectory]: ...

    def __getitem__(self, idx: Any) -> Any:
        """One trajectory, or a list of several.

        Raises:
            IndexError: If there is no such trajectory.
            ShapeError: If the rows of an array have different shapes.
            DamagedTraceError: If infos cannot be decoded.
        """
        if isinstance(idx, slice):
            return [self[i] for i in range(*idx.indices(len(self)))]
        idx = operator.index(idx)
        if not -len(self) <= idx < len(self):
            raise IndexError(f"expected the index of one of {len(self)} trajectories, got {idx}")
        table = self._rows[idx % len(self)]
        row = {name: table.column(name)[0] for name in table.column_names}
        infos = [decode(text) for text in row.pop("infos").as_py()]
        terminal = row.pop("terminal").as_py()
        return trajectory_of(infos=infos, terminal=terminal, **{name: _array(each, name) for name, each in row.items()})

    def __iter__(self) -> Iterator[Trajectory]:
        """The trajectories, in order."""
        return (self[i] for i in range(len(self)))

    @property
    def dataset(self) -> datasets.Dataset:
        """The data set."""
        return self._rows.with_format(None)


def trajectories_to_dict(trajectories: Sequence[Trajectory]) -> dict[str, list[Any]]:
    """Make the columns of a data set from trajectories.

    Args:
        trajectories: Trajectories of this package or of imitation, all with rewards or all without.

    Returns:
        Lists with one entry a trajectory: `obs` (an array of shape `(T + 1, *obs_shape)`, or a dict of such arrays),
        `acts` (an array), `infos` (T texts in the form of the package jsonpickle), `terminal` (a bool), and `rews` (an
        array) if there are rewards. imitation has no column for `truncated`, so only infos keep it.

    Raises:
        OptionError: If some trajectories have rewards and others do not.
        StructureError: If observations are tuples, or actions are dicts or tuples.
        ArgumentTypeError: If infos contain other objects than plain data, NumPy's arrays and `DictObs`.
    """
    listed: list[Any] = [adopt(each) for each in trajectories]
    with_rews = [isinstance(each, TrajectoryWithRew) for each in listed]
    if any(with_rews) and not all(with_rews):
        raise OptionError(
            f"trajectories: expected all with rewards or all without, got {sum(with_rews)} of {len(listed)} with"
        )
    columns: dict[str, list[Any]] = {
        "obs": [_plain(each.obs, "obs") for each in listed],
        "acts": [_plain(each.acts, "acts") for each in listed],
        "infos": [["{}"] * len(each) if each.infos is None else list(map(encode, each.infos)) for each in listed],
        "terminal": [each.terminal for each in listed],
    }
    if all(with_rews):
        columns["rews"] = [each.rews for each in listed]
    return columns


def trajectories_to_dataset(
    trajectories: Sequence[Trajectory], info: datasets.DatasetInfo | None = None
) -> datasets.Dataset:
    """Make a data set from trajectories.

    Args:
        trajectories: As for `trajectories_to_dict`. Of a `TrajectoryDatasetSequence`, its own data set is returned.
        info: Description of the data set.

    Returns:
        A data set with the columns of `trajectories_to_dict`. imitation reads it, except for dict observations.

    Raises:
        MissingDependencyError: If the package `datasets` is not installed.
    """
    if isinstance(trajectories, TrajectoryDatasetSequence):
        return trajectories.dataset
    return datasets_package().Dataset.from_dict(trajectories_to_dict(trajectories), info=info)


def datasets_package() -> Any:
    """The package `datasets`, which takes long to import.

    Raises:
        MissingDependencyError: If it is not installed.
    """
    try:
        import datasets
    except ImportError as error:
        raise MissingDependencyError("imitation's file format needs datasets: pip install datasets") from error
    return datasets


def _plain(tree: Any, name: str) -> Any:
    if isinstance(tree, TupleObs) or (name == "acts" and isinstance(tree, ArrayTree)):
        raise StructureError(f"{name}: expected arrays, as imitation's format has nothing else, got {tree!r}")
    if isinstance(tree, ArrayTree):
        return {key: _plain(entry, name) for key, entry in tree.items()}
    return tree


def _array(stored: Any, name: str) -> Any:
    """The array, or the `DictObs`, in a row of an Arrow column."""
    if isinstance(stored, Mapping):
        return DictObs({key: _array(entry, name) for key, entry in stored.items()})
    values = stored.values
    shape = [len(values)]
    while hasattr(values.type, "value_type"):
        inner = values.flatten()
        rows = len(inner) // max(len(values), 1)
        if values.null_count or any(length != rows for length in values.value_lengths().to_pylist()):
            raise ShapeError(f"{name}: expected rows of one shape, got rows of different lengths")
        shape.append(rows)
        values = inner
    if values.null_count:
        raise DtypeError(f"{name}: expected an array, got one with missing values")
    return np.array(values.to_numpy(zero_copy_only=False)).reshape(shape)
