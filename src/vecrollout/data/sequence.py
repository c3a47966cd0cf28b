"""What a `TrajectoryBatch` and a `TraceDataset` have in common: choosing trajectories, and drawing from their steps."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np
import numpy.typing as npt

from vecrollout.data.curating import CuratedTrajectories
from vecrollout.data.sampling.items import Items
from vecrollout.data.sampling.normalization import Normalization, normalization_of
from vecrollout.data.sampling.step_index import StepIndex
from vecrollout.data.sampling.transitions import NStepItems, NStepTransitions, StepItems, discount, require_rewards
from vecrollout.data.sampling.windows import Pad, WindowItems, Windows
from vecrollout.data.transitions import Transitions


class TrajectorySequence(CuratedTrajectories):
    """A sequence of trajectories that gives views of itself, and data for training.

    A subclass says where the trajectories and their steps are.
    """

    @property
    @abstractmethod
    def step_index(self) -> StepIndex:
        """Where each step lies, for the methods that draw steps and windows."""

    def sample_transitions(
        self, n: int, rng: np.random.Generator, *, frame_stack: int | None = None, infos: bool = False
    ) -> Transitions:
        """Draw steps of all trajectories with equal probability, with replacement.

        Examples:
            >>> from vecrollout import TrajectoryBatch
            >>> batch = TrajectoryBatch.from_arrays(obs=np.arange(7.0), acts=np.zeros(5), lengths=[2, 3])
            >>> drawn = batch.sample_transitions(4, np.random.default_rng(0))
            >>> drawn.obs, drawn.next_obs
            (array([5., 4., 3., 1.]), array([6., 5., 4., 2.]))

        Args:
            n: Number of steps to draw.
            rng: Where randomness comes from. The same state gives the same steps.
            frame_stack: Number of observations to stack, oldest first: `obs` and `next_obs` get the shape
                `(n, frame_stack, *obs_shape)`. At the start of a trajectory its first observation is repeated. None:
                single observations, shape `(n, *obs_shape)`.
            infos: Whether to read infos, which takes longest. False: infos are empty dicts.

        Returns:
            The steps as copies; `TransitionsWithRew` where there are rewards.

        Raises:
            ShapeError: If there is no step.
            OptionError: If `n` is negative, or `frame_stack` less than 1.
            ArgumentTypeError: If a number is no integer, or `rng` no `np.random.Generator`.
            DamagedTraceError: If the trace cannot be read, or is not what was written.
        """
        return StepItems(self, frame_stack, infos=infos).sample(n, rng)

    def sample_windows(
        self,
        length: int,
        n: int,
        rng: np.random.Generator,
        *,
        pad: Pad | None = None,
        returns_to_go: float | None = None,
    ) -> Windows:
        """Draw windows of all trajectories with equal probability, with replacement.

        Args:
            length: Steps of a window, L.
            n: Number of windows to draw.
            rng: Where randomness comes from. The same state gives the same windows.
            pad: As in `windows`.
            returns_to_go: As in `windows`.

        Returns:
            The windows as copies. A mask tells steps from padding.

        Raises:
            ShapeError: If there is no window, because each trajectory is shorter.
            OptionError: If `length` is less than 1, `n` is negative, `pad` is unknown, or a discount outside `[0, 1]`.
            ArgumentTypeError: If a number is no integer, `rng` no `np.random.Generator`, or there are no rewards for
                `returns_to_go`.
            DamagedTraceError: If the trace cannot be read, or is not what was written.
        """
        return WindowItems(self, length, pad=pad, gamma=returns_to_go).sample(n, rng)

    def steps(self, *, frame_stack: int | None = None, infos: bool = False) -> Items[Transitions]:
        """All steps by number, read when they are asked for.

        Args:
            frame_stack: As in `sample_transitions`.
            infos: As in `sample_transitions`.

        Returns:
            A sequence of steps. `steps[[3, 1, 2]]` and `steps[3:9]` are `Transitions`, `steps.sample(n, rng)` draws
            `n` of them.

        Raises:
            OptionError: If `frame_stack` is less than 1.
            ArgumentTypeError: If `frame_stack` is no integer.
        """
        return StepItems(self, frame_stack, infos=infos)

    def windows(
        self, length: int, stride: int = 1, *, pad: Pad | None = None, returns_to_go: float | None = None
    ) -> Items[Windows]:
        """All windows by number, read when they are asked for. A window never spans two trajectories.

        Fragments of one episode are trajectories of their own; stitch them first where windows are to span them.

        Args:
            length: Steps of a window, L.
            stride: Steps from the begin of one window to the begin of the next, within a trajectory.
            pad: None: whole windows only; a trajectory with fewer steps has none. `"after"`: a window begins with every
                `stride`-th step, and may reach past the trajectory's end. `"before"`: a window ends with every
                `stride`-th step, and may begin before the trajectory does.
            returns_to_go: Discount per step of `Windows.returns_to_go`, in `[0, 1]`; None: no returns.

        Returns:
            A sequence of windows. `windows[[3, 1, 2]]` and `windows[3:9]` are `Windows`, `windows.sample(n, rng)` draws
            `n` of them.

        Raises:
            OptionError: If `length` or `stride` is less than 1, `pad` is unknown, or a discount outside `[0, 1]`.
            ArgumentTypeError: If a number is no integer, or there are no rewards for `returns_to_go`.
        """
        return WindowItems(self, length, stride, pad=pad, gamma=returns_to_go)

    def n_step(self, n: int, gamma: float, *, frame_stack: int | None = None) -> Items[NStepTransitions]:
        """All steps as n-step transitions by number, read when they are asked for.

        The target of a step is `rews + discounts * value(next_obs)`. It bootstraps where an episode was truncated and
        where a fragment ends, and not where an episode terminated.

        Args:
            n: Steps of a transition; fewer at the end of a trajectory.
            gamma: Discount per step, in `[0, 1]`.
            frame_stack: As in `sample_transitions`.

        Returns:
            A sequence of transitions. `n_step[[3, 1, 2]]` and `n_step[3:9]` are `NStepTransitions`,
            `n_step.sample(n, rng)` draws `n` of them.

        Raises:
            OptionError: If `n` or `frame_stack` is less than 1, or `gamma` outside `[0, 1]`.
            ArgumentTypeError: If a number is no integer, or there are no rewards.
        """
        return NStepItems(self, n, gamma, frame_stack)

    def returns_to_go(self, gamma: float = 1.0) -> npt.NDArray[np.floating[Any]]:
        """The discounted sum of rewards from each step to its trajectory's end.

        Examples:
            >>> from vecrollout import TrajectoryBatch
            >>> batch = TrajectoryBatch.from_arrays(np.arange(7.0), np.zeros(5), np.ones(5), lengths=[2, 3])
            >>> batch.returns_to_go(0.5)
            array([1.5 , 1.  , 1.75, 1.5 , 1.  ])

        Args:
            gamma: Discount per step, in `[0, 1]`.

        Returns:
            The returns, shape `(total_steps,)`, one trajectory behind another. The dtype is that of the rewards, at
            least float32; sums are in float64.

        Raises:
            OptionError: If `gamma` is outside `[0, 1]`.
            ArgumentTypeError: If there are no rewards.
            DamagedTraceError: If the trace cannot be read, or is not what was written.
        """
        require_rewards(self, "returns_to_go")
        return self.step_index.returns_to_go(discount(gamma))

    def normalization(self) -> Normalization:
        """Mean, standard deviation, smallest and largest value of each element of observations, actions and rewards.

        All rows are read once, in bounded memory. Sums are in float64.

        Returns:
            The statistics. Observations include the last one of each trajectory.

        Raises:
            ShapeError: If there is no step.
            DtypeError: If observations or actions are no real numbers.
            DamagedTraceError: If the trace cannot be read, or is not what was written.
        """
        return normalization_of(self.step_index)
