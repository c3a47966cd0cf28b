"""Returns and lengths of trajectories, and sums over time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from vecrollout.data.fields import scalar_rewards
from vecrollout.data.trajectory import Trajectory, TrajectoryWithRew
from vecrollout.errors import OptionError, ShapeError

_STATISTICS: dict[str, Callable[..., Any]] = {"min": np.min, "mean": np.mean, "std": np.std, "max": np.max}


class _Traces(Protocol):
    """A data set whose trajectories may be fragments."""

    def whole_episodes(self) -> Iterator[Any]:
        """The episodes that have all their steps."""


def rollout_stats(
    trajectories: Sequence[Trajectory] | _Traces, *, fragments: bool | None = None
) -> Mapping[str, float]:
    """Summary of the trajectories' returns and lengths.

    Args:
        trajectories: At least one, with rewards.
        fragments: Whether a fragment counts like an episode. None: yes, but not in a `TraceDataset`, of which whole
            episodes count, with their fragments joined.

    Returns:
        `n_traj`, the number of trajectories; `return_{min,mean,std,max}` of the undiscounted sums of rewards;
        `len_{min,mean,std,max}` of the numbers of steps. If SB3's `Monitor` left its record in the last info of some
        trajectories, also `monitor_return_{min,mean,std,max}` of the returns that it saw, and `monitor_return_len`, the
        number of such trajectories. Standard deviations are of the population. Rewards are added in the order of steps.

    Raises:
        ShapeError: If there is no trajectory, or no whole episode, or the rewards are vectors.
        OptionError: If `fragments` is False, and the trajectories are no `TraceDataset`.

    Source:
        `imitation.data.rollout.rollout_stats` (imitation 1.0.1): same names, same order, same values.
    """
    counted = _counted(trajectories, fragments)
    summary: dict[str, float] = {"n_traj": len(counted)}
    samples: dict[str, list[Any]] = {
        # np.sum adds in another order, which changes the last bits. np.cumsum stays in float32 under NumPy 1, where
        # Python's sum becomes float64.
        "return": [sum(scalar_rewards(each.rews, "rollout_stats")) for each in counted],
        "len": [len(each) for each in counted],
    }
    monitored = [seen for each in counted if (seen := _monitored_return(each)) is not None]
    if monitored:
        samples["monitor_return"] = monitored
        summary["monitor_return_len"] = len(monitored)
    return {**summary, **statistics(samples)}


def statistics(samples: Mapping[str, Any]) -> dict[str, float]:
    """Least, mean, standard deviation and largest of samples by name."""
    return {
        f"{name}_{statistic}": compute(np.asarray(values)).item()
        for name, values in samples.items()
        for statistic, compute in _STATISTICS.items()
    }


def _counted(trajectories: Any, fragments: bool | None) -> Sequence[Any]:
    """The trajectories, or the whole episodes of a data set."""
    if not trajectories:
        raise ShapeError("trajectories: expected at least one, got none")
    is_dataset = hasattr(trajectories, "whole_episodes")
    if fragments is False and not is_dataset:
        raise OptionError(f"fragments: expected True or None for a {type(trajectories).__name__}, got False")
    if fragments or not is_dataset:
        return list(trajectories)
    episodes = list(trajectories.whole_episodes())
    if not episodes:
        raise ShapeError(
            f"trajectories: expected at least one whole episode, got {len(trajectories)} fragments; "
            "pass fragments=True to count them"
        )
    return episodes


def _monitored_return(trajectory: TrajectoryWithRew) -> Any:
    """Return of the episode as SB3's `Monitor` saw it; None without a `Monitor`."""
    if trajectory.infos is None:
        return None
    return trajectory.infos[-1].get("episode", {}).get("r")


def discounted_sum(arr: npt.ArrayLike, gamma: float) -> Any:
    """Sum over time of `gamma ** t * arr[t]`: of rewards, the return, counted from the first step.

    Examples:
        >>> discounted_sum([1.0, 1.0, 1.0], 0.5).item()
        1.75

    Args:
        arr: Values to sum, shape `(T,)` or `(T, N)`, any numeric dtype. The first axis is time.
        gamma: Discount per step, usually in `[0, 1]`; the first step is not discounted.

    Returns:
        The sum: a scalar for shape `(T,)`, an array of shape `(N,)` for `(T, N)`; 0 when T is 0.

    Raises:
        ShapeError: If `arr` has neither one nor two dimensions.

    Source:
        `imitation.data.rollout.discounted_sum` (imitation 1.0.1). Its documentation puts time last; its code, like
        ours, puts it first. Sutton & Barto (2018), eq. 3.8.
    """
    array = np.asarray(arr)
    if array.ndim not in (1, 2):
        raise ShapeError(f"arr: expected shape (T,) or (T, N), got {array.shape}")
    if gamma == 1 or len(array) == 0:
        return array.sum(axis=0)
    # The sum is the polynomial with the coefficients `arr`, evaluated at gamma.
    return np.polynomial.polynomial.polyval(gamma, array)
