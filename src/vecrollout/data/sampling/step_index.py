"""Where each step of some trajectories lies."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from vecrollout.data.columns import Columns
from vecrollout.data.sampling.rows import ArrayRows, RowNumbers, Rows


@dataclass(frozen=True, eq=False)
class StepIndex:
    """The steps of N trajectories, numbered one trajectory behind another.

    Row numbers are those of `rows`. The rows of one trajectory lie behind one another.
    """

    rows: Rows
    """The data."""
    lengths: npt.NDArray[np.int64]
    """Steps of each trajectory, shape `(N,)`."""
    terminated: npt.NDArray[np.bool_]
    """Whether each trajectory's last step reached a terminal state, shape `(N,)`."""
    truncated: npt.NDArray[np.bool_]
    """Whether each trajectory was cut short at its last step, shape `(N,)`."""
    obs_rows: RowNumbers
    """Row of each trajectory's first observation, shape `(N,)`."""
    step_rows: RowNumbers
    """Row of each trajectory's first action, reward and info, shape `(N,)`."""
    start_steps: npt.NDArray[np.int64]
    """Step of its episode that each trajectory begins with, shape `(N,)`."""

    @classmethod
    def of_columns(cls, columns: Columns, obs: Any, acts: Any, rews: Any) -> StepIndex:
        """The index of columns whose observations, actions and rewards lie in memory as given."""
        step_rows = _begins(columns.lengths)[:-1]
        return cls(
            ArrayRows(columns, obs, acts, rews),
            columns.lengths,
            columns.terminated,
            columns.truncated,
            step_rows + np.arange(len(step_rows)),
            step_rows,
            np.array([episode.start_step for episode in columns.episodes], np.int64),
        )

    def __len__(self) -> int:
        """Number of steps."""
        return int(self.begins[-1])

    @cached_property
    def begins(self) -> npt.NDArray[np.int64]:
        """Number of each trajectory's first step, and behind them the number of all steps, shape `(N + 1,)`."""
        return _begins(self.lengths)

    def located(self, steps: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Trajectory of each step, and its place in the trajectory."""
        trajectories = self.begins.searchsorted(steps, "right") - 1
        return trajectories, steps - self.begins[trajectories]

    def windows(self, length: int, stride: int, *, padded: bool) -> npt.NDArray[np.int64]:
        """Number of each trajectory's first window, and behind them the number of all windows, shape `(N + 1,)`."""
        key = length, stride, padded
        begins = self._windows.get(key)
        if begins is None:
            places = self.lengths if padded else np.maximum(self.lengths - length + 1, 0)
            # Learners draw the same windows again and again.
            self._windows.clear()
            begins = self._windows[key] = _begins(-(-places // stride))
        return begins

    @cached_property
    def _windows(self) -> dict[tuple[int, int, bool], npt.NDArray[np.int64]]:
        return {}

    def returns_to_go(self, gamma: float) -> npt.NDArray[np.floating[Any]]:
        """The discounted sum of rewards from each step to its trajectory's end, shape `(number of steps,)`."""
        lengths = self.lengths
        steps_left = np.repeat(self.begins[1:], lengths) - np.arange(len(self))
        rews = self.rows.take("rews", np.repeat(self.step_rows + lengths, lengths) - steps_left)
        # After each round the sums are over twice as many steps.
        sums, reach, factor = rews.astype(np.float64), 1, gamma
        while len(lengths) and reach < lengths.max():
            (at,) = np.nonzero(steps_left > reach)
            further = factor * sums[at + reach]
            sums[at] += further
            reach, factor = 2 * reach, factor**2
        returns: npt.NDArray[np.floating[Any]] = sums.astype(np.result_type(rews.dtype, np.float32))
        return returns

    def select(self, numbers: Any, start: Any = 0, stop: Any = None) -> StepIndex:
        """The index of some trajectories, or of the steps `[start, stop)` of each, at least one; scalars or arrays."""
        lengths = self.lengths[numbers]
        end = lengths if stop is None else np.asarray(stop, np.int64)
        return replace(
            self,
            lengths=end - start + np.zeros_like(lengths),
            terminated=self.terminated[numbers] & (end == lengths),
            truncated=self.truncated[numbers] & (end == lengths),
            obs_rows=self.obs_rows[numbers] + start,
            step_rows=self.step_rows[numbers] + start,
            start_steps=self.start_steps[numbers] + start,
        )


def _begins(lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    begins = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=begins[1:])
    return begins
