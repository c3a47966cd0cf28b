"""Single steps and n-step transitions by number."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from vecrollout.data.checks import whole_number
from vecrollout.data.fields import infos_or_empty, trusted
from vecrollout.data.sampling.items import BatchT, Indexed, Items
from vecrollout.data.transitions import Transitions, TransitionsWithRew
from vecrollout.data.trees import map_leaves
from vecrollout.errors import ArgumentTypeError, OptionError, ShapeError


@dataclass(frozen=True, eq=False, repr=False)
class NStepTransitions(TransitionsWithRew):
    """Transitions over up to n steps, with the discount of what follows.

    `rews + discounts * value(next_obs)` is the n-step target; `discounts` is 0 where the episode terminated.
    Transitions are shorter than n steps at the end of a trajectory.

    Raises:
        ShapeError: If a field does not have one row a step, or the shapes of `next_obs` and `obs` differ.
        DtypeError: If a field has a dtype that `TransitionsWithRew` refuses.
        ArgumentTypeError: If a field cannot become an array.
        FlagError: If `dones` is not `terminated | truncated`.

    Source:
        Sutton & Barto (2018), section 7.1.
    """

    discounts: npt.NDArray[np.floating[Any]]
    """Discount of the value of `next_obs`, shape `(B,)`, dtype of `rews`: `gamma ** steps`, 0 if `terminated`."""

    def __post_init__(self) -> None:
        """Check the discounts too."""
        super().__post_init__()
        object.__setattr__(self, "discounts", np.asarray(self.discounts))
        if self.discounts.shape != self.rews.shape:
            raise ShapeError(f"discounts: expected shape {self.rews.shape}, got {self.discounts.shape}")


class _PerStep(Items[BatchT]):
    """One item a step."""

    def __init__(self, trajectories: Indexed, frame_stack: int | None) -> None:
        super().__init__(trajectories)
        self._frame_stack = None if frame_stack is None else whole_number("frame_stack", frame_stack, 1)

    def __len__(self) -> int:
        """Number of steps."""
        return len(self._index)

    def _flags(self, trajectories: Any, is_last: Any) -> dict[str, Any]:
        terminated = self._index.terminated[trajectories] & is_last
        truncated = self._index.truncated[trajectories] & is_last
        return {"dones": terminated | truncated, "terminated": terminated, "truncated": truncated}

    def _obs(self, trajectories: Any, at: Any) -> Any:
        first = self._index.obs_rows[trajectories]
        if self._frame_stack is None:
            return self._index.rows.take("obs", first + at)
        frames = np.maximum(at[:, None] + np.arange(1 - self._frame_stack, 1), 0) + first[:, None]
        obs = self._index.rows.take("obs", frames.reshape(-1))
        return map_leaves(lambda leaf: leaf.reshape(*frames.shape, *leaf.shape[1:]), obs)


class StepItems(_PerStep[Transitions]):
    """All steps, as `Transitions`; `TransitionsWithRew` where there are rewards."""

    def __init__(self, trajectories: Indexed, frame_stack: int | None = None, *, infos: bool = False) -> None:
        super().__init__(trajectories, frame_stack)
        self.has_infos = infos

    def batch(self, numbers: npt.NDArray[np.int64]) -> Transitions:
        """The steps of these numbers."""
        index = self._index
        trajectories, at = index.located(numbers)
        rows = index.step_rows[trajectories] + at
        is_last = at == index.lengths[trajectories] - 1
        infos = index.rows.infos(rows) if self.has_infos else None
        fields = {
            "obs": self._obs(trajectories, at),
            "acts": index.rows.take("acts", rows),
            "infos": infos_or_empty(infos, len(rows)),
            "next_obs": self._obs(trajectories, at + 1),
            **self._flags(trajectories, is_last),
        }
        if index.rows.kind.rews is None:
            return trusted(Transitions, fields)
        return trusted(TransitionsWithRew, {**fields, "rews": index.rows.take("rews", rows)})


class NStepItems(_PerStep[NStepTransitions]):
    """All steps, as `NStepTransitions`."""

    def __init__(self, trajectories: Indexed, n: int, gamma: float, frame_stack: int | None = None) -> None:
        super().__init__(trajectories, frame_stack)
        self._steps, self._gamma = whole_number("n", n, 1), discount(gamma)
        require_rewards(trajectories, "n_step")

    def batch(self, numbers: npt.NDArray[np.int64]) -> NStepTransitions:
        """The transitions that begin with the steps of these numbers."""
        index = self._index
        trajectories, at = index.located(numbers)
        rows = index.step_rows[trajectories] + at
        left = index.lengths[trajectories] - at
        steps = np.minimum(left, self._steps)
        ahead = np.arange(self._steps)
        is_within = ahead < steps[:, None]
        taken = index.rows.take("rews", (rows[:, None] + np.where(is_within, ahead, 0)).reshape(-1))
        discounted = taken.reshape(is_within.shape) * np.where(is_within, self._gamma**ahead, 0.0)
        flags = self._flags(trajectories, left <= self._steps)
        discounts = np.where(flags["terminated"], 0.0, self._gamma**steps)
        fields = {
            "obs": self._obs(trajectories, at),
            "acts": index.rows.take("acts", rows),
            "infos": infos_or_empty(None, len(rows)),
            "next_obs": self._obs(trajectories, at + steps),
            **flags,
            "rews": discounted.sum(axis=1).astype(taken.dtype),
            "discounts": discounts.astype(taken.dtype),
        }
        return trusted(NStepTransitions, fields)


def discount(gamma: Any) -> float:
    """A discount, in [0, 1]."""
    if not isinstance(gamma, int | float | np.number) or isinstance(gamma, bool):
        raise ArgumentTypeError(f"gamma: expected a number, got {gamma!r}")
    if not 0 <= gamma <= 1:
        raise OptionError(f"gamma: expected a discount in [0, 1], got {gamma}")
    return float(gamma)


def require_rewards(trajectories: Indexed, what: str) -> None:
    """Refuse trajectories without rewards."""
    if trajectories.step_index.rows.kind.rews is None:
        raise ArgumentTypeError(f"{what}: expected trajectories with rewards, got some without")
