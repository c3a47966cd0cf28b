"""Returns from each step on."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from vecrollout.data.sampling.step_index import StepIndex


def rewards_to_go(index: StepIndex, gamma: float) -> npt.NDArray[np.floating[Any]]:
    """The discounted sum of rewards from each step to its trajectory's end, shape `(number of steps,)`."""
    lengths = index.lengths
    steps_left = np.repeat(index.begins[1:], lengths) - np.arange(len(index))
    rews = index.rows.take("rews", np.repeat(index.step_rows + lengths, lengths) - steps_left)
    # After each round the sums are over twice as many steps.
    sums, reach, factor = rews.astype(np.float64), 1, gamma
    while len(lengths) and reach < lengths.max():
        (at,) = np.nonzero(steps_left > reach)
        further = factor * sums[at + reach]
        sums[at] += further
        reach, factor = 2 * reach, factor**2
    returns: npt.NDArray[np.floating[Any]] = sums.astype(np.result_type(rews.dtype, np.float32))
    return returns
