"""`imitation.data.serialize` (imitation 1.0.1): save trajectories, and load what imitation has saved."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Sequence

from vecrollout.compat.imitation._classes import Trajectory, TrajectoryWithRew
from vecrollout.compat.imitation._files.old import read_old_file
from vecrollout.compat.imitation.huggingface_utils import (
    TrajectoryDatasetSequence,
    datasets_package,
    trajectories_to_dataset,
)
from vecrollout.compat.imitation.types import AnyPath
from vecrollout.data import trajectory
from vecrollout.errors import OptionError

__all__ = ["load", "load_with_rewards", "save"]

_log = logging.getLogger(__name__)


def save(path: AnyPath, trajectories: Sequence[Trajectory]) -> None:
    """Save trajectories as a data set of Hugging Face's `datasets`, which imitation loads too.

    imitation's format has no place for `truncated` (only infos keep it) and for the identity of episodes. A
    `TraceWriter` keeps both. imitation does not load dict observations.

    Args:
        path: Directory to write.
        trajectories: Trajectories of this package or of imitation, all with rewards or all without.

    Raises:
        OptionError: If some trajectories have rewards and others do not.
        StructureError: If observations are tuples, or actions are dicts or tuples.
        ArgumentTypeError: If infos contain other objects than plain data, NumPy's arrays and `DictObs`.
        MissingDependencyError: If the package `datasets` is not installed.
    """
    directory = _absolute(path)
    trajectories_to_dataset(trajectories).save_to_disk(directory)
    _log.info("Saved %d trajectories to %s", len(trajectories), directory)


def load(path: AnyPath) -> Sequence[Trajectory]:
    """Load trajectories that `save` or imitation has saved.

    Unlike in imitation, nothing in the files can run code.

    Args:
        path: Directory of a data set, or an `.npz` file or a pickled list of versions of imitation before 1.0.

    Returns:
        A `TrajectoryDatasetSequence`, or for an old file a list. The end of an episode counts as truncated if its last
        info says so (`"TimeLimit.truncated"`), else as terminated.

    Raises:
        StructureError: If the data set has other columns than trajectories have.
        DamagedTraceError: If an old file is no such file, or names code that is neither NumPy's nor imitation's.
        OptionError: If the directory holds several data sets.
        MissingDependencyError: If the package `datasets` is not installed.
    """
    absolute = _absolute(path)
    if not os.path.isdir(absolute):
        trajectories = read_old_file(absolute)
        warnings.warn(
            f"{absolute} is a file of an old version of imitation; save its trajectories anew with save()",
            DeprecationWarning,
            stacklevel=2,
        )
        return trajectories
    datasets = datasets_package()
    dataset = datasets.load_from_disk(absolute)
    if not isinstance(dataset, datasets.Dataset):
        raise OptionError(f"{absolute}: expected one data set, got a {type(dataset).__name__} with {list(dataset)}")
    return TrajectoryDatasetSequence(dataset)


def load_with_rewards(path: AnyPath) -> Sequence[TrajectoryWithRew]:
    """`load`, for trajectories with rewards.

    Args:
        path: As for `load`.

    Returns:
        As `load`.

    Raises:
        OptionError: If a trajectory has no rewards.
    """
    trajectories = load(path)
    for i, each in enumerate(trajectories):
        if not isinstance(each, trajectory.TrajectoryWithRew):
            raise OptionError(f"trajectory {i}: expected a TrajectoryWithRew, got a {type(each).__name__}")
    return trajectories  # type: ignore[return-value]  # checked


def _absolute(path: AnyPath) -> str:
    return os.path.abspath(os.path.expanduser(os.fsdecode(path)))
