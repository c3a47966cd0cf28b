"""Collecting with workers on Ray: what a worker costs beside a plain process, and what a large cluster would do."""

from __future__ import annotations

import heapq
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.options import Options
from benchmarks.report import Table, at_least, at_most, number

_ENVS = 8
_WEIGHTS = 5_000_000
_STEP_S = 20e-6
"""How long a step of each environment takes: about one of MuJoCo's."""


def distributed_tables(options: Options) -> list[Table]:
    """One process, one worker and two workers on the same steps, weights of 5 MB, and a simulation of 1,000 workers."""
    try:
        import ray  # noqa: F401
    except ImportError:
        return []
    steps = 40_000 if options.is_quick else 200_000
    rates = {"plain": _plain(steps)}
    sends = dict[int, float]()
    reports = 0.0
    for workers in (1, 2):
        rates[f"{workers}"], sends[workers], reports = _workers(workers, steps)
    rows = [
        ["one process, no Ray", number(rates["plain"]), "1", ""],
        ["1 worker", number(rates["1"]), at_least(rates["1"] / rates["plain"], 0.9), number(sends[1] * 1e3)],
        ["2 workers", number(rates["2"]), at_least(rates["2"] / rates["1"], 1.7), number(sends[2] * 1e3)],
    ]
    note = (
        f"CartPole at to {_STEP_S * 1e6:.0f} us a step, {_ENVS} environments a worker, random actions, to disk. "
        "Steps a second by wall time. The ratio of 1 worker is to the plain process, that of 2 workers to 1. "
        "Broadcast: 5 MB of new weights in all workers, in milliseconds."
    )
    columns = ["", "steps a second", "ratio", "broadcast, ms"]
    simulated = _simulated(rates["1"], reports, sends[1])
    return [Table("Distributed collecting", columns, rows, note), simulated]


def _make() -> Any:
    import gymnasium as gym

    class Slowed(gym.Wrapper[Any, Any, Any, Any]):
        def step(self, action: Any) -> Any:
            until = time.perf_counter() + _STEP_S
            returned = self.env.step(action)
            while time.perf_counter() < until:
                pass
            return returned

    return Slowed(gym.make("CartPole-v1"))


def _plain(steps: int) -> float:
    import gymnasium as gym

    from vecrollout import record_traces

    with tempfile.TemporaryDirectory() as directory:
        rule = {"autoreset_mode": gym.vector.AutoresetMode.SAME_STEP}
        env = record_traces(gym.vector.SyncVectorEnv([_make] * _ENVS, **rule), directory)
        env.reset(seed=0)
        acts = np.random.default_rng(0).integers(0, 2, (steps // _ENVS, _ENVS))
        begin = time.perf_counter()
        for row in acts:
            env.step(row)
        env.flush()
        elapsed = time.perf_counter() - begin
        env.close()
    return steps / elapsed


class _Random:
    """Random actions that cost as little as those of the plain process."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(0)

    def __call__(self, observations: Any, states: Any, starts: Any) -> Any:
        return self.rng.integers(0, 2, len(observations)), None

    def load(self, weights: Any) -> None:
        self.weights = weights


def _workers(workers: int, steps: int) -> tuple[float, float, float]:
    """Steps a second, seconds of a broadcast, and seconds that the driver needs for a report."""
    from vecrollout.distributed import Collector, PolicyHandle

    with tempfile.TemporaryDirectory() as directory:
        handle = PolicyHandle(_Random, _Random.load)
        handle.publish(np.zeros(1))
        with Collector(_make, Path(directory), num_workers=workers, num_envs=_ENVS, seed=0) as collector:
            collector.collect(handle, steps=_ENVS * workers)
            elapsed = _time(lambda: collector.collect(handle, steps=steps * workers))
            without = min(_time(lambda: collector.collect(handle, steps=_ENVS * workers)) for _ in range(10))
            sends = []
            for _ in range(10):
                weights = np.random.default_rng(0).bytes(_WEIGHTS)

                def send() -> None:
                    handle.publish(np.frombuffer(weights, np.uint8))  # noqa: B023  # called at once
                    collector.collect(handle, steps=_ENVS * workers)

                sends.append(_time(send) - without)
    return steps * workers / elapsed, max(min(sends), 0.0), without / workers


def _time(call: Callable[[], object]) -> float:
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def _simulated(rate: float, report_s: float, send_s: float) -> Table:
    """Workers that report to one driver every half second, from the measured costs."""
    rows = []
    for workers in (1, 10, 100, 1000):
        made, busy = _simulate(workers, rate, report_s, 0.5, 60.0)
        efficiency = made / (workers * rate * 60.0)
        rows.append(
            [
                f"{workers:,}",
                number(made / 60.0),
                at_least(efficiency, 0.9),
                at_most(busy / 60.0, 1.0),
                number(send_s * workers),
            ]
        )
    note = (
        "A simulation of a minute. Each worker is as quick as the one that was measured. The driver takes reports "
        "one after another, each for as long as a round without steps takes. What is near 1 first is what "
        "saturates first: the driver's share of the time, or the seconds of a broadcast, if the driver alone sends the "
        "weights to every machine."
    )
    columns = ["workers", "steps a second", "of ideal", "driver is busy", "broadcast, s"]
    return Table("Simulation: many workers", columns, rows, note)


def _simulate(workers: int, rate: float, report_s: float, chunk_s: float, total_s: float) -> tuple[float, float]:
    """Steps that are made, and seconds in which the driver is busy."""
    rng = np.random.default_rng(0)
    waiting = [(chunk_s * float(rng.random()), worker) for worker in range(workers)]
    heapq.heapify(waiting)
    free, busy, made = 0.0, 0.0, 0.0
    while waiting[0][0] < total_s:
        at, worker = heapq.heappop(waiting)
        begin = max(at, free)
        free = begin + report_s
        busy += report_s
        made += rate * chunk_s
        heapq.heappush(waiting, (free + chunk_s, worker))
    return made, min(busy, total_s)
