"""A stream: workers act without an end, also while the driver does something else."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any

from vecrollout.distributed._ray import ray
from vecrollout.distributed.crew import Crew
from vecrollout.distributed.order import Order, Progressed


class Streaming:
    """A thread that takes reports and gives new orders. Nobody else uses the workers meanwhile.

    Args:
        crew: The workers.
        order: Makes an order with the newest policy.
        progressed: How far the stream is.
    """

    def __init__(self, crew: Crew, order: Callable[[], Order], progressed: Progressed) -> None:
        self._crew, self._order, self._progressed = crew, order, progressed
        self._restarts_before = crew.restarts
        self._stops, self._ended = threading.Event(), threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def is_running(self, after_s: float) -> bool:
        """Whether the stream still runs after a while; raises where a worker failed."""
        self._ended.wait(after_s)
        if self._error is not None:
            raise self._error
        return not self._ended.is_set()

    def stop(self) -> None:
        """Wait until the workers have carried out their orders, and give no further ones."""
        self._stops.set()
        self._thread.join()

    def __enter__(self) -> Streaming:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _run(self) -> None:
        running: dict[Any, int] = {}
        try:
            for worker in [*range(len(self._crew))] * 2:  # a second order waits while the first is carried out
                running[self._crew.order(worker, self._order())] = worker
            while not self._stops.is_set():
                for ref in self._crew.ready(running):
                    worker = running.pop(ref)
                    report = self._crew.report(worker, ref)
                    if report is not None:
                        self._progressed.add(report)
                    self._progressed.restarts = self._crew.restarts - self._restarts_before
                    running[self._crew.order(worker, self._order())] = worker
        except BaseException as error:
            self._error = error
            self._crew.fail()
        finally:
            if running:
                ray.wait(list(running), num_returns=len(running))
            self._ended.set()
