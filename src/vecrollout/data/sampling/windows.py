"""Windows: stretches of one trajectory's steps, all of one length."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from vecrollout._typing import Array
from vecrollout.data.checks import whole_number
from vecrollout.data.fields import summary, trusted
from vecrollout.data.sampling.items import Indexed, Items
from vecrollout.data.sampling.transitions import discount, require_rewards
from vecrollout.data.trees import Observation, map_leaves
from vecrollout.errors import OptionError

Pad: TypeAlias = Literal["before", "after"]
"""Where windows may reach over the trajectory: before its first step, or after its last."""


@dataclass(frozen=True, eq=False, repr=False)
class Windows:
    """B windows of L steps; each is of one trajectory. What lies outside the trajectory is zeros.

    As in a trajectory, there is one observation more than steps: `obs[:, :-1]` were seen before the actions,
    `obs[:, 1:]` after them.
    """

    obs: Observation
    """Observations, shape `(B, L + 1, *obs_shape)`."""

    acts: Array
    """Actions, shape `(B, L, *act_shape)`."""

    rews: npt.NDArray[np.floating[Any]] | None
    """Rewards, shape `(B, L)`; None where the trajectories have none."""

    terminated: npt.NDArray[np.bool_]
    """Whether each step reached a terminal state, shape `(B, L)`."""

    truncated: npt.NDArray[np.bool_]
    """Whether the episode was cut short at each step, shape `(B, L)`."""

    mask: npt.NDArray[np.bool_]
    """Whether each step is of the trajectory, shape `(B, L)`; False for padding."""

    timesteps: npt.NDArray[np.int64]
    """Number of each step in its episode, shape `(B, L)`; 0 for padding."""

    returns_to_go: npt.NDArray[np.floating[Any]] | None
    """Discounted sum of rewards from each step to the trajectory's end, shape `(B, L)`; None unless asked for."""

    def __len__(self) -> int:
        """Number of windows, B."""
        return len(self.mask)

    def __repr__(self) -> str:
        """One line: shapes and dtypes."""
        rows, steps = self.mask.shape
        return f"<{summary(self, ('obs', 'acts', 'rews')).replace(f'{rows} steps', f'{rows} x {steps} steps', 1)}>"


class WindowItems(Items[Windows]):
    """Windows of all trajectories, one trajectory behind another."""

    def __init__(
        self,
        trajectories: Indexed,
        length: int,
        stride: int = 1,
        *,
        pad: Pad | None = None,
        gamma: float | None = None,
    ) -> None:
        super().__init__(trajectories)
        self._length, self._stride = whole_number("length", length, 1), whole_number("stride", stride, 1)
        if pad not in (None, *get_args(Pad)):
            raise OptionError(f"pad: expected None, 'before' or 'after', got {pad!r}")
        self._pad = pad
        self._gamma = None if gamma is None else discount(gamma)
        if gamma is not None:
            require_rewards(trajectories, "gamma")

    def __len__(self) -> int:
        """Number of windows."""
        return int(self._begins[-1])

    @property
    def _begins(self) -> npt.NDArray[np.int64]:
        return self._index.windows(self._length, self._stride, padded=self._pad is not None)

    @cached_property
    def _returns_to_go(self) -> npt.NDArray[np.floating[Any]]:
        return self._index.returns_to_go(1.0 if self._gamma is None else self._gamma)

    def batch(self, numbers: npt.NDArray[np.int64]) -> Windows:
        """The windows of these numbers."""
        index, length = self._index, self._length
        trajectories = self._begins.searchsorted(numbers, "right") - 1
        first = (numbers - self._begins[trajectories]) * self._stride
        if self._pad == "before":
            first -= length - 1
        at = first[:, None] + np.arange(length + 1)
        steps, trajectory = index.lengths[trajectories][:, None], trajectories[:, None]
        if self._pad is None:
            clipped, is_outside = at, None
        else:
            clipped = np.clip(at, 0, steps)
            is_outside = clipped != at
        mask = (at >= 0) & (at < steps)
        mask, within = mask[:, :-1], np.minimum(clipped[:, :-1], steps - 1)
        last = mask & (within == steps - 1)
        rows = index.step_rows[trajectory] + within
        outside = None if is_outside is None else ~mask

        def taken(name: str, rows: Any, outside: Any) -> Any:
            return map_leaves(lambda leaf: _shaped(leaf, rows, outside), index.rows.take(name, rows.reshape(-1)))

        returns = None
        if self._gamma is not None:
            returns = self._returns_to_go[index.begins[trajectory] + within]
            returns[~mask] = 0
        fields = {
            "obs": taken("obs", index.obs_rows[trajectory] + clipped, is_outside),
            "acts": taken("acts", rows, outside),
            "rews": None if index.rows.kind.rews is None else taken("rews", rows, outside),
            "terminated": last & index.terminated[trajectory],
            "truncated": last & index.truncated[trajectory],
            "mask": mask,
            "timesteps": np.where(mask, index.start_steps[trajectory] + within, 0),
            "returns_to_go": returns,
        }
        return trusted(Windows, fields)

    def __getstate__(self) -> dict[str, Any]:
        """Without the returns, which are worked out anew."""
        state = super().__getstate__()
        state.pop("_returns_to_go", None)
        return state


def _shaped(leaf: Array, rows: Array, outside: Any) -> Array:
    shaped = leaf.reshape(*rows.shape, *leaf.shape[1:])
    if outside is not None:
        shaped[outside] = np.zeros((), leaf.dtype)
    return shaped
