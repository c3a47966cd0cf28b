"""A round: every worker carries out its part."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from vecrollout.collecting.stop import positive
from vecrollout.data.checks import check_function
from vecrollout.distributed._ray import ray
from vecrollout.distributed.crew import Crew
from vecrollout.distributed.gathered import Gathered
from vecrollout.distributed.order import Order, Progressed
from vecrollout.errors import OptionError, WorkerError

Until = Callable[[Progressed], bool]
"""A condition: takes how far a round is, and says whether that is enough."""


@dataclass(frozen=True)
class Enough:
    """What ends a round: one of three conditions."""

    steps: int | None = None
    """Number of transitions."""
    episodes: int | None = None
    """The least number of episodes."""
    until: Until | None = None
    """Says whether there is enough."""

    def __post_init__(self) -> None:
        """Refuse none or several conditions."""
        if sum(each is not None for each in (self.steps, self.episodes, self.until)) != 1:
            raise OptionError("steps, episodes, until: expected one of them, got none or several")
        if self.until is not None:
            check_function("until", self.until, "how far the round is")
        for name in ("steps", "episodes"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, positive(name, getattr(self, name)))

    def quotas(self, workers: int, num_envs: int) -> list[int] | None:
        """How many transitions or episodes each worker is to make; None: any number."""
        if self.steps is not None:
            return shares(self.steps, workers, num_envs)
        return None if self.episodes is None else shares(self.episodes, workers, 1)


class Round:
    """What the workers still have to do in a round.

    Args:
        crew: The workers.
        gathered: What they have written, which tells what a dead worker had done.
        order: The order, without numbers.
        enough: What ends the round.
        progressed: How far the round is.
    """

    def __init__(
        self,
        crew: Crew,
        gathered: Gathered,
        order: Order,
        enough: Enough,
        progressed: Progressed,
    ) -> None:
        self._crew, self._gathered, self._order = crew, gathered, order
        self._quotas, self._until = enough.quotas(len(crew), crew.num_envs), enough.until
        self._progressed = progressed
        self._done = [0] * len(crew)
        self._restarts_before = crew.restarts
        self._is_enough = False
        self._running: dict[Any, int] = {}

    def run(self) -> None:
        """Wait until every worker is done. After an error, the workers are ready for another round, or ended."""
        for worker in range(len(self._crew)):
            if self._left(worker) != 0:
                self._give(worker)
        try:
            while self._running:
                for ref in self._crew.ready(self._running):
                    self._take(ref)
        except WorkerError:
            self._crew.fail()
            raise
        finally:
            if self._running:
                ray.wait(list(self._running), num_returns=len(self._running))

    def _left(self, worker: int) -> int | None:
        return None if self._quotas is None else max(self._quotas[worker] - self._done[worker], 0)

    def _give(self, worker: int) -> None:
        left = self._left(worker)
        if self._order.is_whole:
            order = self._order._replace(episodes=left, finishes=left == 0 or self._is_enough)
        else:
            order = self._order._replace(steps=left)
        self._running[self._crew.order(worker, order)] = worker

    def _take(self, ref: Any) -> None:
        worker = self._running.pop(ref)
        report = self._crew.report(worker, ref)
        if report is not None:
            self._progressed.add(report)
            self._done[worker] += len(report.returns) if self._order.is_whole else report.steps
            is_done = report.is_done
        else:
            steps, episodes = self._gathered.made(self._order.round, worker)
            self._done[worker] = episodes if self._order.is_whole else steps
            # The episodes that it was to finish are lost.
            is_done = self._is_enough or self._left(worker) == 0
        self._progressed.restarts = self._crew.restarts - self._restarts_before
        self._is_enough = self._is_enough or (self._until is not None and bool(self._until(self._progressed)))
        if not is_done:
            self._give(worker)


def shares(total: int, workers: int, unit: int) -> list[int]:
    """The parts of workers, equal in units. The last part may have an incomplete unit."""
    units = -(-total // unit)
    whole, rest = divmod(units, workers)
    parts = [(whole + (worker < rest)) * unit for worker in range(workers)]
    parts[(rest or workers) - 1] -= units * unit - total
    return parts
