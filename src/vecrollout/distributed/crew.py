"""The workers of a collection: started, started again, and ended."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from vecrollout.distributed._ray import ray
from vecrollout.distributed.order import Order, Place, Report
from vecrollout.distributed.sharing import probe
from vecrollout.distributed.worker import Worker
from vecrollout.errors import ArgumentTypeError, OptionError, ProtocolError, VecrolloutError, WorkerError

# An actor or its node died, or cannot be reached.
DEATHS = ray.exceptions.RayActorError, ray.exceptions.NodeDiedError, ray.exceptions.ObjectLostError

# How long workers may take to write what they hold after an error, which may be in the way.
_PATIENCE_S = 60.0


def worker_actor(ray_options: Mapping[str, Any] | None) -> Any:
    """The class of the actors, with options of Ray."""
    if not isinstance(ray_options, Mapping | None):
        raise ArgumentTypeError(f"ray_options: expected a dict, got {type(ray_options).__name__}")
    options = {"num_cpus": 1, "scheduling_strategy": "SPREAD", **(ray_options or {})}
    try:
        return ray.remote(Worker).options(**options)
    except (ValueError, TypeError) as error:
        raise OptionError(f"ray_options: {error}") from error


class Crew:
    """Ray actors, one for each index.

    Args:
        directory: Where they write.
        num_workers: How many there are.
        seed: Seed of the collection.
        worker_args: What `Worker.start` takes beside the directory, by name.
        actor: The class of the actors.
        max_restarts: How often each worker is started again; None: any number.
        start_timeout_s: Seconds that workers may take to start.
    """

    def __init__(
        self,
        directory: str | Path,
        num_workers: int,
        seed: int,
        worker_args: Mapping[str, Any],
        actor: Any,
        max_restarts: int | None,
        start_timeout_s: float,
    ) -> None:
        self._directory, self._seed, self._worker_args = directory, seed, worker_args
        self._actor = actor
        self._max_restarts, self._start_timeout_s = max_restarts, start_timeout_s
        self._starts = [0] * num_workers
        self._actors: list[Any] = [None] * num_workers
        # How often its worker had been started when an order was given.
        self._given: dict[Any, int] = {}
        self.restarts = 0
        """How often workers were started again."""
        self.num_envs: int
        """Number of environments of each worker."""
        for worker, error in self._start(range(num_workers)).items():
            with self.killed_on_error():
                self._restart(worker, error)

    def __len__(self) -> int:
        return len(self._actors)

    def order(self, worker: int, order: Order) -> Any:
        """Give an order; returns a reference to the report."""
        if self._actors[worker] is None:
            raise ProtocolError("expected a collector whose workers run, got one that has failed; make a new one")
        ref = self._actors[worker].work.remote(order)
        self._given[ref] = self._starts[worker]
        return ref

    def ready(self, refs: Iterable[Any]) -> list[Any]:
        """Those references whose reports are there, at least one, as soon as there is one."""
        listed = list(refs)
        ray.wait(listed)
        ready, _ = ray.wait(listed, num_returns=len(listed), timeout=0)
        return list(ready)

    def report(self, worker: int, ref: Any) -> Report | None:
        """A worker's report that is there; None where the worker died. It is started again, once for all its orders."""
        start = self._given.pop(ref)
        try:
            report: Report = ray.get(ref)
        except DEATHS as error:
            if start == self._starts[worker]:
                self._restart(worker, error)
            return None
        except ray.exceptions.RayTaskError as error:
            raise _as_own(worker, error) from error.cause
        return report

    def close(self, patience_s: float | None = None) -> None:
        """Let all workers write what they hold, and end them. That may take `patience_s`; None: as long as it does."""
        refs = {each.close.remote(): worker for worker, each in enumerate(self._actors) if each is not None}
        failures = dict[int, Any]()
        try:
            ready = ray.wait(list(refs), num_returns=len(refs), timeout=patience_s)[0] if refs else []
            for ref in ready:
                try:
                    ray.get(ref)
                except DEATHS:
                    pass  # what it held is lost already
                except ray.exceptions.RayError as error:
                    failures[refs[ref]] = error
        finally:
            self.kill()
        for worker, failure in failures.items():
            raise _as_own(worker, failure) from getattr(failure, "cause", None)

    def fail(self) -> None:
        """After an error: let the workers write what they hold, and end them. Further errors are not shown."""
        with suppress(VecrolloutError):
            self.close(_PATIENCE_S)

    def kill(self, workers: Iterable[int] | None = None) -> None:
        """End some workers at once; None: all."""
        for worker in range(len(self)) if workers is None else workers:
            actor, self._actors[worker] = self._actors[worker], None
            if actor is not None:
                ray.kill(actor)

    def _restart(self, worker: int, error: Exception) -> None:
        died = {worker: error}
        while died:
            if self._max_restarts is not None and self._starts[worker] > self._max_restarts:
                raise WorkerError(
                    f"worker {worker}: ended {self._starts[worker]} times, of which max_restarts={self._max_restarts} "
                    f"restarts are allowed; what it wrote is in {str(self._directory)!r}"
                ) from died[worker]
            self.restarts += 1
            # One that could not be reached for a while must not go on writing.
            ray.kill(self._actors[worker])
            died = self._start([worker])

    def _start(self, workers: Sequence[int]) -> dict[int, Exception]:
        """Start workers. Returns the errors of those that died meanwhile; any other error ends all workers."""
        with (
            self._failing_on_error(workers),
            nullcontext() if isinstance(self._directory, str) else probe(self._directory) as file,
        ):
            for worker in workers:
                place = Place(worker, self._starts[worker], len(self), self._seed)
                self._starts[worker] += 1
                self._actors[worker] = self._actor.remote(place)
            started = {"directory": self._directory, "probe": file, **self._worker_args}
            refs = {self._actors[worker].start.remote(**started): worker for worker in workers}
            return self._await(refs)

    def _await(self, refs: Mapping[Any, int]) -> dict[int, Exception]:
        """Wait for new workers; returns the errors of those that died meanwhile."""
        ready, missing = ray.wait(list(refs), num_returns=len(refs), timeout=self._start_timeout_s)
        died, failed = dict[int, Exception](), list[tuple[int, Any]]()
        for ref in ready:
            try:
                self.num_envs = ray.get(ref)
            except DEATHS as error:
                died[refs[ref]] = error
            except ray.exceptions.RayError as error:  # the others' are often the same
                failed.append((refs[ref], error))
        for worker, failure in failed:
            raise _as_own(worker, failure) from getattr(failure, "cause", None)
        if missing:
            cluster: Any = ray
            cpus, free = (each().get("CPU", 0) for each in (cluster.cluster_resources, cluster.available_resources))
            raise WorkerError(
                f"{len(missing)} of {len(refs)} workers did not start in start_timeout_s={self._start_timeout_s:g}; "
                f"the cluster has {cpus:g} CPUs, of which {free:g} are free; use fewer workers, or set "
                'ray_options={"num_cpus": ...}'
            )
        return died

    @contextmanager
    def killed_on_error(self) -> Iterator[None]:
        """An error in the body of the `with` statement ends all workers at once."""
        try:
            yield
        except BaseException:
            self.kill()
            raise

    @contextmanager
    def _failing_on_error(self, workers: Sequence[int]) -> Iterator[None]:
        """An error in the body ends these workers at once, and the others when they have written what they hold."""
        try:
            yield
        except BaseException:
            self.kill(workers)
            self.fail()
            raise


def _as_own(worker: int, error: Any) -> Exception:
    """An error of a worker as one of our own."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, VecrolloutError):
        return type(cause)(f"worker {worker}: {cause}")
    shown = str(error).partition("\n")[0] if cause is None else f"{type(cause).__name__}: {cause}"
    return WorkerError(f"worker {worker}: {shown}")
